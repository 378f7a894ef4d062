// Tandem — Apache-2.0

internal import EngineLink
internal import Glibc
public import LanguageModel
public import LoadGenerator
public import NIOCore
public import Requests
internal import Synchronization

/// A model that is here to be served.
public struct StudyModel: Sendable {
    /// What `tandem serve` is told.
    public var path: String
    public var description: DecoderDescription
    /// Of its tokenizer, and the tokens that prompts are made of.
    public var fingerprint: Digest128
    public var vocabulary: [TokenID]
    /// Makes prompts for load over HTTP.
    public var text: PromptText

    public init(
        path: String, description: DecoderDescription, fingerprint: Digest128, vocabulary: [TokenID], text: PromptText
    ) {
        self.text = text
        self.path = path
        self.description = description
        self.fingerprint = fingerprint
        self.vocabulary = vocabulary
    }
}

/// Measures cells with engines that `tandem serve` runs on this machine: one server for each arm, all of whose engines
/// rest but those that are being measured. Used by one thread, which must live until ``end()``; ``stop()`` may come
/// from any.
public final class MeasuredStudy: @unchecked Sendable {
    // Not checked: all but `running` belongs to the one thread that measures; servers die with the thread that started
    // them, so that an actor, which changes threads, cannot own them.
    public let definition: StudyDefinition
    private let models: [String: StudyModel]
    private let cores: Int
    private let environment: [String: String]
    private lazy var eventLoop = makeEventLoop()
    private let makeEventLoop: @Sendable () -> any EventLoop
    private var directory: String?
    private var servers: [ServerKey: StudyServer] = [:]
    /// Why servers did not start: they are not tried again.
    private var failedStarts: [ServerKey: StudyError] = [:]
    private let running = Mutex<(run: LoadRun?, isStopped: Bool)>((nil, false))

    private struct ServerKey: Hashable {
        var model: String
        var ablation: Ablation
        var arm: String
    }

    /// Tokens that a step computes at most.
    private var tokensPerStep: Int { isOnGPU ? 2048 : 512 }
    /// Tokens that sequences of decode get where the definition says nothing.
    static let outputTokens = 32
    /// Sequences of all engines of an arm together, when serving on CPUs; on a GPU each engine has as many as a simulated
    /// one.
    private static let servedSequences = 64
    private static let servedName = "study"
    /// Bytes of a number in the cache, at most.
    private static let cacheElementBytes = 4

    /// - Parameters:
    ///   - cores: CPU cores that all engines of an arm have together.
    ///   - environment: of the servers.
    ///   - makeEventLoop: for the load; called when the first cell is measured, so that its thread knows which signals
    ///     are blocked by then.
    /// - Throws: ``StudyError`` if the definition cannot be measured here.
    public init(
        definition: StudyDefinition, models: [String: StudyModel], cores: Int, environment: [String: String],
        makeEventLoop: @escaping @Sendable () -> any EventLoop
    ) throws(StudyError) {
        self.definition = definition
        self.models = models
        self.cores = cores
        self.environment = environment
        self.makeEventLoop = makeEventLoop
        try Self.check(definition, cores: cores)
        func wrong(_ reason: String) -> StudyError { StudyError(subject: definition.figure, reason: reason) }
        for name in definition.models {
            guard let model = models[name] else { throw wrong("model \"\(name)\" is unknown") }
            let longest = (definition.contexts.max() ?? 1) + output
            guard longest <= model.description.contextLength else {
                throw wrong("\(longest) tokens exceed the \(model.description.contextLength) that \(name) was made for")
            }
        }
    }

