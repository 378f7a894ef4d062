// Tandem — Apache-2.0

public import InferenceEngine
public import LanguageModel
public import Requests
public import VirtualDevice

/// The device of an executor: a virtual device's process, or a stand-in of tests.
public protocol SimulatedDeviceLink: AnyObject {
    func send(_ message: ClientMessage) throws(DeviceProtocolError)
    /// Waits for the next message.
    func receive() throws(DeviceProtocolError) -> DeviceMessage
}

extension DeviceConnection: SimulatedDeviceLink {}

/// Runs steps on a simulated GPU: a ``VirtualDevice`` says when they are done, a hash says what comes out.
///
/// The tokens mean nothing, but they are exact: the same in any batch, with any chunking, from the prefix cache, on any
/// engine; they depend on every token before them. Penalties have no effect, and biases only where they rule a token
/// in or out.
public final class SimulatedExecutor: StepExecutor {
    /// How the executor uses the device.
    public struct Options: Sendable {
        /// Number of the engine, by which people know it on the device.
        public var engine: UInt32
        public var pid: Int32
        /// Share of the multiprocessors, in percent.
        public var percent: UInt8
        /// Tokens of the vocabulary.
        public var vocabularySize: Int
        /// Numbers in a pooled vector.
        public var vectorSize: Int

        public init(engine: UInt32, pid: Int32, percent: UInt8 = 100, vocabularySize: Int, vectorSize: Int) {
            self.engine = engine
            self.pid = pid
            self.percent = percent
            self.vocabularySize = vocabularySize
            self.vectorSize = vectorSize
        }
    }

    public let capabilities: ExecutorCapabilities
    /// Digest of what the output depends on; it is no real model's.
    public let modelFingerprint: Digest128

    private let link: any SimulatedDeviceLink
    private let options: Options
    private let model: HashModel
    /// Whose time and memory are simulated.
    private let timed: DecoderDescription
    private var cache: HashCache?
    private var progress: StepProgress?
    private var jobs = [Job(), Job()]
    /// Jobs in flight, in order; at most two.
    private var inFlight: [Int] = []
    private var profileSum = StepProfile()

    private struct Job {
        var plan = StepPlan()
        var result = StepResult()
        var isSampled = false
    }

    /// Says hello to a device.
    ///
    /// - Parameters:
    ///   - timed: the model whose time and memory are simulated.
    ///   - link: a connection on which nothing was said yet; nobody else uses it.
    /// - Throws: ``ExecutorError`` if the device does not take the client.
    public init(
        timed: DecoderDescription, options: Options, link: any SimulatedDeviceLink
    ) throws(ExecutorError) {
        guard let clientModel = ClientModel(timed), options.vocabularySize > 0 else {
            throw ExecutorError(kind: .unsupported, message: "\(timed.name) is too large for a virtual device")
        }
        self.timed = timed
        self.options = options
        self.link = link
        model = HashModel(vocabularySize: options.vocabularySize)
        let hello = ClientHello(
            pid: options.pid, engine: options.engine, percent: options.percent, model: clientModel)
        guard
            case .welcome(let welcome) = try Self.ask(.hello(hello), link)
        else { throw Self.unexpected }
        let sharing = welcome.usesMPS ? "MPS" : "time slices"
        capabilities = ExecutorCapabilities(
            device: "simulated \(welcome.name) (\(timed.name), \(sharing))", maximumStepsInFlight: 2, masks: true,
            pooling: true, rowInvariant: true)
        var hash = StableHash(seed: 0x7369_6D75_6C61_7465)
        hash.combine(UInt64(options.vocabularySize))
        for group in timed.kvGroups { hash.combine(UInt64(group.window ?? 0)) }
        hash.combine(bytes: timed.ablation.rawValue.utf8)
        modelFingerprint = hash.digest()
    }

    private static func ask(
        _ message: ClientMessage, _ link: any SimulatedDeviceLink
    ) throws(ExecutorError) -> DeviceMessage {
        let answer: DeviceMessage
        do throws(DeviceProtocolError) {
            try link.send(message)
            answer = try link.receive()
        } catch {
            throw Self.error(error)
        }
        guard case .failed(let failure) = answer else { return answer }
        guard failure.code == DeviceFailure.Code.outOfMemory else { throw Self.error(failure) }
        throw ExecutorError(kind: .outOfMemory, message: failure.message)
    }

    private static let unexpected = ExecutorError(
        kind: .fatal, message: "the virtual device answered something else than it was asked")

    /// What is left of a device whose process is gone concerns all its engines.
    private static func error(_ problem: DeviceProtocolError) -> ExecutorError {
        ExecutorError(kind: .fatal, message: problem.description, concernsAll: true)
    }

    private static func error(_ failure: DeviceFailure) -> ExecutorError {
        ExecutorError(kind: .fatal, message: failure.message, concernsAll: failure.concernsAll)
    }

