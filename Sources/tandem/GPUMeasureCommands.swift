// Tandem — Apache-2.0

import ArgumentParser
import CUDADriver
import CUDAExecutor
import Configuration
import GPUModel
import Glibc
import InferenceEngine
import JSON
import LanguageModel

/// The times of kernels and products at the shapes of models.
struct GPUKernelsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernels", abstract: "How fast are copies, products, attention, norms and sampling?",
        discussion: """
            With --predict nothing is run and no GPU is needed: the model says what each should take.

            Example:
              tandem gpu kernels --output kernels.jsonl
              tandem gpu kernels --predict h100 --measured kernels.jsonl
            """)

    @OptionGroup var flags: GPUFlags

    @Option(help: ArgumentHelp("Models whose shapes are measured, by built-in names.", valueName: "names"))
    var models = "qwen2.5-0.5b,qwen2.5-1.5b,qwen2.5-3b"

    @Flag(help: "Few sizes and few repetitions, as for a check on a machine without a GPU.")
    var quick = false

    @Option(help: ArgumentHelp("Predict for a known GPU, such as h100, instead of measuring.", valueName: "gpu"))
    var predict: String?

    @Option(
        help: ArgumentHelp("With --predict: what --output wrote on such a GPU, to compare with.", valueName: "path"))
    var measured: String?

    private func chosenModels() throws -> [(name: String, description: DecoderDescription)] {
        try models.split(separator: ",").map(String.init).map { name in
            guard let model = BuiltInModel.named(name)?.description else {
                throw ValidationError("\(name) is no built-in model; tandem advise --help lists them")
            }
            return (name, model)
        }
    }

    func run() throws {
        if let predict {
            try GPUPredictions(device: predict, file: measured).tell(models: try chosenModels(), flags: flags)
            return
        }
        guard measured == nil else { throw ValidationError("--measured is for --predict") }
        let environment = Process.environment()
        let chosen = try chosenModels()
        let session = try GPUSession(try flags.selector(), environment: environment)
        let times = try GPUTimes(session, environment: environment, repetitions: quick ? 1 : 20)
        var rows: [[String]] = [["kernel", "sizes", "us", "GB/s", "TFLOP/s", "of copy", "error"]]
        let copy = try times.copy(bytes: quick ? 1 << 20 : 1 << 30)
        let ceiling = copy.gigabytesPerSecond
        func tell(_ row: GPUTimes.Row, model: String = "") {
            let sizes = row.sizes.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
            rows.append([
                (model.isEmpty ? "" : model + " ") + row.name, sizes, TableText.number(row.seconds * 1e6),
                row.bytes > 0 ? TableText.number(row.gigabytesPerSecond, 0) : "",
                row.operations > 0 ? TableText.number(row.teraflops, 0) : "",
                row.bytes > 0 && ceiling > 0 ? TableText.number(100 * row.gigabytesPerSecond / ceiling, 0) + " %" : "",
                row.error.map { TableText.number($0, 4) } ?? "",
            ])
            flags.add {
                $0.field("phase", "kernels")
                $0.field("kernel", row.name)
                if !model.isEmpty { $0.field("model", model) }
                for (key, value) in row.sizes { $0.field(key, value) }
                $0.field("us", row.seconds * 1e6)
                if row.bytes > 0 { $0.field("gigabytes_per_second", row.gigabytesPerSecond) }
                if row.operations > 0 { $0.field("teraflops", row.teraflops) }
                if let error = row.error { $0.field("error", error) }
            }
        }
        tell(copy)
        var isWhole = true
        do {
            for row in try times.nodes(count: quick ? 4 : 64) { tell(row) }
        } catch {
            isWhole = false
            Process.log("nodes of graphs: \(error)")
            flags.add {
                $0.field("phase", "kernels")
                $0.field("failure", "nodes of graphs: \(error)")
            }
        }
        for (name, model) in chosen {
            do {
                try measure(model, name: name, times) { tell($0, model: name) }
            } catch {
                isWhole = false
                Process.log("\(name): \(error)")
                flags.add {
                    $0.field("phase", "kernels")
                    $0.field("model", name)
                    $0.field("failure", "\(error)")
                }
            }
        }
        Process.write(TableText.table(rows), to: STDOUT_FILENO)
        if !isWhole { throw ExitCode(1) }
    }

    private func measure(
        _ model: DecoderDescription, name: String, _ times: GPUTimes, _ tell: (GPUTimes.Row) -> Void
    ) throws {
        for rows in quick ? [16] : KernelShapes.rows {
            for (outputs, inputs) in quick ? [(outputs: 256, inputs: 128)] : KernelShapes.products(model) {
                for row in try times.product(rows: rows, outputs: outputs, inputs: inputs) { tell(row) }
            }
            for row in try times.gatedProduct(
                rows: rows, intermediate: quick ? 128 : model.intermediateSize, inputs: quick ? 128 : model.hiddenSize)
            { tell(row) }
            for row in try times.rowKernels(model, rows: rows) { tell(row) }
        }
        for (batch, context) in quick ? [(batch: 4, context: 64)] : KernelShapes.decode {
            for row in try times.decodeAttention(model, batch: batch, context: context) { tell(row) }
        }
        for (prompts, tokens) in quick ? [(prompts: 1, tokens: 64)] : KernelShapes.prefill {
            for row in try times.prefillAttention(model, prompts: prompts, tokens: tokens) { tell(row) }
        }
    }
}

