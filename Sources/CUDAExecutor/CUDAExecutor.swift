// Tandem — Apache-2.0

public import CUDADriver
import CUDAKernels
import Glibc
public import InferenceEngine
public import LanguageModel
public import Requests
public import Weights

/// Runs steps on an NVIDIA GPU: kernels of our own, matrix products of cuBLASLt.
///
/// The object belongs to one thread at a time. ``submit(_:)`` puts a step into a stream and returns; sampled tokens stay
/// on the device, where the next step finds them. Steps that only decode are replayed as graphs, one for each size.
public final class CUDAExecutor: StepExecutor {
    /// How the executor uses the GPU.
    public struct Options: Sendable {
        /// Which GPU.
        public var device: CUDADeviceSelector
        /// Where libraries and compiled kernels are looked for; see `CUDADriver`.
        public var environment: [String: String]
        /// Makes a row's bits the same in any batch and with any chunking: kernels of our own for matrix products, which
        /// are slower, and chunks computed token by token.
        public var isDeterministic = false
        /// Whether steps that only decode are replayed as graphs.
        public var usesGraphs = true
        /// Compares each of cuBLASLt's products with our own kernel's before it is used; `nil` does so under MPS.
        public var checksProducts: Bool?
        /// What computes matrix products, if rows need not be the same in any batch.
        public var products = ProductSource.fastest
        /// Every so many steps one is timed by component; 0 for none.
        public var profileInterval = 0
        /// Bytes for keys and values; 0 takes what the GPU has to give to one of ``engines``.
        public var keyValueBytes = 0
        /// Engines that share the GPU, this one included.
        public var engines = 1
        /// The engines of this one's process, if there are several.
        public var process = ProcessShare()
        /// Part of the GPU's memory that all of them may take together.
        public var memoryFraction = 0.9
        /// Asks the owner of the weights for them, once the GPU is open; may wait. `nil` loads a copy of its own.
        public var findWeights: (@Sendable () -> WeightSupply)?
        /// The model's fingerprint, by which weights of another process are known; not needed without ``findWeights``.
        public var fingerprint = Digest128(high: 0, low: 0)
        /// Takes one line for people.
        public var report: @Sendable (String) -> Void = { _ in }
        /// Called while weights are loaded, with the fraction done.
        public var progress: (@Sendable (Double) -> Void)?

        /// Options with the usual defaults.
        public init(device: CUDADeviceSelector, environment: [String: String]) {
            self.device = device
            self.environment = environment
        }
    }

    public let capabilities: ExecutorCapabilities
    /// Bytes of the weights on the device.
    public let weightBytes: Int
    /// Whether another process holds them, so that this engine loaded none.
    public var hasSharedWeights: Bool { weights.isImported }
    /// Whether the engine is a client of MPS.
    public let usesMPS: Bool

    private let session: GPUSession
    private let weights: DeviceModel
    /// For further executors of this process; see ``init(beside:options:)``.
    public let shared: SharedModel
    private let library: MatrixLibrary?
    private let options: Options
    private var prepared: PreparedSteps?
    private var progress: StepProgress?

    /// Opens the GPU and loads a model's weights.
    ///
    /// - Throws: ``ExecutorError``: `unsupported` for a machine, a GPU or a model that cannot, `outOfMemory`, `retry` if MPS
    ///   is not ready, `fatal` if the GPU failed.
    public convenience init(
        model: DecoderDescription, file: any TensorSource, options: Options
    ) throws(ExecutorError) {
        try self.init(model: model, origin: .file(file), options: options)
    }

    /// Opens the GPU with a model of made-up numbers, which are made on it: for measurements without a file.
    public convenience init(
        model: DecoderDescription, randomSeed: UInt64, options: Options
    ) throws(ExecutorError) {
        try self.init(model: model, origin: .random(seed: randomSeed), options: options)
    }

