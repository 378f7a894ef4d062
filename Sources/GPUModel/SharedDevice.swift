// Tandem — Apache-2.0

/// Which kernels run when several clients have some ready.
public enum SharingPolicy: String, Sendable, Equatable, CaseIterable {
    /// All at once, each as fast as the others (max-min fair).
    case fair
    /// All at once, but SM slots go to the kernel that came first, and what it leaves to the next: MPS and streams, as
    /// an H100 was measured to do when a long prompt starved short steps.
    case leftover
    /// One client at a time, for a slice; the GPU never waits for a client that has nothing to run.
    case timeSliced
    /// Each client on SMs of its own, memory shared.
    case partitioned
}

/// A GPU that several clients share, simulated: kernels are fluids that take SM slots, tensor cores and memory in given
/// shares, and flow as fast as ``SharingPolicy`` lets them. A value: keep a copy to look ahead.
///
/// Drive it from outside: ``submit(_:client:)`` at the present, ``advance(to:)`` to a later time, which stops at the
/// first steps that complete on the way. Virtual or real time is the caller's choice.
public struct SharedDevice: Sendable {
    /// A step that is done.
    public struct Completion: Sendable, Equatable {
        public var client: Int
        /// As returned by ``submit(_:client:)``.
        public var ticket: Int
        public var time: Double
    }

    /// A stretch of a kernel.
    struct Phase {
        var seconds: Double
        var demand: Demand
    }

    /// A step cut into stretches.
    public struct Program: Sendable {
        let phases: [Phase]

        /// - Parameter latencyOccupancy: see ``SharingParameters/latencyOccupancy``.
        public init(_ profile: StepProfile, latencyOccupancy: Double) {
            var phases: [Phase] = []
            phases.reserveCapacity(2 * profile.kernelCount)
            let fixed = Demand(multiprocessors: latencyOccupancy, tensor: 0, memory: 0)
            for sequence in profile.sequences {
                for _ in 0..<sequence.repeats {
                    for kernel in sequence.kernels {
                        if kernel.fixedSeconds > 0 { phases.append(Phase(seconds: kernel.fixedSeconds, demand: fixed)) }
                        if kernel.workSeconds > 0 {
                            phases.append(Phase(seconds: kernel.workSeconds, demand: kernel.demand))
                        }
                    }
                }
            }
            self.phases = phases
        }
    }

    private struct Client {
        var queue: [(ticket: Int, phases: [Phase])] = []
        var position = 0
        /// Seconds alone that the phase still needs.
        var remaining = 0.0
        var rate = 0.0
        /// When its kernel came, as a number that grows.
        var arrival = 0
        /// Largest share of the SMs.
        var share: Double
        var demand = Demand.zero
        /// Largest rate that the share allows.
        var limit = 1.0
        /// Largest rate that those who came before leave.
        var allowed = 1.0
    }

    public let policy: SharingPolicy
    public let parameters: SharingParameters
    /// The present, in seconds.
    public private(set) var now = 0.0
    /// Phases that ended so far, for measuring the simulation.
    public private(set) var eventCount = 0
    /// Seconds for which each client had something on the GPU.
    public private(set) var busySeconds: [Double]
    /// Seconds for which any client had.
    public private(set) var workingSeconds = 0.0

    private var clients: [Client]
    /// Clients with work.
    private var active: [Int] = []
    private var ratesAreOld = true
    private var nextTicket = 0
    private var nextArrival = 0
    // Time slicing.
    private var owner = -1
    private var sliceEnd = 0.0
    private var switchEnd = 0.0

    /// - Parameter shares: of the SMs that each client may use, 1 for all; one entry a client.
    public init(policy: SharingPolicy, parameters: SharingParameters, shares: [Double]) {
        self.policy = policy
        self.parameters = parameters
        clients = shares.map { Client(share: Self.bounded($0)) }
        busySeconds = Array(repeating: 0, count: shares.count)
    }

    /// Puts a step behind what the client has submitted before.
    ///
    /// - Returns: a number by which its completion is known.
    @discardableResult
    public mutating func submit(_ program: Program, client: Int) -> Int {
        let ticket = nextTicket
        nextTicket += 1
        clients[client].queue.append((ticket, program.phases))
        if clients[client].queue.count == 1 {
            active.append(client)
            begin(client, position: 0)
            ratesAreOld = true
        }
        return ticket
    }