    /// Whether a definition can be measured here, before its models are looked for.
    ///
    /// - Throws: ``StudyError`` that says what stands in the way.
    public static func check(_ definition: StudyDefinition, cores: Int) throws(StudyError) {
        func wrong(_ reason: String) -> StudyError { StudyError(subject: definition.figure, reason: reason) }
        for arm in definition.arms {
            guard arm.command == nil || definition.phase == .serving else {
                throw wrong(
                    "arm \"\(arm.id)\" has an engine that is not Tandem's, which takes load over HTTP only: its phase "
                        + "must be \"serving\"")
            }
            if definition.device.hasPrefix("cuda:") {
                try checkOnGPU(arm, wrong)
                continue
            }
            guard arm.sharing == .alone || arm.sharing == .cores else {
                throw wrong(
                    "arm \"\(arm.id)\" (\(arm.sharing.rawValue)) cannot run on the CPU; engines there are "
                        + "\"alone\" or have \"cores\" of their own. tandem study cpu is a study for this machine, "
                        + "simulated:h100 computes this one")
            }
            guard (arm.cores ?? 1) * arm.engines <= cores else {
                throw wrong("arm \"\(arm.id)\" needs \((arm.cores ?? 1) * arm.engines) cores, and there are \(cores)")
            }
        }
        if !definition.hosts.isEmpty {
            throw wrong("\"hosts\" are assumed in simulations; engines that are measured have their own")
        }
        let cache = StudyDefinition.Cache.measured(on: definition.device)
        if definition.caches != [cache] {
            throw wrong("what is measured there has \"caches\": [\"\(cache.rawValue)\"]")
        }
    }

    private static func checkOnGPU(
        _ arm: StudyArm, _ wrong: (String) -> StudyError
    ) throws(StudyError) {
        guard [.alone, .timeSliced, .mps, .inProcess].contains(arm.sharing) else {
            throw wrong(
                "arm \"\(arm.id)\" (\(arm.sharing.rawValue)) cannot run on a GPU; engines there are \"alone\", "
                    + "\"time-sliced\", \"in-process\" or under \"mps\"")
        }
    }

    private var output: Int {
        definition.phase == .prefill
            ? 1 : (definition.outputTokens > 0 ? definition.outputTokens : Self.outputTokens)
    }

    /// What holds of all measurements, for a header.
    public var parameters: [String: String] {
        if definition.phase == .serving {
            return [
                "cores": isOnGPU ? "\(cores)" : "\(cores) for all engines of an arm together",
                "load":
                    "Poisson arrivals for \(definition.arrivalSeconds ?? Self.arrivalSeconds) s, of which the first "
                    + "third does not count; over HTTP, streamed; latencies from when requests were due",
                "servers": isOnGPU
                    ? "one tandem serve an arm, started for each measurement"
                    : "one tandem serve an arm, all running, one of them under load",
            ]
        }
        return [
            "cores": "\(cores) for all engines of an arm together",
            "tokens per step": "\(tokensPerStep)",
            "tokens generated": "\(output) of each sequence",
            "tokens of prompts": "random ids, no cached prefixes, nothing guessed ahead",
            "servers": "one tandem serve an arm, all running, one of them under load",
        ]
    }

    // MARK: Measuring

    /// Measures a cell.
    ///
    /// - Returns: null if it was stopped meanwhile.
    public func measure(_ task: StudyTask) -> StudyMeasurement? {
        let cell = task.cell
        var measurement = StudyMeasurement(cell: cell, repetition: task.repetition, seed: task.seed)
        guard let model = models[cell.model], let arm = definition.arm(cell.arm) else {
            measurement.failure = "unknown model or arm"
            return measurement
        }
        do {
            if cell.phase == .serving {
                guard try measureLoad(task, arm, model, &measurement) else { return nil }
            } else {
                guard try measureBatch(task, arm, model, &measurement) else { return nil }
            }
        } catch {
            if isStopped { return nil }
            measurement.failure = "\(error)"
        }
        if measurement.failure != nil { close(cell) }
        return measurement
    }

    /// - Returns: false if it was stopped.
    private func measureBatch(
        _ task: StudyTask, _ arm: StudyArm, _ model: StudyModel, _ measurement: inout StudyMeasurement
    ) throws -> Bool {
        let cell = task.cell
        let size = (cell.batch ?? 0) * (cell.convention == .total ? 1 : arm.engines)
        guard size > 0, size % arm.engines == 0 else {
            measurement.failure = "\(size) sequences do not divide evenly among \(arm.engines) engines"
            return true
        }
        let server = try server(cell, arm, model)
        let plan = BatchPlan(
            links: server.links, fingerprint: model.fingerprint, vocabulary: model.vocabulary, size: size,
            batches: 1, inputTokens: .fixed(cell.context), outputTokens: .fixed(output), seed: Self.seed(task))
        server.forgetSamples()
        let begin = NIODeadline.now()
        guard let outcome = try observed(server, &measurement, { try load(LoadRun(plan, on: eventLoop)) }) else {
            return false
        }
        read(
            outcome, begin: begin, server.takeSamples(tokens: outcome.generatedTokens), size: size, arm, &measurement)
        return true
    }

