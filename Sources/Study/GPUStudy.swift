// Tandem — Apache-2.0

internal import Glibc
internal import JSON
public import LanguageModel
internal import MPS
internal import Synchronization

/// Measures decode and prefill on a real GPU: the steps of Tandem's own executor with made-up weights, without scheduler,
/// gateway and text. Engines are processes that rest while others are measured; those of one cell begin at one instant.
///
/// Used by one thread, which must live until ``end()``: workers end with it. ``stop()`` may come from any.
public final class GPUStudy: @unchecked Sendable {
    // Not checked: all but `isStopped` belongs to the thread that measures.
    public let definition: StudyDefinition
    private let models: [String: DecoderDescription]
    private let environment: [String: String]
    private var directory: String?
    private var facts: (device: String, memory: Int, isDouble: Bool)?
    private var daemon: TemporaryDaemon?
    /// Workers without MPS and under it, the first ones of each.
    private var workers: [Bool: [GPUWorkerProcess]] = [:]
    private let stopped = Atomic(false)

    /// Seconds of a window, and steps before it that do not count.
    private static let windowSeconds = 0.5
    private static let warmUp = 12
    /// Most tokens of prompts in a step, as where figures are simulated.
    private static let promptTokensPerStep = 8192
    /// Bytes of a process beside weights: its context and kernels.
    private static let contextBytes = 700_000_000.0
    /// Bytes of an engine beside its cache: workspace, activations, logits.
    private static let bufferBytes = 1_800_000_000.0
    /// Share of the memory that is used at all.
    private static let usableShare = 0.92
    private static let answerSeconds = 60

    /// - Throws: ``StudyError`` if the definition cannot be measured so.
    public init(
        definition: StudyDefinition, models: [String: DecoderDescription], environment: [String: String]
    ) throws(StudyError) {
        self.definition = definition
        self.models = models
        self.environment = environment
        func wrong(_ reason: String) -> StudyError { StudyError(subject: definition.figure, reason: reason) }
        for arm in definition.arms where arm.command != nil || arm.sharing == .cores {
            throw wrong(
                "arm \"\(arm.id)\" cannot run on a GPU; engines there are \"alone\", \"time-sliced\", \"mps\" or \"in-process\""
            )
        }
        for host in definition.hosts where host.frontEndPerRequest > 0 || host.frontEndPerPromptToken > 0 {
            throw wrong("host \"\(host.name)\" has a front end, which is not measured; leave it out")
        }
        if definition.caches.contains(.unlimited) {
            throw wrong("a real GPU's memory is limited; give \"caches\": [\"memory\"]")
        }
        for name in definition.models {
            guard let model = models[name] else { throw wrong("model \"\(name)\" is unknown") }
            guard let longest = definition.contexts.max(), longest <= model.contextLength else {
                throw wrong("contexts exceed the \(model.contextLength) tokens that \(name) was made for")
            }
        }
    }