    /// Whether any client has work that is not done.
    public var hasWork: Bool { !active.isEmpty }

    /// Whether the client has work that is not done.
    public func isBusy(_ client: Int) -> Bool { !clients[client].queue.isEmpty }

    /// Gives a client another share of the SMs, from its next kernel on.
    public mutating func setShare(_ share: Double, client: Int) {
        clients[client].share = Self.bounded(share)
    }

    private static func bounded(_ share: Double) -> Double { min(max(share, 0.01), 1) }

    /// Forgets all work of a client, as when its process ends.
    public mutating func removeWork(of client: Int) {
        clients[client].queue.removeAll()
        active.removeAll { $0 == client }
        if owner == client { owner = -1 }
        ratesAreOld = true
    }

    /// When the next step completes if nothing else is submitted; null if none runs.
    public func nextCompletion() -> Double? {
        guard !active.isEmpty else { return nil }
        var copy = self
        return copy.advance(to: .infinity).first?.time
    }

    /// Lets time pass up to the first completions, at most to `end`.
    ///
    /// - Returns: what completed, all at the present; nothing once `end` is reached, and at once if nothing runs and
    ///   `end` is infinite.
    public mutating func advance(to end: Double) -> [Completion] {
        while true {
            // A step without kernels is done when it comes.
            let empty = completeFinished()
            if !empty.isEmpty { return empty }
            guard !active.isEmpty else {
                if end.isFinite { now = max(now, end) }
                return []
            }
            if ratesAreOld { updateRates() }
            var next = end
            for client in active where clients[client].rate > 0 {
                next = min(next, now + clients[client].remaining / clients[client].rate)
            }
            if policy == .timeSliced { next = min(next, nextSliceEvent()) }
            let elapsed = max(0, next - now)
            for client in active {
                clients[client].remaining -= elapsed * clients[client].rate
                busySeconds[client] += elapsed
            }
            workingSeconds += elapsed
            now = next
            if policy == .timeSliced { passSliceEvents() }
            // Far from zero, time itself is coarser than the rest of a phase may be.
            let tolerance = max(1e-12, 4 * now.ulp)
            for client in active where clients[client].remaining <= tolerance && clients[client].rate > 0 {
                eventCount += 1
                ratesAreOld = true
                begin(client, position: clients[client].position + 1)
            }
            let done = completeFinished()
            if !done.isEmpty { return done }
            if now >= end { return [] }
        }
    }

    // MARK: Phases

    private mutating func begin(_ client: Int, position: Int) {
        clients[client].position = position
        let phases = clients[client].queue[0].phases
        guard position < phases.count else {
            clients[client].remaining = 0
            return
        }
        let phase = phases[position]
        clients[client].remaining = phase.seconds
        clients[client].demand = phase.demand
        clients[client].limit = limit(phase.demand, share: clients[client].share)
        clients[client].arrival = nextArrival
        nextArrival += 1
    }

    private mutating func completeFinished() -> [Completion] {
        var done: [Completion] = []
        for client in active where clients[client].position >= clients[client].queue[0].phases.count {
            done.append(Completion(client: client, ticket: clients[client].queue[0].ticket, time: now))
            clients[client].queue.removeFirst()
            if !clients[client].queue.isEmpty { begin(client, position: 0) }
            ratesAreOld = true
        }
        if !done.isEmpty { active.removeAll { clients[$0].queue.isEmpty } }
        return done
    }

    /// How fast a kernel runs on a share of the SMs.
    private func limit(_ demand: Demand, share: Double) -> Double {
        guard share < 1 else { return 1 }
        var rate = 1.0
        // A fixed part is no work, and takes as long on few SMs.
        if demand.multiprocessors > share, demand.tensor > 0 || demand.memory > 0 {
            rate = share / demand.multiprocessors
        }
        if demand.memory > 0 { rate = min(rate, parameters.memoryShare(ofMultiprocessors: share) / demand.memory) }
        return rate
    }

    // MARK: Rates

