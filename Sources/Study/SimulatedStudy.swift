// Tandem — Apache-2.0

public import GPUModel
internal import InferenceEngine
public import LanguageModel

/// Measures cells on a simulated GPU, in virtual time.
public struct SimulatedStudy: Sendable {
    public let definition: StudyDefinition
    public let device: DeviceParameters
    private let models: [String: DecoderDescription]
    /// Bytes of keys and values of the engines of an arm together, by model and arm; below zero if weights do not fit.
    private let cacheBytes: [String: [String: Double]]

    /// Most tokens of prompts in a step.
    static let promptTokensPerStep = 8192
    /// Steps of each engine that count, and those before them that do not.
    private static let steps = 20
    private static let warmUp = 4

    /// - Throws: ``StudyError`` if a model is unknown, or cannot be measured at all on this GPU.
    public init(
        definition: StudyDefinition, device: DeviceParameters, models: [String: DecoderDescription]
    ) throws(StudyError) {
        self.definition = definition
        self.device = device
        self.models = models
        var cacheBytes: [String: [String: Double]] = [:]
        for name in definition.models {
            guard let model = models[name] else {
                throw StudyError(subject: definition.figure, reason: "model \"\(name.prefix(64))\" is unknown")
            }
            if let context = definition.contexts.max(), context + definition.outputTokens > model.contextLength {
                throw StudyError(
                    subject: definition.figure,
                    reason: "\(context + definition.outputTokens) tokens exceed "
                        + "the \(model.contextLength) tokens that \(name) was made for; give --contexts, or "
                        + "leave the model out with --models")
            }
            guard definition.phase != .resources else { continue }
            let memory = MemoryModel(model: model, device: device)
            for arm in definition.arms {
                let processes = arm.sharing == .inProcess ? 1 : arm.engines
                let bytes = memory.cacheBytes(engines: 1, processes: processes)
                cacheBytes[name, default: [:]][arm.id] = bytes
                guard bytes < memory.sequenceBytes(tokens: 1) else { continue }
                throw StudyError(
                    subject: definition.figure,
                    reason: "\(processes) copies of \(name)'s weights (\(Self.gigabytes(memory.weightBytes)) each) "
                        + "do not fit into the \(Self.gigabytes(device.memoryBytes)) of \(device.title), which arm "
                        + "\"\(arm.id)\" needs; leave the model out with --models, or take a GPU with more memory")
            }
        }
        self.cacheBytes = cacheBytes
    }

    /// What the simulation assumes, for a header.
    public var parameters: [String: String] {
        let (sharing, product, elementwise) = (device.sharing, device.product, device.elementwise)
        func attention(_ attention: AttentionParameters) -> String {
            "\(attention.fixedSeconds * 1e6) us and \(attention.blockSeconds * 1e6) us a block, \(attention.share) of the rate"
        }
        // Two probes of a card may have the same sources, and other times.
        var parameters = [
            "products":
                "\(product.fixedSeconds * 1e6) us, \(product.tensorShare) of the FLOP/s, \(product.memoryShare) of the "
                + "bytes/s, exponent \(product.exponent)",
            "decode attention": attention(device.decodeAttention),
            "prefill attention": attention(device.prefillAttention),
            "element-wise kernels": "\(elementwise.fixedSeconds * 1e6) us, \(elementwise.memoryShare) of the bytes/s",
            "gpu": "\(device.tensorRate / 1e12) TFLOP/s, \(device.memoryRate / 1e12) TB/s, "
                + "\(device.multiprocessors) SMs, \(Self.gigabytes(device.memoryBytes))",
            "sharing": "co-residency \(sharing.coResidency), interference \(sharing.interference), latency occupancy "
                + "\(sharing.latencyOccupancy), MPS \(sharing.mpsKernelSeconds * 1e6) us a kernel, slice "
                + "\(sharing.sliceSeconds * 1e3) ms, switch \(sharing.switchSeconds * 1e3) ms, process "
                + Self.gigabytes(sharing.processBytes),
            "host": "times vary by 20 % either way, by seed",
            "steps": definition.phase == .serving
                ? "those of requests that come for \(definition.arrivalSeconds ?? 45) s; the first third does not count"
                : "\(Self.steps) of each engine, after \(Self.warmUp)",
        ]
        for (index, source) in device.sources.enumerated() { parameters["source \(index + 1)"] = source }
        return parameters
    }