    init(model: DecoderDescription, origin: WeightOrigin, options: Options) throws(ExecutorError) {
        self.options = options
        let shape = try DeviceShape(model)
        let session: GPUSession
        let library: MatrixLibrary?
        var parts: [GreenContext] = []
        do throws(CUDAError) {
            let context = try GPUSession.context(options.device, environment: options.environment)
            if options.process.partition == .green {
                parts = try GreenContext.equalParts(of: context, count: options.process.engines)
            }
            session = try GPUSession(
                context, environment: options.environment, priority: options.process.streamPriority,
                part: parts.first)
            library =
                options.isDeterministic ? nil : try Self.library(session, options)
        } catch {
            // Whether the process goes through MPS is not known yet if that failed.
            throw ExecutorError(error, sharesContext: false)
        }
        self.session = session
        self.library = library
        usesMPS = session.device.usesMPS
        let layout = WeightLayout(model, shape: shape)
        let memory: (free: Int, total: Int)
        do throws(CUDAError) {
            memory = try session.context.memory()
        } catch {
            throw ExecutorError(error, sharesContext: session.device.usesMPS)
        }
        let imported = Self.imported(origin, layout, session.context, options)
        if imported == nil {
            try DeviceMemoryPlan.checkWeights(
                layout.byteCount, of: model, free: memory.free, total: memory.total, session.device.name)
        }
        weights = try DeviceModel(session, model: model, origin: imported ?? origin, progress: options.progress)
        weightBytes = weights.byteCount
        shared = SharedModel(session, weights, parts: parts)
        capabilities = Self.capabilities(session, library, weights, options)
    }

    /// Makes an executor beside another one of this process: with the same context, kernels and weights, and with a
    /// stream and buffers of its own.
    ///
    /// - Parameter shared: of the first one. Its part of the multiprocessors is chosen by `options.process.place`.
    public init(beside shared: SharedModel, options: Options) throws(ExecutorError) {
        self.options = options
        self.shared = shared
        weights = shared.weights
        weightBytes = shared.weights.byteCount
        usesMPS = shared.context.device.usesMPS
        do throws(CUDAError) {
            try shared.context.makeCurrent()
            let place = options.process.place
            session = try GPUSession(
                beside: shared, priority: options.process.streamPriority,
                part: shared.parts.indices.contains(place) ? shared.parts[place] : nil)
            library = options.isDeterministic ? nil : try Self.library(session, options)
        } catch {
            throw ExecutorError(error, sharesContext: shared.context.device.usesMPS)
        }
        capabilities = Self.capabilities(session, library, weights, options)
    }

    private static func capabilities(
        _ session: GPUSession, _ library: MatrixLibrary?, _ weights: DeviceModel, _ options: Options
    ) -> ExecutorCapabilities {
        let products =
            library == nil || options.products == .own ? "own products" : "cuBLASLt \(library?.version ?? 0)"
        let part = session.isPart ? ", \(session.multiprocessors) multiprocessors" : ""
        return ExecutorCapabilities(
            device: "cuda:\(session.device.index) (\(session.device.name), bf16, \(products)"
                + "\(options.isDeterministic ? ", deterministic" : "")"
                + "\(session.overlapsKernels ? ", overlapped kernels" : "")"
                + "\(session.device.usesMPS ? ", MPS" : "")\(weights.isImported ? ", shared weights" : "")\(part))",
            maximumStepsInFlight: 2, masks: true, pooling: true, rowInvariant: options.isDeterministic)
    }

    /// The weights of another process in the place of the file's, or nothing with a word about it.
    private static func imported(
        _ origin: WeightOrigin, _ layout: WeightLayout, _ context: CUDAContext, _ options: Options
    ) -> WeightOrigin? {
        guard let find = options.findWeights, case .file(let file) = origin else { return nil }
        let identity = WeightIdentity(
            model: options.fingerprint, layout: layout.digest, byteCount: layout.byteCount,
            device: context.device.uuid)
        do throws(ExecutorError) {
            switch find() {
            case .none(let reason): throw ExecutorError(kind: .unsupported, message: reason)
            case .offered(let offer, let descriptor):
                defer { if descriptor >= 0 { close(descriptor) } }
                return .imported(
                    try ImportedWeights(context, offer, descriptor: descriptor, expecting: identity), file)
            }
        } catch {
            options.report("loads weights of its own, as the shared ones cannot be used: \(error.message)")
            return nil
        }
    }

    /// cuBLASLt, or nothing with a word about it where it is missing.
    private static func library(_ session: GPUSession, _ options: Options) throws(CUDAError) -> MatrixLibrary? {
        do throws(CUDAError) {
            return try MatrixLibrary(session.context, environment: options.environment)
        } catch {
            guard error.kind == .missing || error.kind == .unsupported else { throw error }
            options.report("\(error); until then slower kernels of our own compute matrix products")
            return nil
        }
    }

    public func report(to progress: StepProgress) { self.progress = progress }

