// Tandem — Apache-2.0

import ArgumentParser
import CUDADriver
import Diagnosis
import GPUModel
import Glibc
import LanguageModel
import LoadGenerator
import ModelStore
import NIOPosix
import Requests
import Study
import Tokenization

/// Makes figures one after the other, each on its device, into a directory.
struct StudyDriver {
    var definitions: [StudyDefinition]
    var out: String
    var resumes: Bool
    var probe: String?
    /// Seconds after which no further measurement begins.
    var timeLimit: Double?

    /// A figure that is to be made.
    private struct Figure {
        var file: StudyFile
        var device: Device
    }

    /// - Throws: `StudyError`, before anything is written or measured as far as possible; `ExitCode`.
    func run() throws {
        // Everything is checked before the first file is made.
        let prepared = try definitions.map { ($0, try self.prepare($0)) }
        try makeDirectory(out)
        let events = ProcessEvents(processName: "tandem-study")
        var figures: [String: Figure] = [:]
        var pending: [StudyTask] = []
        var kept: [StudyMeasurement] = []
        for (definition, device) in prepared {
            let file = try StudyFile(
                path: "\(out)/\(definition.figure).jsonl", header: device.header, resumes: resumes)
            kept += file.before.measurements
            for count in device.counts where !file.before.counts.contains(where: { $0.isOfCell(of: count) }) {
                try file.append(.count(count))
            }
            let done = Set(
                file.before.measurements.map { StudyTask(cell: $0.cell, repetition: $0.repetition, seed: $0.seed) })
            let tasks = definition.tasks().filter { !done.contains($0) }
            pending += tasks
            figures[definition.figure] = Figure(file: file, device: device)
        }
        if !kept.isEmpty {
            Process.log("study: \(kept.count) measurements are there already, \(pending.count) are left")
        }
        let run = StudyRun(pending)
        let begin = Process.nanoseconds()
        let next: @Sendable (StudyRun) -> StudyTask? = { [timeLimit] run in
            if let timeLimit, Double(Process.nanoseconds() - begin) / 1e9 > timeLimit,
                run.progress.done < run.progress.total
            {
                run.stop()
            }
            return run.next()
        }
        // What is measured has the machine to itself.
        let isMeasured = prepared.contains { $0.1.header.kind == .measured }
        let threads = isMeasured ? 1 : min(max(1, Process.usableCores().count), max(1, pending.count))
        let pool = NIOThreadPool(numberOfThreads: threads)
        pool.start()
        let left = Countdown(threads)
        for _ in 0..<threads {
            pool.submit { [figures] _ in
                while let task = next(run), let figure = figures[task.cell.figure] {
                    let begin = Process.nanoseconds()
                    guard var measurement = figure.device.measure(task) else { break }
                    measurement.seconds = Double(Process.nanoseconds() - begin) / 1e9
                    do throws(StudyError) {
                        try figure.file.append(.measurement(measurement))
                    } catch {
                        run.stop(error)
                    }
                    run.finish(measurement, of: task)
                    if run.hasFinished(task.cell.figure) { figure.device.end() }
                }
                if isMeasured { for figure in figures.values { figure.device.end() } }
                if left.isLast() { events.end(with: 0) }
            }
        }
        StudyScreen(events).watch(run) { for (_, device) in prepared { device.stop() } }
        try? pool.syncShutdownGracefully()
        try finish(run, kept: kept)
    }

    private func makeDirectory(_ path: String) throws {
        if mkdir(path, 0o755) == 0 || errno == EEXIST { return }
        if errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex {
            try makeDirectory(String(path[..<slash]))
            if mkdir(path, 0o755) == 0 { return }
        }
        throw StudyError(subject: "--out \(out)", reason: "cannot be made: \(String(cString: strerror(errno)))")
    }

