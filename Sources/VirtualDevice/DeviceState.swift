// Tandem — Apache-2.0

public import GPUModel
import LanguageModel

/// Decides all that a virtual device does: it plays the driver and the MPS server of one GPU for the engines that are
/// its clients. It knows no socket and no clock; times are nanoseconds of one monotonic clock, handed in.
public struct DeviceState: Sendable {
    /// What is simulated.
    public struct Settings: Sendable {
        public var device: DeviceParameters
        /// Whether kernels of several clients run at once; else they take turns in time slices.
        public var usesMPS: Bool
        /// More are refused.
        public var mostClients: Int

        /// Clients of an MPS server on GPUs since Volta (NVIDIA's documentation of MPS, "Limitations").
        public static let usualMostClients = 48

        public init(device: DeviceParameters, usesMPS: Bool, mostClients: Int = Self.usualMostClients) {
            self.device = device
            self.usesMPS = usesMPS
            self.mostClients = mostClients
        }
    }

    /// What is to be done, in order.
    public enum Effect: Sendable, Equatable {
        case send(DeviceMessage, connection: Int)
        /// The same of a step that is done. What was sent is told to ``DeviceState/delivered(_:at:)``.
        case complete(StepDone, connection: Int, Delivery)
        /// After what was sent.
        case close(connection: Int)
        case tell(DeviceNotice)
        /// A line for people.
        case log(String)
    }

    /// When a step is done, and what it took, in nanoseconds.
    public struct Delivery: Sendable, Equatable {
        public var due: UInt64
        public var duration: Double
    }

    struct Step: Sendable {
        var number: UInt64
        var program: SharedDevice.Program
        /// Seconds alone on the GPU by component.
        var attention: Double
        var mlp: Double
        var rest: Double
        var submittedAt: Double
    }

    struct Client: Sendable {
        let connection: Int
        /// Its place on the timeline.
        let place: Int
        let hello: ClientHello
        let model: StepModel
        var weightBytes: UInt64
        var usedBytes: UInt64
        var hasAllocated = false
        var steps: [Step] = []
        var lastDone = 0.0
        var isHung = false
        var slowness = 1.0
        /// It was told of an error that it does not survive.
        var isFailed = false
        var isOutOfMemory = false
        var doneCount: UInt64 = 0
    }

    /// Steps that a client may have submitted and not got back.
    static let mostStepsInFlight = 8

    public let settings: Settings
    public private(set) var lag = LagMeter()
    var clients: [Client] = []
    private var timeline: Timeline
    private let epoch: UInt64
    /// After a fatal fault under MPS, until all its clients are gone.
    private(set) var isFaulted = false
    /// It computes nothing and answers to nothing, until its process ends.
    private(set) var isWedged = false
    private var wasLate = false
    private var nextReport: UInt64
    private static let reportPeriod: UInt64 = 1_000_000_000

    public init(_ settings: Settings, at now: UInt64) {
        self.settings = settings
        epoch = now
        nextReport = now
        timeline = Timeline(
            policy: settings.usesMPS ? .leftover : .timeSliced, parameters: settings.device.sharing,
            clients: max(1, settings.mostClients))
    }

    private func seconds(_ now: UInt64) -> Double { Double(now - min(now, epoch)) / 1e9 }
    private func nanoseconds(_ time: Double) -> UInt64 { epoch + UInt64(max(0, time) * 1e9) }

    // MARK: Time

    /// When ``timePassed(at:)`` has something to do.
    public var nextDeadline: UInt64 {
        // A moment later, so that the time has come for sure, however it was rounded.
        min(nextReport, timeline.nextTime.map { nanoseconds($0) + 2 } ?? .max)
    }

    /// Reports what is done by now.
    public mutating func timePassed(at now: UInt64) -> [Effect] {
        var effects = advance(to: now)
        if now >= nextReport {
            nextReport = now + Self.reportPeriod
            lag.look(at: now)
            effects.append(.tell(.report(report(at: now))))
            effects += judgeLag(at: now)
        }
        return effects
    }

    /// Counts how late a step was told.
    public mutating func delivered(_ delivery: Delivery, at now: UInt64) {
        lag.count(due: delivery.due, delivered: now, duration: delivery.duration)
    }

