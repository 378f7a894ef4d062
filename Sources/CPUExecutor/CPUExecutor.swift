// Tandem — Apache-2.0

import CPUKernels
public import InferenceEngine
public import LanguageModel
public import Requests
import Synchronization
public import Weights

/// Runs steps on CPU cores.
///
/// A row's bits are the same in any batch, with any chunking, prefilled or decoded, and with any number of threads.
/// The object belongs to one thread at a time (the step loop), which never computes: ``submit(_:)`` hands the step to
/// the executor's own threads, and ``result(of:into:)`` sleeps until it is done.
public final class CPUExecutor: StepExecutor {
    /// How the executor uses the machine.
    public struct Options: Sendable {
        /// Arithmetic of matrix products.
        public var compute: CPUCompute
        /// Threads that compute, 1 to 1024.
        public var threads: Int
        /// How long a thread polls for work or for the others before it sleeps, in nanoseconds. Polling saves a few
        /// microseconds a stage and costs the core as long as it lasts.
        public var spinNanoseconds: UInt64
        /// A memory file in which engines share packed weights; `nil` keeps them private.
        public var weightsDescriptor: Int32?
        /// Cores for the threads, the first for thread 0 and so on, from the start again if there are fewer; `nil` leaves
        /// it to the system.
        public var cpus: [Int]?
        /// Added to the threads' niceness; above 0 others go first.
        public var niceIncrement: Int32
        /// The largest instruction set to use: 0 portable, 1 AVX2, 2 AVX-512; `nil` for the best the machine has.
        public var instructionSet: Int?
        /// Called while weights are packed, on a compute thread, with the fraction done.
        public var progress: (@Sendable (Double) -> Void)?
        /// For tests.
        var inspection: StepInspection?

        /// Options with the usual defaults.
        public init(
            compute: CPUCompute,
            threads: Int,
            spinNanoseconds: UInt64 = 30_000,
            weightsDescriptor: Int32? = nil,
            cpus: [Int]? = nil,
            niceIncrement: Int32 = 0,
            instructionSet: Int? = nil,
            progress: (@Sendable (Double) -> Void)? = nil
        ) {
            self.compute = compute
            self.threads = threads
            self.spinNanoseconds = spinNanoseconds
            self.weightsDescriptor = weightsDescriptor
            self.cpus = cpus
            self.niceIncrement = niceIncrement
            self.instructionSet = instructionSet
            self.progress = progress
        }
    }

    public let capabilities: ExecutorCapabilities
    /// Digest of the model as it runs here: weights and ablation, not the arithmetic.
    public let modelFingerprint: Digest128
    /// Bytes of the packed weights.
    public let weightBytes: Int
    /// Whether this executor packed the weights, rather than finding them in the shared file.
    public let packedWeights: Bool

    private let model: DecoderDescription
    private let compute: CPUCompute
    private let kernels: tandem_kernels
    private let packed: PackedModel
    private let pool: ComputePool
    private let inspection: StepInspection?

    private var prepared: Prepared?
    private var progress: StepProgress?
    private var inFlight: [UInt64] = []

    private struct Prepared {
        var checker: PlanChecker
        var forward: ForwardPass
        /// Steps take turns: a step's job is the one at its count modulo 2.
        var jobs: [StepJob]
        var submitted = 0
        var collected = 0
    }