    private func finish(_ run: StudyRun, kept: [StudyMeasurement]) throws {
        if let error = run.error {
            Process.log("study: \(error)")
            throw ExitCode(1)
        }
        if run.isStopped {
            let progress = run.progress
            Process.log(
                "study: stopped; \(progress.done) of \(progress.total) measurements are in \(out), and the same command "
                    + "goes on with the others")
            throw ExitCode(130)
        }
        let results = try definitions.map { definition throws(StudyError) in
            try StudyFile.result(path: "\(out)/\(definition.figure).jsonl")
        }
        Process.write(StudySummary(results, out: out).text, to: STDOUT_FILENO)
        if results.contains(where: { !$0.failures.isEmpty }) { throw ExitCode(1) }
    }

    // MARK: Devices

    private struct Device {
        var header: StudyHeader
        var counts: [StudyCount] = []
        /// Null if it was stopped meanwhile.
        var measure: @Sendable (StudyTask) -> StudyMeasurement?
        /// Ends what was started for measuring, in the thread that measures.
        var end: @Sendable () -> Void = {}
        /// Gives up what is being measured.
        var stop: @Sendable () -> Void = {}
    }

    private func prepare(_ definition: StudyDefinition) throws -> Device {
        var definition = definition
        // Counts belong to no device, and are made beside what is measured on one.
        if definition.phase == .resources, !definition.device.hasPrefix("simulated:") {
            definition.device = "simulated:h100"
        }
        let parts = definition.device.split(separator: ":", maxSplits: 1).map(String.init)
        switch parts.first {
        case "simulated" where parts.count == 2: return try simulated(definition, gpu: parts[1])
        case "cpu" where parts.count == 1: return try measured(definition)
        case "cuda" where parts.count == 2:
            let isLoad = definition.phase == .serving || definition.phase == .resources
            return isLoad ? try measured(definition) : try steps(definition)
        default:
            throw StudyError(
                subject: "--device \(definition.device.prefix(40))",
                reason: "is unknown; give simulated:GPU, such as simulated:h100, cpu, or cuda:0")
        }
    }

    private func simulated(_ definition: StudyDefinition, gpu: String) throws -> Device {
        var device = try DeviceParameters.named(gpu)
        if let probe {
            let file = try ProbeFile(path: probe)
            if let name = file.deviceName, let measured = try? DeviceParameters.named(name),
                measured.name != device.name
            {
                throw StudyError(
                    subject: "--probe \(probe)",
                    reason: "was measured on \(measured.title), and --device names \(device.title)")
            }
            device = try device.calibrated(by: file.measurements)
        }
        if let arm = definition.arms.first(where: { $0.command != nil || $0.sharing == .cores }) {
            throw StudyError(
                subject: definition.figure,
                reason: "arm \"\(arm.id)\" cannot be simulated: "
                    + (arm.command == nil ? "it shares CPU cores" : "its engine is not Tandem's"))
        }
        var models: [String: DecoderDescription] = [:]
        for name in definition.models {
            guard let known = BuiltInModel.named(name) else {
                throw StudyError(
                    subject: "model \"\(name.prefix(64))\"",
                    reason: "is unknown; known: \(BuiltInModel.all.map(\.name).joined(separator: ", "))")
            }
            models[name] = known.description
        }
        let study = try SimulatedStudy(definition: definition, device: device, models: models)
        let header = StudyHeader(
            kind: .simulated, device: definition.device, deviceTitle: device.title, machine: StudyMachine.description,
            date: StudyMachine.date, version: Tandem.version, revision: StudyMachine.revision,
            parameters: study.parameters, definition: definition)
        let counts = definition.phase == .resources ? try definition.counts(models: models) : []
        return Device(header: header, counts: counts, measure: { study.measure($0) })
    }