    private mutating func judgeLag(at now: UInt64) -> [Effect] {
        let isLate = lag.isLate(at: now)
        defer { wasLate = isLate }
        guard isLate != wasLate else { return [] }
        let share = Self.percent(lag.share(at: now))
        return [
            .log(
                isLate
                    ? "error: it lags behind by \(share) of what steps take (limit 5 %): this machine does not keep up, and "
                        + "speeds are not those of the simulated GPU; take fewer engines, a larger model or more cores"
                    : "it keeps up again, the lag is \(share)")
        ]
    }

    static func percent(_ share: Double) -> String {
        let tenths = Int((min(share, 1e6) * 1000).rounded())
        return "\(tenths / 10).\(tenths % 10) %"
    }

    private mutating func advance(to now: UInt64) -> [Effect] {
        timeline.advance(to: seconds(now)).flatMap { complete($0) }
    }

    private mutating func complete(_ completion: SharedDevice.Completion) -> [Effect] {
        guard let index = clients.firstIndex(where: { $0.place == completion.client }),
            !clients[index].steps.isEmpty
        else { return [] }
        let step = clients[index].steps.removeFirst()
        let duration = completion.time - max(step.submittedAt, clients[index].lastDone)
        clients[index].lastDone = completion.time
        clients[index].doneCount += 1
        let alone = step.attention + step.mlp + step.rest
        let factor = alone > 0 ? duration / alone * 1e9 : 0
        return [
            .complete(
                StepDone(
                    step: step.number, attention: UInt64(step.attention * factor), mlp: UInt64(step.mlp * factor),
                    rest: UInt64(step.rest * factor)), connection: clients[index].connection,
                Delivery(due: nanoseconds(completion.time), duration: duration * 1e9))
        ]
    }

    // MARK: Clients

    /// A client says something.
    public mutating func received(_ message: ClientMessage, from connection: Int, at now: UInt64) -> [Effect] {
        var effects = advance(to: now)
        let index = clients.firstIndex { $0.connection == connection }
        switch (message, index) {
        case (.hello(let hello), nil): effects += welcome(hello, connection, at: now)
        case (.allocate(let bytes), let index?) where !clients[index].hasAllocated:
            effects += allocate(bytes, index)
        case (.submit(let step, let work), let index?)
        where clients[index].hasAllocated && clients[index].steps.count < Self.mostStepsInFlight:
            effects += submit(step, work, index, at: now)
        default:
            effects.append(contentsOf: [
                .send(
                    .failed(
                        DeviceFailure(
                            code: DeviceFailure.Code.invalidValue,
                            message: "the virtual device was told things in the wrong order")), connection: connection),
                .close(connection: connection),
            ])
            effects += gone(connection, at: now)
        }
        return effects
    }

    /// A connection is gone, and with it its client.
    public mutating func disconnected(_ connection: Int, at now: UInt64) -> [Effect] {
        advance(to: now) + gone(connection, at: now)
    }

    private mutating func gone(_ connection: Int, at now: UInt64) -> [Effect] {
        guard let index = clients.firstIndex(where: { $0.connection == connection }) else { return [] }
        let place = clients[index].place
        clients.remove(at: index)
        let effects = timeline.removeWork(of: place, at: seconds(now)).flatMap { complete($0) }
        if isFaulted, clients.allSatisfy({ !$0.isFailed }) {
            isFaulted = false
            return effects + [.log("all clients of the fatal fault are gone; new ones are let in")]
        }
        return effects
    }

    private mutating func welcome(_ hello: ClientHello, _ connection: Int, at now: UInt64) -> [Effect] {
        func refuse(_ code: UInt16, _ message: String) -> [Effect] {
            [
                .send(.failed(DeviceFailure(code: code, message: message)), connection: connection),
                .close(connection: connection),
            ]
        }
        guard !isFaulted else {
            return refuse(
                DeviceFailure.Code.serverNotReady,
                "the simulated MPS server had a fatal fault and takes nobody before its old clients are gone")
        }
        let taken = Set(clients.map(\.place))
        guard let place = (0..<settings.mostClients).first(where: { !taken.contains($0) }) else {
            return refuse(
                DeviceFailure.Code.tooManyClients,
                "the \(title) has \(clients.count) clients and takes no more: lower --engines")
        }
        let context = UInt64(settings.device.sharing.processBytes)
        guard context <= memoryBytes - min(memoryBytes, usedBytes) else {
            return refuse(
                DeviceFailure.Code.outOfMemory, outOfMemory("a context of \(ByteText.text(context))"))
        }
        let description = hello.model.description
        let memory = MemoryModel(model: description, device: settings.device)
        var client = Client(
            connection: connection, place: place, hello: hello,
            model: StepModel(model: description, device: settings.device),
            weightBytes: UInt64(max(0, memory.weightBytes)), usedBytes: context)
        client.isHung = isWedged
        clients.append(client)
        // Its place may be that of a client whose share was another.
        let effects = timeline.setShare(Double(hello.percent) / 100, client: place, at: seconds(now))
            .flatMap { complete($0) }
        return effects + [
            .send(
                .welcome(
                    DeviceWelcome(
                        name: settings.device.name, memoryBytes: memoryBytes, usesMPS: settings.usesMPS)),
                connection: connection)
        ]
    }