    /// Packs or finds the weights and starts the threads.
    ///
    /// - Parameters:
    ///   - model: the file's description.
    ///   - file: the weights; not needed after `init`.
    ///   - options: how to run.
    /// - Throws: ``ExecutorError``: `unsupported` for a feature, a thread count or other weights in the shared file,
    ///   `outOfMemory`, `fatal` for failing system calls.
    public init(model: DecoderDescription, file: any TensorSource, options: Options) throws(ExecutorError) {
        try Self.requireSupport(model)
        guard (1...1024).contains(options.threads) else {
            throw ExecutorError(kind: .unsupported, message: "\(options.threads) threads; expected 1 to 1024")
        }
        let table = try Self.kernels(options.instructionSet)
        let layout = try PackedLayout(model: model, file: file, compute: options.compute)
        let fingerprint = ModelFingerprint.weights(model: model, file: file)
        let pool = try ComputePool(
            ComputePool.Settings(
                threads: options.threads, spinNanoseconds: options.spinNanoseconds, cpus: options.cpus,
                niceIncrement: options.niceIncrement))
        let packed: PackedModel
        do {
            let weights = try SharedWeights(
                descriptor: options.weightsDescriptor,
                identity: SharedWeights.Identity(
                    compute: options.compute, model: fingerprint, totalBytes: layout.totalBytes)
            ) { destination in
                let packer = WeightPacker(
                    model: model, file: file, layout: layout, kernels: table, destination: destination,
                    progress: options.progress)
                pool.perform { _ in packer.run() }
            }
            packed = try PackedModel(model: model, layout: layout, weights: weights, kernels: table)
        } catch {
            pool.shutdown()
            throw error
        }
        self.model = model
        self.packed = packed
        self.pool = pool
        compute = options.compute
        inspection = options.inspection
        kernels = table.pointee
        modelFingerprint = ModelFingerprint.model(weights: fingerprint, ablation: model.ablation)
        weightBytes = layout.totalBytes
        packedWeights = packed.weights.packed
        let name = String(cString: table.pointee.name)
        capabilities = ExecutorCapabilities(
            device: "cpu (\(name), \(options.compute.rawValue), \(options.threads) "
                + "\(options.threads == 1 ? "thread" : "threads"))",
            maximumStepsInFlight: 2, masks: true, pooling: true, rowInvariant: true)
    }

    deinit { pool.shutdown() }

    public func report(to progress: StepProgress) {
        self.progress = progress
    }

    public func prepare(
        limits: ExecutorLimits, groups: [KeyValueGroup]
    ) throws(ExecutorError) -> PreparedExecutor {
        guard prepared == nil else { throw ExecutorError(kind: .unsupported, message: "prepared already") }
        guard limits.blockSize == Int(TANDEM_KV_BLOCK_TOKENS) else {
            throw ExecutorError(
                kind: .unsupported,
                message: "blocks of \(limits.blockSize) tokens; the CPU's have \(TANDEM_KV_BLOCK_TOKENS)")
        }
        guard (1...65536).contains(limits.slots), (1...(1 << 20)).contains(limits.tokensPerStep) else {
            throw ExecutorError(
                kind: .unsupported,
                message:
                    "\(limits.slots) slots and \(limits.tokensPerStep) tokens a step; expected 1 to 65536 and 1 to "
                    + "\(1 << 20)")
        }
        guard (1...model.contextLength).contains(limits.contextLength) else {
            throw ExecutorError(
                kind: .unsupported,
                message: "a context of \(limits.contextLength) tokens; \(model.name) was made for 1 to "
                    + "\(model.contextLength)")
        }
        guard groups == model.kvGroups else {
            throw ExecutorError(kind: .unsupported, message: "the groups of keys and values are not the model's")
        }
        let forward = try ForwardPass(
            model: model, compute: compute, kernels: kernels, packed: packed, pool: pool, limits: limits,
            groups: groups, progress: progress, inspection: inspection)
        let blockCount = forward.keyValues.blockCount
        prepared = Prepared(
            checker: PlanChecker(
                limits: limits, vocabularySize: model.vocabularySize, groups: groups, blockCount: blockCount),
            forward: forward, jobs: [StepJob(forward: forward), StepJob(forward: forward)])
        return PreparedExecutor(blockCount: blockCount)
    }

    public func submit(_ plan: StepPlan) throws(ExecutorError) -> StepTicket {
        guard prepared != nil else { throw Self.notPrepared }
        guard inFlight.count < capabilities.maximumStepsInFlight else {
            throw ExecutorError(
                kind: .unsupported, message: "step \(plan.step): the results of \(inFlight) were not taken yet")
        }
        try prepared?.checker.accept(plan)
        if let prepared {
            let job = prepared.jobs[prepared.submitted % 2]
            job.load(plan, tileTokens: prepared.forward.tileTokens)
            pool.submit(job)
        }
        prepared?.submitted += 1
        inFlight.append(plan.step)
        return StepTicket(step: plan.step)
    }