    public func report(to progress: StepProgress) {
        self.progress = progress
    }

    public func prepare(
        limits: ExecutorLimits, groups: [KeyValueGroup]
    ) throws(ExecutorError) -> PreparedExecutor {
        guard cache == nil else { throw ExecutorError(kind: .unsupported, message: "prepared already") }
        guard groups == timed.kvGroups, let layers = groups.first?.layers.count else {
            throw ExecutorError(kind: .unsupported, message: "the groups of keys and values are not the model's")
        }
        let blockBytes = limits.blockSize * 2 * timed.keyValueHeads * timed.headDimension * 2 * layers
        let blockCount = min(limits.keyValueBytes / max(1, blockBytes), Int(Int32.max))
        guard blockCount > 0, limits.slots > 0, limits.blockSize > 0 else {
            throw ExecutorError(
                kind: .outOfMemory,
                message: "\(limits.keyValueBytes) bytes for keys and values are less than a block of \(blockBytes)")
        }
        guard case .granted = try Self.ask(.allocate(keyValueBytes: UInt64(limits.keyValueBytes)), link) else {
            throw Self.unexpected
        }
        cache = HashCache(limits: limits, groups: groups, blockCount: blockCount)
        return PreparedExecutor(blockCount: blockCount)
    }

    public func submit(_ plan: StepPlan) throws(ExecutorError) -> StepTicket {
        guard cache != nil else { throw Self.notPrepared }
        guard inFlight.count < capabilities.maximumStepsInFlight, plan.embeddingSpans.isEmpty,
            plan.bidirectionalSpans.isEmpty
        else {
            throw ExecutorError(
                kind: .unsupported,
                message: "step \(plan.step) was refused: too many steps in flight, or spans, which are not simulated")
        }
        let index = inFlight.first.map { 1 - $0 } ?? 0
        jobs[index].plan.take(plan)
        jobs[index].isSampled = false
        do throws(DeviceProtocolError) {
            try link.send(.submit(step: plan.step, work: plan.work))
        } catch {
            throw lastWords(after: error)
        }
        inFlight.append(index)
        progress?.advance()
        return StepTicket(step: plan.step)
    }

    /// A device that closed the connection may have said why before.
    private func lastWords(after problem: DeviceProtocolError) -> ExecutorError {
        while let message = try? link.receive() {
            if case .failed(let failure) = message { return Self.error(failure) }
        }
        return Self.error(problem)
    }

    public func sample(_ ticket: StepTicket, masks: TokenMasks?) throws(ExecutorError) {
        guard let place = inFlight.firstIndex(where: { jobs[$0].plan.step == ticket.step }) else {
            throw ExecutorError(kind: .unsupported, message: "step \(ticket.step) is to sample and is not in flight")
        }
        guard place == 0 || jobs[inFlight[0]].isSampled else {
            throw ExecutorError(
                kind: .unsupported, message: "step \(ticket.step) is to sample before the one that precedes it")
        }
        if let masks {
            let words = (options.vocabularySize + 31) / 32
            guard masks.wordsPerSlot == words, masks.words.count == words * masks.slots.count else {
                throw ExecutorError(
                    kind: .unsupported, message: "step \(ticket.step): the masks are not the vocabulary's")
            }
        }
        let index = inFlight[place]
        guard !jobs[index].isSampled else { return }
        try cache?.apply(jobs[index].plan)
        cache?.run(
            jobs[index].plan, masks: masks, model: model, width: options.vectorSize, into: &jobs[index].result)
        jobs[index].isSampled = true
    }

    public func result(of ticket: StepTicket, into result: inout StepResult) throws(ExecutorError) {
        guard let index = inFlight.first, jobs[index].plan.step == ticket.step, jobs[index].isSampled else {
            throw ExecutorError(
                kind: .unsupported, message: "the result of step \(ticket.step) is asked for, which is not the oldest")
        }
        let done = try waitForStep(ticket.step)
        progress?.advance()
        profileSum.steps &+= 1
        profileSum.attention &+= done.attention
        profileSum.mlp &+= done.mlp
        profileSum.rest &+= done.rest
        swap(&result, &jobs[index].result)
        inFlight.removeFirst()
    }

    private func waitForStep(_ step: UInt64) throws(ExecutorError) -> StepDone {
        let message: DeviceMessage
        do throws(DeviceProtocolError) {
            message = try link.receive()
        } catch {
            throw Self.error(error)
        }
        switch message {
        case .done(let done) where done.step == step: return done
        case .failed(let failure): throw Self.error(failure)
        default: throw Self.unexpected
        }
    }

    public func profile() -> StepProfile {
        defer { profileSum = StepProfile() }
        return profileSum
    }

    public func shutdown() {
        cache = nil
        inFlight = []
    }

    private static let notPrepared = ExecutorError(
        kind: .unsupported, message: "the executor was not prepared, or was shut down")
}