    /// - Returns: false if it was stopped.
    private func measureLoad(
        _ task: StudyTask, _ arm: StudyArm, _ model: StudyModel, _ measurement: inout StudyMeasurement
    ) throws -> Bool {
        let server = try server(task.cell, arm, model)
        let plan = loadPlan(
            server, task.cell, arm, model.text, name: Self.servedName, seed: Self.seed(task))
        server.forgetSamples()
        let run = LoadRun(plan, on: eventLoop)
        let limit = eventLoop.scheduleTask(in: longestLoad) { run.stop() }
        defer { limit.cancel() }
        guard let outcome = try observed(server, &measurement, { try load(run) }) else { return false }
        readLoad(outcome, &measurement)
        times(server.takeSamples(tokens: outcome.generatedTokens), in: nil, &measurement)
        return true
    }

    /// Notes if the machine had other work meanwhile.
    private func observed(
        _ server: StudyServer, _ measurement: inout StudyMeasurement, _ body: () throws -> LoadOutcome?
    ) rethrows -> LoadOutcome? {
        let processes = server.processes.isEmpty ? [] : server.processes + [getpid()]
        let before = processes.isEmpty ? nil : MachineLoad(processes: processes)
        let outcome = try body()
        if let before, let after = MachineLoad(processes: processes) {
            let cores = after.otherCores(since: before)
            if cores > MachineLoad.tolerance {
                let tenths = Int((cores * 10).rounded())
                measurement.notes.append("other work took \(tenths / 10).\(tenths % 10) cores meanwhile")
            }
        }
        return outcome
    }

    /// As JSON can say it, which the load's seed must be.
    private static func seed(_ task: StudyTask) -> UInt64 { task.seed & ((1 << 53) - 1) }

    /// - Returns: null if it was stopped.
    private func load(_ run: LoadRun) throws -> LoadOutcome? {
        let mayGoOn = running.withLock { running in
            running.run = run
            return !running.isStopped
        }
        if !mayGoOn { run.stop() }
        let outcome = try run.result.wait()
        running.withLock { $0.run = nil }
        return isStopped ? nil : outcome
    }

    private func read(
        _ outcome: LoadOutcome, begin: NIODeadline, _ samples: [[StudyServer.Sample]], size: Int, _ arm: StudyArm,
        _ measurement: inout StudyMeasurement
    ) {
        measurement.completed = outcome.records.count { $0.outcome == .complete }
        measurement.failed = outcome.records.count - (measurement.completed ?? 0)
        guard outcome.fault == nil, let batch = outcome.batches.first, measurement.completed == size else {
            var reason = outcome.fault ?? "\(measurement.completed ?? 0) of \(size) sequences were completed"
            for record in outcome.records {
                guard case .failed(let why, let detail) = record.outcome else { continue }
                reason += ": \(why): \(detail)"
                break
            }
            measurement.failure = reason
            return
        }
        let seconds = { (from: UInt64, to: UInt64) in Double(to &- from) / 1e9 }
        measurement.timeToFirstToken = .init(
            outcome.records.compactMap { record in record.firstText.map { seconds(record.sent, $0) } })
        measurement.endToEnd = .init(outcome.records.map { seconds($0.sent, $0.ended) })
        measurement.interTokenLatency = .init(outcome.records.flatMap(\.gaps).map { Double($0) / 1e9 })
        measurement.sequencesPerEngine = Double(size) / Double(arm.engines)
        measurement.cacheTokensPerEngine = samples.compactMap(\.last).map { Int($0.statistics.totalBlocks) * 16 }.min()
        let length = measurement.cell.context + output
        if isOnGPU, let cache = measurement.cacheTokensPerEngine, cache < size / arm.engines * length {
            measurement.notes.append(
                "the cache holds \(cache / length) of \(size / arm.engines) sequences, others waited")
        }
        let prefill = seconds(batch.submitted, batch.prefilled)
        if prefill > 0 { measurement.promptTokensPerSecond = Double(size * measurement.cell.context) / prefill }
        if measurement.cell.phase == .decode {
            guard let rate = batch.decodeRate, batch.tokensTogether >= Self.fewestStepsTogether * size else {
                measurement.failure =
                    "the first sequence ended before all had decoded \(Self.fewestStepsTogether) tokens together; give "
                    + "more \"output_tokens\""
                return
            }
            measurement.generatedTokensPerSecond = rate
        }
        if outcome.cachedPromptTokens > 0 {
            measurement.notes.append("engines took \(outcome.cachedPromptTokens) tokens of prompts from their cache")
        }
        // Steps of prompts are not those that a cell of decode is about.
        var window: Range<NIODeadline>?
        if measurement.cell.phase == .decode {
            window =
                begin + .nanoseconds(Int64(batch.prefilled))..<begin + .nanoseconds(Int64(batch.firstEnded))
        }
        times(samples, in: window, &measurement)
    }