    /// Steps on a real GPU, with made-up weights.
    private func steps(_ definition: StudyDefinition) throws -> Device {
        if probe != nil { throw StudyError(subject: "--probe", reason: "is for simulations") }
        var models: [String: DecoderDescription] = [:]
        for name in definition.models { models[name] = BuiltInModel.named(name)?.description }
        let study = try GPUStudy(definition: definition, models: models, environment: Process.environment())
        try Self.checkDevice(definition)
        let header = StudyHeader(
            kind: .measured, device: definition.device, deviceTitle: Self.title(definition.device, cores: 0),
            machine: StudyMachine.description, date: StudyMachine.date, version: Tandem.version,
            revision: StudyMachine.revision, versions: StudyMachine.versions, parameters: study.parameters,
            definition: definition)
        return Device(
            header: header, measure: { study.measure($0) }, end: { study.end() }, stop: { study.stop() })
    }

    /// Where a model of a figure is published, if it is known by its name alone.
    private static func repository(_ name: String) -> String? {
        let host = "huggingface.co/"
        guard !name.contains("/"), access(name, F_OK) != 0, !name.hasPrefix("smollm2"),
            let source = BuiltInModel.named(name)?.source, let range = source.firstRange(of: host)
        else { return nil }
        return String(source[range.upperBound...])
    }

    /// Refuses a GPU that is not there, before each of its cells fails.
    private static func checkDevice(_ definition: StudyDefinition) throws(StudyError) {
        guard definition.device.hasPrefix("cuda:") else { return }
        let name = String(definition.device.dropFirst("cuda:".count))
        guard let selector = CUDADeviceSelector(name) else {
            throw StudyError(subject: "--device \(definition.device)", reason: "names no GPU: give cuda:0 or cuda:UUID")
        }
        do throws(CUDAError) {
            try CUDADriver(environment: Process.environment()).device(selector).requireSupport()
        } catch {
            throw StudyError(subject: "--device \(definition.device)", reason: "\(error)")
        }
    }

    private static func title(_ device: String, cores: Int) -> String {
        guard device.hasPrefix("cuda:") else { return "CPU, \(cores) cores" }
        let gpu = String(device.dropFirst("cuda:".count))
        let known = MachineFacts.gpus(environment: Process.environment())
        return known?.first { "\($0.index)" == gpu || $0.uuid == gpu }?.name ?? device
    }

    private func measured(_ definition: StudyDefinition) throws -> Device {
        if probe != nil { throw StudyError(subject: "--probe", reason: "is for simulations") }
        var models: [String: StudyModel] = [:]
        if definition.phase == .resources {
            throw StudyError(subject: definition.figure, reason: "is counted, not measured; leave --device out")
        }
        let cores = Process.usableCores().count
        try MeasuredStudy.check(definition, cores: cores)
        try Self.checkDevice(definition)
        for name in definition.models {
            do {
                let path = try ModelFile.resolve(Self.repository(name) ?? name).path
                let file = try ModelFile(ModelChoice(path: path), maximumContextLength: nil)
                let tokenizer = try file.tokenizer()
                models[name] = StudyModel(
                    path: path, description: file.description, fingerprint: tokenizer.fingerprint,
                    vocabulary: (0..<TokenID(tokenizer.vocabularySize)).filter { !tokenizer.isSpecial($0) },
                    text: try PromptText(tokenizer: tokenizer, isChat: false))
            } catch {
                throw StudyError(subject: "model \"\(name.prefix(64))\"", reason: "\(error)")
            }
        }
        let study = try MeasuredStudy(
            definition: definition, models: models, cores: cores, environment: Process.environment(),
            makeEventLoop: { MultiThreadedEventLoopGroup.singleton.next() })
        let header = StudyHeader(
            kind: .measured, device: definition.device, deviceTitle: Self.title(definition.device, cores: cores),
            machine: StudyMachine.description, date: StudyMachine.date, version: Tandem.version,
            revision: StudyMachine.revision, versions: StudyMachine.versions, parameters: study.parameters,
            definition: definition)
        return Device(
            header: header, measure: { study.measure($0) }, end: { study.end() }, stop: { study.stop() })
    }
}
