// Tandem — Apache-2.0

import ArgumentParser
import GPUModel
import Glibc
import JSON
import LanguageModel
import TerminalView
import Weights

/// Predicts whether several engines on one GPU pay.
struct AdviseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "advise",
        abstract: "Will several engines on one GPU pay? How many?",
        discussion: """
            Predicts; measures nothing and needs no GPU. MODEL is a Hugging Face config.json (the file, or a \
            directory with it), a GGUF file, or a name: \(modelNames).
            GPUs: \(DeviceParameters.published.map(\.name).joined(separator: ", ")). Weights and cache are counted in 16 bits.

            The answer rests on the host's time for a step: measure your engine's (wall time less GPU time) and give \
            it with --host-time. docs/advise.md explains every figure, docs/gpu-model.md how good they are.

            Example:
              tandem advise qwen2.5-1.5b --gpu h100 --context 512 --output 128 --concurrency 256
              tandem advise ./config.json --gpu h100 --context 2000 --output 300 --concurrency 512 --latency 8s --json
            """)

    private static let modelNames = BuiltInModel.all.map(\.name).joined(separator: ", ")

    @Argument(help: "What will be served.")
    var model: String

    @Option(help: "The GPU.")
    var gpu: String

    @Option(help: "Tokens of a prompt.")
    var context: Int

    @Option(help: "Tokens generated for each.")
    var output: Int

    @Option(help: "Requests in flight.")
    var concurrency: Int

    @Option(
        help: ArgumentHelp("Time from a request to its last token that must be kept: 500ms, 8s.", valueName: "time"),
        transform: AdviseCommand.seconds)
    var latency: Double?

    @Option(
        help: ArgumentHelp(
            "What a probe measured of your GPU: a file of JSON lines, or a directory.", valueName: "path"))
    var probe: String?

    @Option(help: "How many engines there shall be. (default: the best)")
    var engines: Int?

    @Option(help: "CPU cores for engines, one each.")
    var cores: Int?

    @Option(help: "Most sequences that an engine is set to run at once. (default: as many as fit)")
    var maxSequences: Int?

    @Option(
        help: ArgumentHelp("Host time of each step: 800us, 2ms. (default: 1ms, an assumption)", valueName: "time"),
        transform: AdviseCommand.seconds)
    var hostTime: Double?

    @Option(
        help: ArgumentHelp("Host time of each sequence of a step, beside that. (default: 1.1us)", valueName: "time"),
        transform: AdviseCommand.seconds)
    var hostTimePerSequence: Double?

    @Flag(help: "The engine plans a step ahead already (asynchronous scheduling).")
    var asynchronous = false

    @Flag(help: "The engines read one copy of the weights.")
    var shareWeights = false

    @Flag(help: "Print JSON.")
    var json = false

    @Flag(help: "Use no colours.")
    var noColor = false

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        let advice: Advice
        let request: AdviceRequest
        do {
            request = try self.request()
            advice = try request.advice()
        } catch let error as GPUModelError {
            throw ValidationError("\(error)")
        }
        let report = AdviceReport(request: request, advice: advice)
        if json {
            Process.write(report.json() + "\n", to: STDOUT_FILENO)
            return
        }
        let environment = Process.environment()
        let isDumb = environment["TERM"].map { $0.isEmpty || $0 == "dumb" } ?? true
        let isColoured =
            !noColor && (environment["NO_COLOR"] ?? "").isEmpty && isatty(STDOUT_FILENO) == 1 && !isDumb
        let columns = Terminal.size().map { min(max($0.columns, 40), 120) } ?? 100
        let lines = report.lines(columns: columns, glyphs: .of(environment: environment)).map { line in
            var text = isColoured ? line.coloured : line.text
            while text.last == " " { text.removeLast() }
            return text
        }
        Process.write(lines.joined(separator: "\n") + "\n", to: STDOUT_FILENO)
    }

    private func request() throws -> AdviceRequest {
        var device = try DeviceParameters.named(gpu)
        var isProbed = false
        if let probe {
            let file = try ProbeFile(path: probe)
            if let name = file.deviceName, let measured = try? DeviceParameters.named(name),
                measured.name != device.name
            {
                throw ValidationError(
                    "--probe: \(probe) was measured on \(measured.title), and --gpu names \(device.title)")
            }
            device = try device.calibrated(by: file.measurements)
            isProbed = file.measurements.contains(where: \.isOfMPS)
        }
        return AdviceRequest(
            model: try description(), device: device,
            workload: Workload(
                promptTokens: context, outputTokens: output, concurrency: concurrency, latency: latency),
            host: host, mostSequences: maxSequences, isAsynchronous: asynchronous,
            sharesWeights: shareWeights, engines: engines, cores: cores, isProbed: isProbed,
            assumesStepTime: hostTime == nil)
    }

    /// Null if nothing was measured.
    private var host: HostModel? {
        guard hostTime != nil || hostTimePerSequence != nil else { return nil }
        var host = HostModel.assumed
        if let hostTime { host.secondsPerStep = hostTime }
        if let hostTimePerSequence { host.secondsPerSequence = hostTimePerSequence }
        return host
    }

    /// The model at a path, or of a name.
    private func description() throws -> DecoderDescription {
        var status = stat()
        guard stat(model, &status) == 0 else {
            if let known = BuiltInModel.named(model) { return known.description }
            throw ValidationError(
                "\(model): neither a file nor a model that is known by name. Known: \(Self.modelNames). For another, give "
                    + "the path of its config.json or GGUF file (tandem pull ORG/NAME prints it).")
        }
        do {
            if status.st_mode & S_IFMT == S_IFDIR {
                let path = model + (model.hasSuffix("/") ? "" : "/") + "config.json"
                guard access(path, F_OK) == 0 else { return try Checkpoint(path: model).description }
                let name = model.split(separator: "/").last.map(String.init) ?? "model"
                return try ModelConfiguration(path: path).description(name: name)
            }
            guard model.lowercased().hasSuffix(".json") else { return try Checkpoint(path: model).description }
            let folder = model.split(separator: "/").dropLast().last.map(String.init)
            return try ModelConfiguration(path: model).description(name: folder ?? "model")
        } catch {
            throw ValidationError("\(error)")
        }
    }

    @Sendable private static func seconds(_ text: String) throws -> Double {
        let units: [(String, Double)] = [("us", 1e-6), ("ms", 1e-3), ("s", 1)]
        for (unit, factor) in units where text.hasSuffix(unit) {
            guard let value = Double(text.dropLast(unit.count)), value.isFinite, value > 0 else { break }
            return value * factor
        }
        throw ValidationError("it must be a time with its unit and more than zero, such as 500us, 20ms or 8s")
    }
}