    /// A measurement, with its failure if the cell is impossible.
    public func measure(_ task: StudyTask) -> StudyMeasurement {
        let cell = task.cell
        func failed(_ reason: String) -> StudyMeasurement {
            StudyMeasurement(cell: cell, repetition: task.repetition, seed: task.seed, failure: reason)
        }
        guard let full = models[cell.model], let arm = definition.arm(cell.arm) else {
            return failed("unknown model or arm")
        }
        var model = full
        model.ablation = cell.ablation
        let host =
            definition.hosts.first { $0.name == cell.host }.map {
                HostModel(
                    secondsPerStep: $0.secondsPerStep, secondsPerSequence: $0.secondsPerSequence,
                    frontEndPerRequest: $0.frontEndPerRequest, frontEndPerPromptToken: $0.frontEndPerPromptToken,
                    frontEndPerEngine: true)
            } ?? .assumed
        // What fits is decided by the whole model, so that an ablation has the same batch.
        let memory = MemoryModel(model: full, device: device)
        let bytes = bytesPerEngine(cell, arm)
        let bytesOfToken = memory.sequenceBytes(tokens: cell.context) / Double(cell.context)
        var measurement = StudyMeasurement(cell: cell, repetition: task.repetition, seed: task.seed)
        measurement.cacheTokensPerEngine = bytes.map { Int($0 / bytesOfToken) }
        let step = StepModel(model: model, device: device)
        if cell.phase == .serving {
            let engines = cell.convention == .perEngine ? Double(arm.engines) : 1
            var simulation = ServingSimulation(
                step: step, arm: arm, host: host, keyValueBytes: bytes ?? device.memoryBytes,
                promptTokens: cell.context, outputTokens: definition.outputTokens,
                requestsPerSecond: (cell.load ?? 0) * engines, seed: task.seed)
            simulation.arrivalSeconds = definition.arrivalSeconds ?? simulation.arrivalSeconds
            return simulation.measure(into: measurement)
        }
        guard let batch = cell.batch else { return failed("a cell without a batch") }
        guard cell.convention == .perEngine || batch.isMultiple(of: arm.engines) else {
            return failed("a batch of \(batch) cannot be split evenly over \(arm.engines) engines")
        }
        let wanted = cell.convention == .total ? Double(batch / arm.engines) : Double(batch)
        let fitting = bytes.map { Double(Int($0 / memory.sequenceBytes(tokens: cell.context))) } ?? wanted
        guard fitting >= 1 else {
            return failed(
                "no sequence of \(cell.context) tokens fits beside \(arm.engines) engines: the cache of each has "
                    + "\(Self.gigabytes(bytes ?? 0))")
        }
        let running = min(wanted, fitting)
        if running < wanted { measurement.notes.append("the cache holds \(Int(running)) of \(Int(wanted)) sequences") }
        var shape = StepShape(decoding: running, context: Double(cell.context))
        if cell.phase == .prefill {
            let prompts = min(running, Double(Self.promptTokensPerStep) / Double(cell.context))
            shape = StepShape(prompts: prompts, promptLength: Double(cell.context))
        }
        loop(step.profile(shape), shape, arm, host, task.seed, &measurement)
        measurement.sequencesPerEngine = running
        return measurement
    }

    /// Equal steps one after the other.
    private func loop(
        _ alone: GPUModel.StepProfile, _ shape: StepShape, _ arm: StudyArm, _ host: HostModel, _ seed: UInt64,
        _ measurement: inout StudyMeasurement
    ) {
        let profile =
            arm.sharing == .mps ? alone.addingToEachKernel(device.sharing.mpsKernelSeconds) : alone
        let hostSeconds = host.seconds(sequences: shape.sequences)
        let client = LoopClient(profile: profile, hostSeconds: hostSeconds, isAsynchronous: arm.isAsynchronous)
        let outcome = LoopSimulation(
            policy: arm.sharing.policy, parameters: device.sharing, sharesHostThread: arm.sharing == .inProcess,
            seed: seed
        ).run(Array(repeating: client, count: arm.engines), steps: Self.steps, warmUp: Self.warmUp)
        var steps = outcome.stepsPerSecond.reduce(0, +)
        var busy = outcome.busyShare
        let frontEnd = host.frontEndSeconds(promptTokens: Double(measurement.cell.context)) * shape.prompts
        // Engines of one process have one front end, as they have one thread for their hosts.
        let most = (arm.sharing == .inProcess ? 1 : Double(arm.engines)) / frontEnd
        if frontEnd > 0, steps > most {
            busy *= most / steps
            steps = most
            measurement.notes.append("limited by the front end")
        }
        measurement.stepsPerSecond = steps
        if measurement.cell.phase == .prefill {
            measurement.promptTokensPerSecond = steps * shape.rows
        } else {
            measurement.generatedTokensPerSecond = steps * shape.decoding
        }
        measurement.deviceBusyShare = min(1, busy)
        measurement.stepTime = StudyMeasurement.StepTime(
            attention: profile.seconds(of: .attention), feedForward: profile.seconds(of: .feedForward),
            rest: profile.seconds(of: .rest), host: hostSeconds)
    }

    /// Null for no limit.
    private func bytesPerEngine(_ cell: StudyCell, _ arm: StudyArm) -> Double? {
        let all = cacheBytes[cell.model] ?? [:]
        switch cell.cache {
        case .unlimited: return nil
        case .memory: return (all[arm.id] ?? 0) / Double(arm.engines)
        case .equal: return (all.values.min() ?? 0) / Double(arm.engines)
        }
    }

    static func gigabytes(_ bytes: Double) -> String {
        let tenths = Int((bytes / 1_073_741_824 * 10).rounded())
        return "\(tenths / 10).\(abs(tenths % 10)) GiB"
    }
}

extension StudyArm.Sharing {
    /// How the simulated GPU is shared.
    var policy: SharingPolicy {
        switch self {
        case .timeSliced: .timeSliced
        case .mps: .leftover
        case .alone, .inProcess, .cores: .fair
        }
    }
}