    /// Tokens of each sequence without which a rate says nothing.
    private static let fewestStepsTogether = 4

    /// Times by component, between what engines said at the first and the last moment that count.
    private func times(
        _ samples: [[StudyServer.Sample]], in window: Range<NIODeadline>?, _ measurement: inout StudyMeasurement
    ) {
        var sum = StudyMeasurement.StepTime(attention: 0, feedForward: 0, rest: 0, host: 0)
        var (steps, device, passed) = (0.0, 0.0, 0.0)
        var includesPrompts = false
        for samples in samples {
            guard var last = samples.last, var first = samples.first, samples.count > 1 else { return }
            if let window {
                let inside = samples.filter { window.contains($0.time) }
                if let begin = inside.first, let end = inside.last, begin.time < end.time {
                    (first, last) = (begin, end)
                } else {
                    includesPrompts = true
                }
            }
            let (a, b) = (first.statistics, last.statistics)
            guard b.steps >= a.steps else { return }
            steps += Double(b.steps &- a.steps)
            device += Double(b.times.device &- a.times.device)
            passed += Double(b.times.device &- a.times.device) + Double(b.times.gap &- a.times.gap)
            sum.attention += Double(b.times.attention &- a.times.attention)
            sum.feedForward += Double(b.times.mlp &- a.times.mlp)
            sum.rest += Double(b.times.rest &- a.times.rest)
            for phase in [\EngineTimes.schedule, \.prepare, \.sample, \.report, \.stall] {
                sum.host += Double(b.times[keyPath: phase] &- a.times[keyPath: phase])
            }
        }
        guard steps > 0 else { return }
        if includesPrompts {
            measurement.notes.append(
                "component times include the prompts and the end: decode was too short to tell them apart")
        }
        let scale = 1e-9 / steps
        measurement.stepTime = .init(
            attention: sum.attention * scale, feedForward: sum.feedForward * scale, rest: sum.rest * scale,
            host: sum.host * scale)
        if passed > 0 { measurement.deviceBusyShare = min(1, device / passed) }
    }

    // MARK: Servers