/// Steps of one size, one after the other.
struct GPULoopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "loop",
        abstract: "Run steps of one size with made-up weights and print their rate.",
        discussion: """
            Start several with the same --start-at to measure what they cost each other; --engines runs several in this
            process, which share the weights and have a thread each.

            Example:
              tandem gpu loop --model qwen2.5-0.5b --batch 512 --context 128 --seconds 5 --windows 3
              tandem gpu loop --model qwen2.5-3b --prefill --batch 8 --context 1024
              tandem gpu loop --engines 2 --gpu-partition green
            """)

    @OptionGroup var flags: GPUFlags

    @Option(help: ArgumentHelp("Built-in model.", valueName: "name")) var model = "qwen2.5-0.5b"
    @Option(help: ArgumentHelp("Sequences of a step.", valueName: "number")) var batch = 256
    @Option(help: ArgumentHelp("Tokens that a sequence sees; length of a prompt.", valueName: "number"))
    var context = 512
    @Option(help: ArgumentHelp("Engines of this process.", valueName: "number")) var engines = 1
    @OptionGroup var division: GPUDivisionFlags
    @Flag(help: "Compute prompts in the place of single tokens.") var prefill = false
    @Option(help: ArgumentHelp("Length of a window.", valueName: "seconds")) var seconds = 5.0
    @Option(help: ArgumentHelp("How many windows.", valueName: "number")) var windows = 1
    @Option(help: "full, attentionOnly or mlpOnly.") var ablation: AblationSetting = .full
    @Option(help: ArgumentHelp("Host work between steps.", valueName: "microseconds")) var pause: UInt64 = 0
    @Option(help: ArgumentHelp("Unix time in milliseconds at which windows begin.", valueName: "time"))
    var startAt: UInt64?
    @Option(help: ArgumentHelp("Stands in the lines of JSON.", valueName: "text")) var label = ""
    @Flag(help: "Take a step's result before the next is put in.") var sync = false
    @Flag(help: "Launch kernel by kernel.") var noGraphs = false
    @Flag(help: "The same bits for a row in any batch.") var deterministic = false
    @Flag(help: "Time every eighth step by component, kernel by kernel.") var profile = false
    @Flag(help: "Compare each product with our own kernel's before it is used.") var checkProducts = false
    @Option(help: "What computes products: fastest, library or own.") var products: ProductSetting = .fastest
    @Flag(help: "Let kernels start before the ones before them have ended (as TANDEM_CUDA_PDL=1).")
    var overlap = false
    @Flag(help: "Bring weights to the level-2 cache for the next product (as TANDEM_CUDA_PREFETCH=1).")
    var prefetch = false
    @Flag(help: "Layers and heads of the model cut to two, as for a check on a machine without a GPU.")
    var quick = false

    func run() throws {
        guard var description = BuiltInModel.named(model)?.description else {
            throw ValidationError("\(model) is no built-in model; tandem advise --help lists them")
        }
        guard batch > 0, context > 1, seconds > 0, windows > 0 else {
            throw ValidationError("--batch, --context, --seconds and --windows must be positive")
        }
        guard (1...16).contains(engines) else { throw ValidationError("--engines is 1 to 16") }
        let priorities = division.gpuEnginePriority.count
        guard priorities == 0 || priorities == engines else {
            throw ValidationError("--gpu-engine-priority has \(priorities) of them, and --engines is \(engines)")
        }
        guard engines > 1 || division.gpuPartition == .none else {
            throw ValidationError("--gpu-partition is for several --engines")
        }
        description.ablation = ablation.ablation
        if quick {
            description.layers = Array(description.layers.prefix(2))
            description.vocabularySize = 1024
            description.intermediateSize = 256
        }
        var options = CUDAExecutor.Options(device: try flags.selector(), environment: Process.environment())
        options.isDeterministic = deterministic
        options.usesGraphs = !noGraphs
        options.report = { Process.log($0) }
        options.products = products.source
        if prefetch { options.environment["TANDEM_CUDA_PREFETCH"] = "1" }
        if overlap { options.environment["TANDEM_CUDA_PDL"] = "1" }
        if profile { options.profileInterval = 8 }
        if checkProducts { options.checksProducts = true }
        var settings = GPULoop.Settings()
        settings.batch = batch
        settings.context = context
        settings.isPrefill = prefill
        settings.isAsynchronous = !sync
        settings.pauseNanoseconds = pause * 1000
        if engines > 1 { return try runTeam(description, settings, options) }
        let executor = try CUDAExecutor(model: description, randomSeed: 1, options: options)
        defer { executor.shutdown() }
        let loop = try GPULoop(executor, model: description, settings: settings, now: Process.nanoseconds)
        try loop.warmUp(steps: quick ? 2 : 20)
        if let startAt { Self.sleep(until: startAt) }
        var rows = [Self.heads]
        for index in 0..<windows {
            let window = try loop.run(seconds: seconds)
            rows.append(row("\(index)", window, tokensPerStep: loop.tokensPerStep))
            tell(
                window, index, executor.capabilities.device, usesMPS: executor.usesMPS,
                choices: executor.productChoices)
        }
        Process.write("\(executor.capabilities.device)\n" + TableText.table(rows), to: STDOUT_FILENO)
        for choice in executor.productChoices { Process.write("product \(choice)\n", to: STDOUT_FILENO) }
    }

    private static let heads = ["window", "steps/s", "tokens/s", "ms a step", "GPU idle", "host us"]

    private func runTeam(
        _ description: DecoderDescription, _ settings: GPULoop.Settings, _ options: CUDAExecutor.Options
    ) throws {
        let team = GPULoop.Team(
            model: description, randomSeed: 1, settings: settings,
            options: (0..<engines).map { place in
                var own = options
                own.process = division.share(engines: engines, place: place)
                return own
            }, warmUpSteps: quick ? 2 : 20, windows: windows, secondsPerWindow: seconds,
            now: { Process.nanoseconds() }, begin: { [startAt] in if let startAt { Self.sleep(until: startAt) } })
        let result = try GPULoop.run(team)
        var rows = [Self.heads]
        for (engine, own) in result.windows.enumerated() {
            for (index, window) in own.enumerated() {
                rows.append(row("\(index), engine \(engine)", window, tokensPerStep: result.tokensPerStep))
                tell(window, index, result.device, usesMPS: result.usesMPS, engine: engine)
            }
        }
        Process.write("\(result.device)\n" + TableText.table(rows), to: STDOUT_FILENO)
    }

    private func row(
        _ name: String, _ window: GPULoop.Window, tokensPerStep: Int
    ) -> [String] {
        let steps = Double(max(1, window.steps))
        let idle = profile ? Double.nan : window.idleShare
        return [
            name, TableText.number(window.stepsPerSecond, 2),
            TableText.number(window.stepsPerSecond * Double(tokensPerStep), 0),
            TableText.number(window.seconds / steps * 1e3, 3),
            profile ? "" : TableText.number(100 * idle, 1) + " %",
            TableText.number(window.hostSeconds / steps * 1e6, 0),
        ]
    }

    private func tell(
        _ window: GPULoop.Window, _ index: Int, _ device: String, usesMPS: Bool, choices: [String] = [],
        engine: Int? = nil
    ) {
        let steps = Double(max(1, window.steps))
        flags.add {
            $0.field("phase", "loop")
            if !label.isEmpty { $0.field("label", label) }
            $0.field("device", device)
            $0.field("model", model)
            $0.field("kind", prefill ? "prefill" : "decode")
            $0.field("ablation", ablation.rawValue)
            $0.field("batch", batch)
            $0.field("context", context)
            $0.field("async", !sync)
            $0.field("graphs", !noGraphs)
            $0.field("deterministic", deterministic)
            $0.field("products", products.rawValue)
            $0.field("overlap", overlap)
            $0.field("prefetch", prefetch)
            if index == 0 {
                for (number, choice) in choices.enumerated() { $0.field("choice_\(number)", choice) }
            }
            $0.field("pause_us", Int(pause))
            $0.field("mps", usesMPS)
            $0.field("window", index)
            if let engine {
                $0.field("engines", engines)
                $0.field("engine", engine)
                $0.field(
                    "priority", division.gpuEnginePriority.isEmpty ? "" : division.gpuEnginePriority[engine].rawValue)
                $0.field("partition", division.gpuPartition.rawValue)
            }
            $0.field("steps", window.steps)
            $0.field("seconds", window.seconds)
            $0.field("steps_per_second", window.stepsPerSecond)
            $0.field("host_us", window.hostSeconds / steps * 1e6)
            guard profile else {
                $0.field("gpu_busy_seconds", window.deviceSeconds)
                $0.field("gpu_idle_share", window.idleShare)
                return
            }
            let timed = Double(max(1, window.profile.steps)) * 1e3
            $0.field("attention_us", Double(window.profile.attention) / timed)
            $0.field("mlp_us", Double(window.profile.mlp) / timed)
            $0.field("rest_us", Double(window.profile.rest) / timed)
        }
        guard profile else { return }
        let parts = window.profile
        let timed = Double(max(1, parts.steps)) * 1e3
        Process.write(
            "of a step, kernel by kernel: attention \(TableText.number(Double(parts.attention) / timed, 0)) us, MLP "
                + "\(TableText.number(Double(parts.mlp) / timed, 0)) us, rest "
                + "\(TableText.number(Double(parts.rest) / timed, 0)) us\n", to: STDOUT_FILENO)
    }

    /// Sleeps until a time, at most two minutes.
    private static func sleep(until milliseconds: UInt64) {
        for _ in 0..<120_000 {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            let now = UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000
            guard now < milliseconds else { return }
            usleep(1000)
        }
    }
}

/// What computes matrix products.
enum ProductSetting: String, CaseIterable, ExpressibleByArgument {
    case fastest
    case library
    case own

    var source: ProductSource {
        switch self {
        case .fastest: .fastest
        case .library: .library
        case .own: .own
        }
    }
}
