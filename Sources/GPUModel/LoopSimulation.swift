// Tandem — Apache-2.0

/// An engine that runs the same step again and again.
public struct LoopClient: Sendable {
    public var profile: StepProfile
    /// Seconds of host work for each step.
    public var hostSeconds: Double
    /// Whether the host prepares a step while the GPU runs the one before.
    public var isAsynchronous: Bool
    /// Share of the SMs that it may use.
    public var share: Double

    public init(profile: StepProfile, hostSeconds: Double, isAsynchronous: Bool = false, share: Double = 1) {
        self.profile = profile
        self.hostSeconds = hostSeconds
        self.isAsynchronous = isAsynchronous
        self.share = share
    }
}

/// Loops side by side on one simulated GPU, in virtual time.
public struct LoopSimulation: Sendable {
    public var policy: SharingPolicy
    public var parameters: SharingParameters
    /// Whether one thread does the host work of all engines, as in one process with a global lock.
    public var sharesHostThread: Bool
    /// Host times vary by so much either way (uniformly), so that equal loops do not fall into step.
    public var hostVariation: Double
    /// Chooses the variation.
    public var seed: UInt64

    public init(
        policy: SharingPolicy, parameters: SharingParameters, sharesHostThread: Bool = false,
        hostVariation: Double = 0.2, seed: UInt64 = 1
    ) {
        self.policy = policy
        self.parameters = parameters
        self.sharesHostThread = sharesHostThread
        self.hostVariation = hostVariation
        self.seed = seed
    }

    /// What came out.
    public struct Outcome: Sendable, Equatable {
        /// Steps a second of each engine.
        public var stepsPerSecond: [Double]
        /// Share of the time in which the GPU had work of any engine.
        public var busyShare: Double
        /// Ends of phases that were simulated.
        public var eventCount: Int
    }

    private struct Engine {
        var program: SharedDevice.Program
        var inFlight = 0
        /// When its host is done with the next step; null while it waits for the GPU or for the host's thread.
        var hostEnd: Double?
        var waitsForThread = false
        var completed = 0
        var firstCompletion = 0.0
        var lastCompletion = 0.0
    }

    /// Runs until every engine has made `steps` steps after `warmUp` of its own.
    public func run(_ clients: [LoopClient], steps: Int = 40, warmUp: Int = 4) -> Outcome {
        var device = SharedDevice(policy: policy, parameters: parameters, shares: clients.map(\.share))
        var random = CounterRandom(seed: seed)
        var engines = clients.map {
            Engine(program: SharedDevice.Program($0.profile, latencyOccupancy: parameters.latencyOccupancy))
        }
        var threadIsBusy = false
        // A step that takes no time at all would never let time pass.
        guard zip(clients, engines).allSatisfy({ $0.hostSeconds > 0 || $0.profile.seconds > 0 || $1.inFlight > 0 })
        else { return Outcome(stepsPerSecond: clients.map { _ in .infinity }, busyShare: 0, eventCount: 0) }

        func hostWork(_ index: Int) -> Double {
            clients[index].hostSeconds * (1 + hostVariation * (2 * random.next() - 1))
        }
        func startHosts() {
            for index in engines.indices where engines[index].hostEnd == nil {
                let depth = clients[index].isAsynchronous ? 2 : 1
                guard engines[index].inFlight < depth else { continue }
                if sharesHostThread, threadIsBusy { continue }
                engines[index].hostEnd = device.now + hostWork(index)
                threadIsBusy = sharesHostThread
            }
        }

        // Engines start one after the other.
        for index in engines.indices {
            let part = (clients[index].hostSeconds + clients[index].profile.seconds) / Double(engines.count)
            engines[index].hostEnd = sharesHostThread ? nil : Double(index) * part
        }
        startHosts()
        // Bounded: with heavy imbalance the slow engine decides, and the fast one makes many steps meanwhile.
        var budget = 2000 * (steps + warmUp) * engines.count
        while budget > 0, engines.contains(where: { $0.completed < steps + warmUp }) {
            budget -= 1
            let hostEnd = engines.lazy.compactMap(\.hostEnd).min() ?? .infinity
            let done = device.advance(to: hostEnd)
            for completion in done {
                let index = completion.client
                engines[index].inFlight -= 1
                engines[index].completed += 1
                if engines[index].completed <= warmUp { engines[index].firstCompletion = completion.time }
                engines[index].lastCompletion = completion.time
            }
            for index in engines.indices {
                guard let end = engines[index].hostEnd, end <= device.now else { continue }
                engines[index].hostEnd = nil
                if sharesHostThread { threadIsBusy = false }
                device.submit(engines[index].program, client: index)
                engines[index].inFlight += 1
            }
            startHosts()
        }
        return Outcome(
            stepsPerSecond: engines.map { engine in
                let span = engine.lastCompletion - engine.firstCompletion
                return span > 0 ? Double(engine.completed - warmUp) / span : 0
            }, busyShare: device.now > 0 ? device.workingSeconds / device.now : 0, eventCount: device.eventCount)
    }
}

/// Uniform numbers from a seed (SplitMix64).
struct CounterRandom {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// At least 0, less than 1.
    mutating func next() -> Double {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return Double((mixed ^ (mixed >> 31)) >> 11) * 0x1p-53
    }
}