    /// How people call the device.
    var title: String { "simulated \(settings.device.name)" }
    var memoryBytes: UInt64 { UInt64(max(0, settings.device.memoryBytes)) }
    var usedBytes: UInt64 { clients.reduce(0) { $0 + $1.usedBytes } }

    private func outOfMemory(_ what: String) -> String {
        let others = clients.count - 1
        let whose = others == 1 ? "another client" : "\(max(0, others)) other clients"
        return "out of memory on the \(title): \(what) does not fit beside the "
            + "\(ByteText.text(usedBytes)) of \(ByteText.text(memoryBytes)) that \(whose) and this one's context "
            + "hold; lower --engines or --kv-cache-memory, or take a smaller model"
    }

    private mutating func allocate(_ keyValueBytes: UInt64, _ index: Int) -> [Effect] {
        let connection = clients[index].connection
        let (wanted, overflow) = clients[index].weightBytes.addingReportingOverflow(keyValueBytes)
        guard !overflow, wanted <= memoryBytes - min(memoryBytes, usedBytes) else {
            let weights = ByteText.text(clients[index].weightBytes)
            let message = outOfMemory("weights of \(weights) with \(ByteText.text(keyValueBytes)) of keys and values")
            return [
                .send(
                    .failed(DeviceFailure(code: DeviceFailure.Code.outOfMemory, message: message)),
                    connection: connection)
            ]
        }
        clients[index].usedBytes += wanted
        clients[index].hasAllocated = true
        return [.send(.granted(freeBytes: memoryBytes - usedBytes), connection: connection)]
    }

    private mutating func submit(_ number: UInt64, _ work: StepWork, _ index: Int, at now: UInt64) -> [Effect] {
        guard !clients[index].isFailed else { return [] }
        if clients[index].isOutOfMemory { return fail(index, .outOfMemory(title), at: now) }
        var profile = clients[index].model.profile(
            StepShape(
                decoding: work.decoding, context: work.context, prompts: work.prompts, promptLength: work.promptLength))
        if settings.usesMPS { profile = profile.addingToEachKernel(settings.device.sharing.mpsKernelSeconds) }
        if clients[index].slowness != 1 { profile = profile.scaled(by: clients[index].slowness) }
        let step = Step(
            number: number,
            program: SharedDevice.Program(
                profile, latencyOccupancy: settings.device.sharing.latencyOccupancy),
            attention: profile.seconds(of: .attention), mlp: profile.seconds(of: .feedForward),
            rest: profile.seconds(of: .rest), submittedAt: seconds(now))
        clients[index].steps.append(step)
        guard !clients[index].isHung else { return [] }
        return timeline.submit(step.program, client: clients[index].place, at: seconds(now)).flatMap { complete($0) }
    }

    // MARK: Faults

    /// Ends a client by an error.
    mutating func fail(_ index: Int, _ failure: DeviceFailure, at now: UInt64) -> [Effect] {
        let (place, connection) = (clients[index].place, clients[index].connection)
        clients[index].isFailed = true
        clients[index].steps = []
        return timeline.removeWork(of: place, at: seconds(now)).flatMap { complete($0) }
            + [.send(.failed(failure), connection: connection)]
    }