    private mutating func updateRates() {
        ratesAreOld = false
        if policy == .timeSliced {
            for client in active { clients[client].rate = 0 }
            chooseOwner()
            if owner >= 0, now >= switchEnd { clients[owner].rate = clients[owner].limit }
            return
        }
        if active.count == 1 {
            clients[active[0]].rate = clients[active[0]].limit
            return
        }
        let others = Double(active.count - 1)
        switch policy {
        case .leftover: limitByArrival(slots: 1 + parameters.coResidency * others)
        case .partitioned, .fair, .timeSliced:
            for client in active { clients[client].allowed = clients[client].limit }
        }
        fill(slots: policy == .fair ? 1 + parameters.coResidency * others : .infinity)
        let slowdown = 1 / (1 + parameters.interference * others)
        for client in active { clients[client].rate *= slowdown }
    }

    /// SM slots for the kernel that came first, what is left for the next; kept as the rate that each may reach.
    private mutating func limitByArrival(slots: Double) {
        active.sort { clients[$0].arrival < clients[$1].arrival }
        var left = slots
        for client in active {
            let demand = clients[client].demand.multiprocessors
            var rate = clients[client].limit
            if demand > 0 { rate = min(rate, left / demand) }
            clients[client].allowed = rate
            left = max(0, left - rate * demand)
        }
    }

    /// Max-min fair: all rates grow alike until a resource is full or a client is at its limit, which freezes those
    /// concerned.
    private mutating func fill(slots: Double) {
        var free = Demand(multiprocessors: slots, tensor: 1, memory: 1)
        var frozen = 0
        for client in active { clients[client].rate = -1 }
        var level = 0.0
        while frozen < active.count {
            var need = Demand.zero
            var step = Double.infinity
            for client in active where clients[client].rate < 0 {
                need.multiprocessors += clients[client].demand.multiprocessors
                need.tensor += clients[client].demand.tensor
                need.memory += clients[client].demand.memory
                step = min(step, clients[client].allowed - level)
            }
            var full = (multiprocessors: false, tensor: false, memory: false)
            if need.multiprocessors > 0, need.multiprocessors * step > free.multiprocessors {
                step = max(0, free.multiprocessors) / need.multiprocessors
                full.multiprocessors = true
            }
            if need.tensor > 0, need.tensor * step > free.tensor {
                step = max(0, free.tensor) / need.tensor
                full = (false, true, false)
            }
            if need.memory > 0, need.memory * step > free.memory {
                step = max(0, free.memory) / need.memory
                full = (false, false, true)
            }
            level += step
            free.multiprocessors -= need.multiprocessors * step
            free.tensor -= need.tensor * step
            free.memory -= need.memory * step
            for client in active where clients[client].rate < 0 {
                let demand = clients[client].demand
                let isFrozen =
                    clients[client].allowed <= level + 1e-12 || (full.multiprocessors && demand.multiprocessors > 0)
                    || (full.tensor && demand.tensor > 0) || (full.memory && demand.memory > 0)
                if isFrozen {
                    clients[client].rate = level
                    frozen += 1
                }
            }
        }
    }

    // MARK: Time slices

    private mutating func chooseOwner() {
        if owner >= 0, isBusy(owner) { return }
        guard let next = nextOwner() else { return }
        switchTo(next)
    }

    /// The client with work that comes after the owner in turn.
    private func nextOwner() -> Int? {
        for offset in 1...clients.count {
            let candidate = (owner + offset) % clients.count
            if isBusy(candidate) { return candidate }
        }
        return nil
    }

    private mutating func switchTo(_ client: Int) {
        // The first context of all costs nothing, nor does one that comes back to an idle GPU.
        let cost = owner < 0 || owner == client ? 0 : parameters.switchSeconds
        owner = client
        switchEnd = now + cost
        sliceEnd = switchEnd + parameters.sliceSeconds
        ratesAreOld = true
    }

    private func nextSliceEvent() -> Double {
        if now < switchEnd { return switchEnd }
        return active.count > 1 ? max(sliceEnd, now) : .infinity
    }

    private mutating func passSliceEvents() {
        if now >= switchEnd { ratesAreOld = true }
        guard active.count > 1, now >= sliceEnd, now >= switchEnd, let next = nextOwner(), next != owner else { return }
        switchTo(next)
    }
}