    private func server(_ cell: StudyCell, _ arm: StudyArm, _ model: StudyModel) throws(StudyError) -> StudyServer {
        let key = ServerKey(model: cell.model, ablation: cell.ablation, arm: arm.id)
        if let server = servers[key] {
            if server.isAlive { return server }
            close(cell)
        }
        if let error = failedStarts[key] { throw error }
        // A GPU's memory holds one arm at a time.
        if isOnGPU {
            for server in servers.values { server.stop() }
            servers.removeAll()
        }
        let most = definition.batches.max() ?? (isOnGPU ? ServingSimulation.slots : Self.servedSequences)
        let length = (definition.contexts.max() ?? 1) + output
        let mostEngines = definition.arms.map(\.engines).max() ?? 1
        let all = definition.conventions.contains(.perEngine) ? most * mostEngines : most
        // All arms have as much in all; a step's worth of blocks beside it, so that nothing is preempted.
        let bytesOfSequence = model.description.kvBytes(
            forSequenceOf: length + 16, tokensPerStep: tokensPerStep, elementBytes: Self.cacheElementBytes)
        let bytes = (all / arm.engines + 1) * bytesOfSequence
        var arguments = ["serve", model.path, "--engines", "\(arm.engines)", "--prompt-lookup", "0"]
        arguments += ["--ablation", cell.ablation.rawValue, "--max-model-len", "\(length + 1)"]
        arguments += ["--max-num-seqs", "\(isOnGPU ? most : all)", "--max-num-batched-tokens", "\(tokensPerStep)"]
        arguments.append(arm.isAsynchronous ? "--async-scheduling" : "--no-async-scheduling")
        if isOnGPU {
            arguments += gpuArguments(arm)
        } else {
            arguments += ["--device", "cpu", "--threads", "\(arm.cores ?? max(1, cores / arm.engines))"]
            arguments += ["--kv-cache-memory", "\(bytes)"]
        }
        if let command = arm.command { arguments = externalArguments(command, model, arm) }
        let launch = StudyServer.Launch(
            arguments: arguments + ["--port", "0", "--served-model-name", Self.servedName, "--log-level", "warning"],
            environment: environment, directory: try privateDirectory(), name: "server-\(servers.count)",
            engines: arm.engines, isExternal: arm.command != nil)
        let server: StudyServer
        do {
            server = try StudyServer(launch, subject: "arm \"\(arm.id)\"", isStopped: { self.isStopped })
        } catch {
            failedStarts[key] = error
            throw error
        }
        servers[key] = server
        if arm.command != nil { return server }
        server.observe(fingerprint: model.fingerprint, on: eventLoop)
        // The first steps of an engine are slower: pages of weights and buffers are touched for the first time.
        let warmUp = BatchPlan(
            links: server.links, fingerprint: model.fingerprint, vocabulary: model.vocabulary,
            size: arm.engines * min(most, 8), batches: 1, inputTokens: .fixed(min(length - output, 64)),
            outputTokens: .fixed(8), seed: UInt64.random(in: 0..<1 << 53))
        do {
            let outcome = try load(LoadRun(warmUp, on: eventLoop))
            _ = server.takeSamples(tokens: outcome?.generatedTokens ?? 0)
        } catch {
            throw StudyError(subject: "arm \"\(arm.id)\"", reason: "\(error)")
        }
        return server
    }

    /// For an engine that is not ours: one that `tandem serve` knows by name, or a command.
    private func externalArguments(_ command: String, _ model: StudyModel, _ arm: StudyArm) -> [String] {
        var arguments = ["serve", model.path, command.contains(" ") ? "--engine-command" : "--engine", command]
        arguments += ["--engines", "\(arm.engines)"]
        return isOnGPU ? arguments + gpuArguments(arm) : arguments
    }

    private func gpuArguments(_ arm: StudyArm) -> [String] {
        ["--device", definition.device, "--mps", arm.sharing == .mps ? "on" : "off"]
            + (arm.sharing == .inProcess ? ["--engines-per-process", "\(arm.engines)"] : [])
    }

    private var isOnGPU: Bool { definition.device.hasPrefix("cuda:") }

    private func close(_ cell: StudyCell) {
        servers.removeValue(forKey: ServerKey(model: cell.model, ablation: cell.ablation, arm: cell.arm))?.stop()
    }

    private func privateDirectory() throws(StudyError) -> String {
        if let directory { return directory }
        // Sockets' paths are short.
        var base = environment["XDG_RUNTIME_DIR"] ?? ""
        if !base.hasPrefix("/") || base.utf8.count > 40 || access(base, W_OK | X_OK) != 0 { base = "/tmp" }
        var template = Array("\(base)/tandem-study-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw StudyError(subject: base, reason: "takes no directory: \(String(cString: strerror(errno)))")
        }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        directory = path
        return path
    }

    // MARK: The end

    private var isStopped: Bool { running.withLock { $0.isStopped } }

    /// Gives up what is being measured; any thread may call it.
    public func stop() {
        running.withLock { running in
            running.isStopped = true
            running.run?.stop()
        }
    }

    /// Ends all servers. Called by the thread that measures.
    public func end() {
        for server in servers.values { server.stop() }
        servers.removeAll()
        if let directory { rmdir(directory) }
        directory = nil
    }
}

extension LoadOutcome {
    /// Tokens that engines generated for it.
    fileprivate var generatedTokens: Int { records.reduce(0) { $0 + $1.outputTokens } }
}