    public func sample(_ ticket: StepTicket, masks: TokenMasks?) throws(ExecutorError) {
        guard let prepared else { throw Self.notPrepared }
        guard let place = inFlight.firstIndex(of: ticket.step) else {
            throw ExecutorError(
                kind: .unsupported, message: "step \(ticket.step) is to sample; in flight, in order: \(inFlight)")
        }
        if let masks {
            let words = (model.vocabularySize + 31) / 32
            guard masks.wordsPerSlot == words, masks.words.count == words * masks.slots.count else {
                throw ExecutorError(
                    kind: .unsupported,
                    message: "step \(ticket.step): \(masks.words.count) words are no masks of \(model.vocabularySize) "
                        + "tokens for \(masks.slots.count) slots")
            }
        }
        prepared.jobs[(prepared.collected + place) % 2].release(masks)
    }

    public func result(of ticket: StepTicket, into result: inout StepResult) throws(ExecutorError) {
        guard let prepared else { throw Self.notPrepared }
        guard inFlight.first == ticket.step else {
            throw ExecutorError(
                kind: .unsupported,
                message: "the result of step \(ticket.step) is asked for; in flight, in order: \(inFlight)")
        }
        let job = prepared.jobs[prepared.collected % 2]
        job.done.wait(whileEqual: UInt32(truncatingIfNeeded: prepared.collected / 2), spinNanoseconds: 0)
        job.collect(into: &result)
        self.prepared?.collected += 1
        inFlight.removeFirst()
    }

    public func profile() -> StepProfile {
        guard let forward = prepared?.forward else { return StepProfile() }
        let attention = forward.attentionTime.exchange(0, ordering: .relaxed)
        let mlp = forward.feedForwardTime.exchange(0, ordering: .relaxed)
        let total = forward.totalTime.exchange(0, ordering: .relaxed)
        let known = attention &+ mlp
        return StepProfile(
            steps: forward.stepCount.exchange(0, ordering: .relaxed), attention: attention, mlp: mlp,
            rest: total > known ? total - known : 0)
    }

    public func shutdown() {
        // Nobody else will let them end.
        if let prepared {
            for place in inFlight.indices { prepared.jobs[(prepared.collected + place) % 2].release(nil) }
        }
        pool.shutdown()
        prepared = nil
        inFlight = []
    }

    private static let notPrepared = ExecutorError(
        kind: .unsupported, message: "the executor was not prepared, or was shut down")

    private static func kernels(_ instructionSet: Int?) throws(ExecutorError) -> UnsafePointer<tandem_kernels> {
        guard let instructionSet else { return tandem_kernels_best() }
        guard
            (0...2).contains(instructionSet),
            let table = tandem_kernels_for(tandem_isa(rawValue: UInt32(instructionSet)))
        else {
            throw ExecutorError(
                kind: .unsupported, message: "this processor lacks the instruction set \(instructionSet)")
        }
        return table
    }

    private static func requireSupport(_ model: DecoderDescription) throws(ExecutorError) {
        func refuse(_ what: String) -> ExecutorError {
            ExecutorError(
                kind: .unsupported,
                message: "\(model.name) (\(model.architecture)): \(what) is not supported on the CPU")
        }
        for layer in model.layers {
            guard model.ropes.indices.contains(layer.rope) else { throw refuse("a layer without a rotary embedding") }
            if let window = layer.window, window < 1 { throw refuse("a window of \(window) tokens") }
        }
        guard
            model.headDimension % 16 == 0, (16...Int(TANDEM_MAX_HEAD_DIM)).contains(model.headDimension),
            model.keyValueHeads > 0, model.queryHeads % model.keyValueHeads == 0
        else {
            throw refuse(
                "a head dimension of \(model.headDimension) with \(model.queryHeads) and "
                    + "\(model.keyValueHeads) heads")
        }
        guard model.ropes.allSatisfy({ $0.dimensions == model.headDimension }) else {
            throw refuse("a partial rotary embedding")
        }
    }
}