    public func prepare(
        limits: ExecutorLimits, groups: [KeyValueGroup]
    ) throws(ExecutorError) -> PreparedExecutor {
        guard prepared == nil else { throw ExecutorError(kind: .unsupported, message: "prepared already") }
        guard limits.blockSize == DeviceMemoryPlan.blockTokens else {
            throw ExecutorError(
                kind: .unsupported,
                message: "blocks of \(limits.blockSize) tokens; the GPU's have \(DeviceMemoryPlan.blockTokens)")
        }
        guard (1...65536).contains(limits.slots), (1...(1 << 20)).contains(limits.tokensPerStep) else {
            throw ExecutorError(
                kind: .unsupported,
                message: "\(limits.slots) slots and \(limits.tokensPerStep) tokens a step; expected 1 to 65536 and 1 "
                    + "to \(1 << 20)")
        }
        let model = weights.model
        guard (1...model.contextLength).contains(limits.contextLength) else {
            throw ExecutorError(
                kind: .unsupported,
                message: "a context of \(limits.contextLength) tokens; \(model.name) was made for 1 to "
                    + "\(model.contextLength)")
        }
        guard groups == model.kvGroups else {
            throw ExecutorError(kind: .unsupported, message: "the groups of keys and values are not the model's")
        }
        do throws(CUDAError) {
            // Prepared on the thread that runs steps.
            try session.context.makeCurrent()
        } catch {
            throw ExecutorError(error, sharesContext: usesMPS)
        }
        let steps = try PreparedSteps(
            session, weights, library, limits: try sized(limits, groups), groups: groups, options: options)
        prepared = steps
        return PreparedExecutor(blockCount: steps.blockCount)
    }

    /// Limits with a number of bytes for keys and values.
    private func sized(_ limits: ExecutorLimits, _ groups: [KeyValueGroup]) throws(ExecutorError) -> ExecutorLimits {
        var limits = limits
        guard limits.keyValueBytes <= 0 else { return limits }
        let memory: (free: Int, total: Int)
        do throws(CUDAError) {
            memory = try session.context.memory()
        } catch {
            throw ExecutorError(error, sharesContext: usesMPS)
        }
        limits.keyValueBytes = 1 << 50
        let plan = try DeviceMemoryPlan(model: weights.model, limits: limits, groups: groups)
        if options.process.engines > 1 || weights.isImported {
            limits.keyValueBytes = DeviceMemoryPlan.keyValueBytes(
                own: plan.fixedBytes - plan.weights, weights: weights.byteCount, isImported: weights.isImported,
                totalBytes: memory.total, freeBytes: memory.free, engines: options.engines, process: options.process,
                fraction: options.memoryFraction)
        } else {
            limits.keyValueBytes = DeviceMemoryPlan.keyValueBytes(
                fixed: plan.fixedBytes, totalBytes: memory.total, freeBytes: memory.free + weights.byteCount,
                engines: options.engines, fraction: options.memoryFraction)
        }
        guard limits.keyValueBytes > 0 else {
            throw plan.noRoom(
                freeBytes: memory.free, totalBytes: memory.total, engines: options.engines,
                fraction: options.memoryFraction)
        }
        return limits
    }

    public func submit(_ plan: StepPlan) throws(ExecutorError) -> StepTicket {
        guard let prepared else { throw Self.notPrepared }
        let ticket = try prepared.submit(plan)
        progress?.advance()
        return ticket
    }

    public func sample(_ ticket: StepTicket, masks: TokenMasks?) throws(ExecutorError) {
        guard let prepared else { throw Self.notPrepared }
        try prepared.sample(ticket, masks: masks)
    }

    public func result(of ticket: StepTicket, into result: inout StepResult) throws(ExecutorError) {
        guard let prepared else { throw Self.notPrepared }
        try prepared.result(of: ticket, into: &result)
        progress?.advance()
    }

    public func profile() -> StepProfile { prepared?.takeProfile() ?? StepProfile() }

    /// Fills the cache with numbers, for measurements that store none.
    func fillCache(seed: UInt64) throws(ExecutorError) {
        guard let prepared else { throw Self.notPrepared }
        try prepared.fillCache(seed: seed)
    }

    /// The memory that ``prepare(limits:groups:)`` planned.
    public var memoryPlan: DeviceMemoryPlan? { prepared?.plan }

    /// What measurements chose for matrix products, in words; after steps of that size.
    public var productChoices: [String] { prepared?.products.choices ?? [] }

    public func shutdown() {
        // Memory is freed with the objects; the device must not work on it any more.
        try? session.stream.synchronize()
        prepared = nil
    }

    private static let notPrepared = ExecutorError(
        kind: .unsupported, message: "the executor was not prepared, or was shut down")
}