    /// Makes something fail; without an engine all clients, or of a fatal fault any.
    mutating func inject(_ fault: ControlCommand.Fault, engine: UInt32?, at now: UInt64) -> [Effect] {
        var effects = advance(to: now)
        let chosen = clients.indices.filter { engine == nil || clients[$0].hello.engine == engine }
        switch fault {
        case .fatal:
            isFaulted = settings.usesMPS && !clients.isEmpty
            // Under MPS nobody is told who did it; else it is one client's own.
            let victims = settings.usesMPS ? Array(clients.indices) : Array(chosen.prefix(1))
            for index in victims { effects += fail(index, .fatal(title, isShared: settings.usesMPS), at: now) }
        case .hang:
            isWedged = isWedged || engine == nil
            for index in chosen { effects += hang(index, at: now) }
        case .outOfMemory:
            for index in chosen { clients[index].isOutOfMemory = true }
        case .slow(let factor):
            for index in chosen { clients[index].slowness = factor }
        }
        return effects
    }

    private mutating func hang(_ index: Int, at now: UInt64) -> [Effect] {
        clients[index].isHung = true
        // Its steps stay, to go on should the fault be cleared.
        return timeline.removeWork(of: clients[index].place, at: seconds(now)).flatMap { complete($0) }
    }

    /// Takes back what was injected and can be taken back.
    mutating func clear(at now: UInt64) -> [Effect] {
        var effects = advance(to: now)
        isWedged = false
        for index in clients.indices {
            clients[index].slowness = 1
            clients[index].isOutOfMemory = false
            guard clients[index].isHung else { continue }
            clients[index].isHung = false
            for place in clients[index].steps.indices { clients[index].steps[place].submittedAt = seconds(now) }
            for step in clients[index].steps {
                effects += timeline.submit(step.program, client: clients[index].place, at: seconds(now))
                    .flatMap { complete($0) }
            }
        }
        return effects
    }

    mutating func setShare(_ percent: UInt8, engine: UInt32, at now: UInt64) -> [Effect] {
        var effects = advance(to: now)
        for client in clients where client.hello.engine == engine {
            effects += timeline.setShare(Double(percent) / 100, client: client.place, at: seconds(now))
                .flatMap { complete($0) }
        }
        return effects
    }

    /// The supervisor wants an engine's work gone before it kills the engine. A wedged device does not answer.
    public mutating func ordered(_ order: DeviceOrder, at now: UInt64) -> [Effect] {
        var effects = advance(to: now)
        guard !isWedged, case .drop(let engine) = order else { return effects }
        for index in clients.indices where clients[index].hello.engine == engine {
            effects += fail(index, .terminated(title), at: now)
        }
        return effects + [.tell(.dropped(engine: engine))]
    }

    // MARK: Reports

    /// How the device is.
    public func report(at now: UInt64) -> DeviceReport {
        DeviceReport(
            clients: UInt32(clients.count), memoryBytes: memoryBytes, usedBytes: usedBytes, steps: lag.steps,
            lagMillionths: UInt32(min(lag.share(at: now) * 1e6, 1e9)), isLate: lag.isLate(at: now),
            isFaulted: isFaulted)
    }

    /// Ends of kernels' parts that were simulated.
    var eventCount: Int { timeline.eventCount }
}

extension DeviceFailure {
    fileprivate static func fatal(_ title: String, isShared: Bool) -> DeviceFailure {
        DeviceFailure(
            code: Code.illegalAddress, concernsAll: isShared,
            message: "CUDA error 700 (illegal address) on the \(title), injected"
                + (isShared ? "; all clients of its MPS server have it" : ""))
    }

    fileprivate static func outOfMemory(_ title: String) -> DeviceFailure {
        DeviceFailure(
            code: Code.outOfMemory, message: "CUDA error 2 (out of memory) in a step on the \(title), injected")
    }

    fileprivate static func terminated(_ title: String) -> DeviceFailure {
        DeviceFailure(
            code: Code.clientTerminated, message: "the \(title) dropped this client's work, as it was told to")
    }
}

/// Byte counts for people.
enum ByteText {
    static func text(_ bytes: UInt64) -> String {
        let units: [(UInt64, String)] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        guard let (size, name) = units.first(where: { bytes >= $0.0 }) else { return "\(bytes) B" }
        let tenths = bytes / size * 10 + bytes % size * 10 / size
        return tenths % 10 == 0 ? "\(tenths / 10) \(name)" : "\(tenths / 10).\(tenths % 10) \(name)"
    }
}