    /// What holds of all measurements, for a header.
    public var parameters: [String: String] {
        [
            "steps": "of the executor with made-up weights; no scheduler, no gateway, no text",
            "window": "\(Self.windowSeconds) s after \(Self.warmUp) steps; all engines of a cell begin at one instant",
            "prefill": "steps of at most \(Self.promptTokensPerStep) tokens of whole prompts",
            "hosts": "assumed host times are spent waiting after each step",
            "in-process": "one thread puts a step of each engine into the GPU and takes them in turn",
            "memory":
                "\(Self.usableShare) of the GPU, less \(Self.contextBytes / 1e9) GB and the weights a process, and "
                + "\(Self.bufferBytes / 1e9) GB an engine",
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
        do throws(StudyError) {
            try measure(model, arm, &measurement)
        } catch {
            if isStopped { return nil }
            measurement.failure = "\(error)"
            // A worker that failed may hold memory, or be gone.
            endWorkers()
        }
        return isStopped ? nil : measurement
    }

    private func measure(
        _ model: DecoderDescription, _ arm: StudyArm, _ measurement: inout StudyMeasurement
    ) throws(StudyError) {
        let cell = measurement.cell
        let facts: (device: String, memory: Int, isDouble: Bool)
        if let known = self.facts { facts = known } else { facts = try askFacts() }
        let processes = arm.sharing == .inProcess ? 1 : arm.engines
        let sequences = cell.batch ?? 0
        guard cell.convention == .perEngine || sequences.isMultiple(of: arm.engines) else {
            throw StudyError(
                subject: cell.figure,
                reason: "a batch of \(sequences) cannot be split evenly over \(arm.engines) engines")
        }
        let wanted = sequences / (cell.convention == .total ? arm.engines : 1)
        guard wanted > 0 else {
            throw StudyError(subject: cell.figure, reason: "\(cell.batch ?? 0) sequences do not reach for all engines")
        }
        // Engines that share memory have equal parts; `equal` gives all arms the part of the arm that has least.
        let mostEngines = cell.cache == .equal ? (definition.arms.map(\.engines).max() ?? 1) : arm.engines
        let mostProcesses = cell.cache == .equal ? mostEngines : processes
        // Engines of one process share the weights.
        let free =
            Self.usableShare * Double(facts.memory) - 2 * Double(mostProcesses * model.parameterCount)
            - Double(mostProcesses) * Self.contextBytes - Double(mostEngines) * Self.bufferBytes
        let bytesPerEngine = free / Double(arm.engines)
        let bytesOfToken = Double(model.kvBytesPerToken(elementBytes: 2))
        let room = Int(bytesPerEngine / (bytesOfToken * Double((cell.context + 15) / 16 * 16)))
        guard facts.isDouble || room > 0 else {
            throw StudyError(
                subject: cell.model, reason: "\(mostProcesses) copies of the weights leave no memory for a sequence")
        }
        measurement.cacheTokensPerEngine = max(0, Int(bytesPerEngine / bytesOfToken))
        var batch = facts.isDouble ? wanted : min(wanted, room)
        if batch < wanted { measurement.notes.append("\(batch) of \(wanted) sequences of an engine fit") }
        measurement.sequencesPerEngine = Double(batch)
        if facts.isDouble {
            measurement.notes.append("computed by the double of the CUDA driver, of a cut model: no times of a GPU")
        }
        let host = definition.hosts.first { $0.name == cell.host }
        if cell.phase == .prefill { batch = min(batch, max(1, Self.promptTokensPerStep / cell.context)) }
        let pause = host.map { $0.secondsPerStep + $0.secondsPerSequence * Double(batch) } ?? 0
        let team = try team(processes, underMPS: arm.sharing == .mps, facts)
        defer { for worker in team { try? worker.ask { $0.member("command", "free") } } }
        func prepare(profiled: Bool) throws(StudyError) {
            for worker in profiled ? [team[0]] : team {
                try worker.ask {
                    $0.member("command", "prepare")
                    $0.member("model", cell.model)
                    $0.member("ablation", cell.ablation.rawValue)
                    $0.member("prefill", cell.phase == .prefill)
                    $0.member("batch", batch)
                    $0.member("context", cell.context)
                    $0.member("asynchronous", arm.isAsynchronous)
                    $0.member("pause_ns", Int(pause * 1e9))
                    $0.member("engines", profiled ? 1 : arm.sharing == .inProcess ? arm.engines : 1)
                    $0.member("warm_up", facts.isDouble ? 1 : Self.warmUp)
                    $0.member("profile", profiled)
                    $0.member("cut", facts.isDouble)
                }
            }
            for worker in profiled ? [team[0]] : team {
                let answer = try worker.answer(within: Self.answerSeconds, isStopped: { self.isStopped })
                guard answer["is_mps"]?.bool == (arm.sharing == .mps) else {
                    throw StudyError(
                        subject: "arm \"\(arm.id)\"",
                        reason: arm.sharing == .mps ? "a process does not go through MPS" : "a process goes through MPS"
                    )
                }
            }
        }
        func run() throws(StudyError) -> [JSONObject] {
            let start = Self.now() + 20_000_000
            for worker in team {
                try worker.ask {
                    $0.member("command", "run")
                    $0.member("seconds", facts.isDouble ? 0.01 : Self.windowSeconds)
                    $0.member("start", Int(start))
                }
            }
            var answers: [JSONObject] = []
            for worker in team {
                answers.append(try worker.answer(within: Self.answerSeconds, isStopped: { self.isStopped }))
            }
            return answers
        }
        try prepare(profiled: false)
        let answers = try run()
        let steps = answers.reduce(0.0) { $0 + ($1["steps_per_second"]?.number ?? 0) }
        measurement.stepsPerSecond = steps
        let tokens = Double(answers.first?["tokens_per_step"]?.integer ?? 0)
        if cell.phase == .prefill {
            measurement.promptTokensPerSecond = steps * tokens
        } else {
            measurement.generatedTokensPerSecond = steps * tokens
        }
        // Of several engines each knows of its own work only.
        if arm.engines == 1 {
            measurement.deviceBusyShare = answers.first.flatMap { $0["busy_share"]?.number }.map { min(1, $0) }
        }
        // Parts of a step are those of one engine alone.
        guard arm.engines == 1, arm.sharing == .alone, !arm.isAsynchronous, cell.ablation == .full else { return }
        let hostSeconds = answers.first?["host_seconds"]?.number ?? 0
        try prepare(profiled: true)
        if let parts = try run().first, let attention = parts["attention_seconds"]?.number,
            let feedForward = parts["mlp_seconds"]?.number, let rest = parts["rest_seconds"]?.number
        {
            measurement.stepTime = .init(attention: attention, feedForward: feedForward, rest: rest, host: hostSeconds)
        }
    }

    private static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    // MARK: Workers

    private func askFacts() throws(StudyError) -> (device: String, memory: Int, isDouble: Bool) {
        let worker = try worker(environment, "worker")
        workers[false] = [worker]
        try worker.ask { $0.member("command", "facts") }
        let answer = try worker.answer(within: Self.answerSeconds, isStopped: { self.isStopped })
        guard let device = answer["device"]?.string, let memory = answer["memory_bytes"]?.integer else {
            throw StudyError(subject: definition.device, reason: "the worker does not say what the GPU is")
        }
        let found = (device, Int(memory), answer["is_double"]?.bool == true)
        facts = found
        return found
    }

    private func team(
        _ count: Int, underMPS: Bool, _ facts: (device: String, memory: Int, isDouble: Bool)
    ) throws(StudyError) -> [GPUWorkerProcess] {
        let variables = underMPS ? try clientEnvironment(facts.isDouble) : environment
        while workers[underMPS, default: []].count < count {
            workers[underMPS, default: []].append(try worker(variables, underMPS ? "worker under MPS" : "worker"))
        }
        return Array(workers[underMPS, default: []].prefix(count))
    }

    private func worker(_ variables: [String: String], _ subject: String) throws(StudyError) -> GPUWorkerProcess {
        try GPUWorkerProcess(
            device: definition.device, environment: variables, log: "\(try privateDirectory())/workers.log",
            subject: subject)
    }

    /// Of processes under MPS. On the double of the driver a setting stands in the place of a daemon.
    private func clientEnvironment(_ isDouble: Bool) throws(StudyError) -> [String: String] {
        if isDouble { return environment.merging(["TANDEM_DOUBLE_MPS": "1"]) { _, new in new } }
        if let daemon { return daemon.environment }
        let base = try privateDirectory()
        do throws(MPSError) {
            let daemon = try TemporaryDaemon(base: base, environment: environment)
            self.daemon = daemon
            return daemon.environment
        } catch {
            throw StudyError(subject: "MPS", reason: "\(error); see tandem doctor")
        }
    }

    private func endWorkers() {
        for worker in workers.values.joined() { worker.stop() }
        workers = [:]
    }

    private func privateDirectory() throws(StudyError) -> String {
        if let directory { return directory }
        var template = Array("/tmp/tandem-study-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw StudyError(subject: "/tmp", reason: "takes no directory: \(String(cString: strerror(errno)))")
        }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        directory = path
        return path
    }

    // MARK: The end

    private var isStopped: Bool { stopped.load(ordering: .relaxed) }

    /// Gives up what is being measured; any thread may call it.
    public func stop() { stopped.store(true, ordering: .relaxed) }

    /// Ends all workers and the daemon. Called by the thread that measures.
    public func end() {
        endWorkers()
        daemon?.end()
        daemon = nil
        if let directory { Self.remove(directory) }
        directory = nil
    }

    /// With the logs and sockets that workers and the daemon leave.
    private static func remove(_ directory: String) {
        guard let entries = opendir(directory) else { return }
        while let entry = readdir(entries) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard name != ".", name != ".." else { continue }
            let path = "\(directory)/\(name)"
            if unlink(path) != 0 { remove(path) }
        }
        closedir(entries)
        rmdir(directory)
    }
}
