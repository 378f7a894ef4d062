// Tandem — Apache-2.0

import ArgumentParser
import CPUExecutor
import CUDADriver
import CUDAExecutor
import Configuration
import Glibc
import InferenceEngine
import JSON
import LanguageModel
import ModelStore
import Requests
import Supervision
import Synchronization
import Tokenization

/// Runs one prompt in this process and prints the text as it comes.
struct GenerateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generate",
        abstract: "Run one prompt on the terminal, without a server.",
        discussion: """
            The text goes to standard output, the speed to standard error.

            Example:
              tandem generate --max-tokens 100 "Name three rivers of France."
            """)

    @Argument(help: "What to say to the model; - reads it from standard input.")
    var prompt: String

    @Option(
        help: ArgumentHelp(
            "A model's name, ORG/NAME on a hub, or the path of a .gguf file or a directory.", valueName: "model"))
    var model: String?

    @Option(
        help: ArgumentHelp("A .gguf file or a directory with a tokenizer, if the model has none.", valueName: "path"))
    var tokenizer: String?

    @Option(
        help: ArgumentHelp(
            "auto, or dummy: random weights, of which a directory's config.json is enough.", valueName: "format"))
    var loadFormat: LoadFormatSetting = .auto

    @Option(
        help: ArgumentHelp(
            "For measurements: full, or attentionOnly or mlpOnly, whose output is noise.", valueName: "variant"))
    var ablation: AblationSetting = .full

    @Flag(help: "Continue the prompt as it is, without the model's chat template.")
    var raw = false

    @Option(help: ArgumentHelp("Most tokens to generate.", valueName: "number"))
    var maxTokens = 256

    @Option(help: ArgumentHelp("0 always takes the likeliest token.", valueName: "number"))
    var temperature: Float = 0

    @Option(help: ArgumentHelp("Repeats a choice at a temperature above 0.", valueName: "number"))
    var seed: UInt64?

    @Option(help: ArgumentHelp("auto, cpu, cuda:INDEX or cuda:UUID.", valueName: "device"))
    var device = "auto"

    @Flag(help: "On a GPU: the same bits for a request in any company; slower.") var deterministic = false

    @Option(help: ArgumentHelp("Compute threads. (default: all usable cores)", valueName: "number"))
    var threads: Int?

    @Option(help: ArgumentHelp("Number format: auto, f32, bf16 or int8.", valueName: "format"))
    var cpuCompute: CPUComputeSetting = .auto

    @Flag(help: "Also say where the time of the steps went.")
    var profile = false

    func validate() throws {
        guard maxTokens >= 1 else { throw ValidationError("--max-tokens must be at least 1") }
        guard temperature >= 0, temperature <= 2 else { throw ValidationError("--temperature must be from 0 to 2") }
        guard threads.map({ (1...1024).contains($0) }) ?? true else {
            throw ValidationError("--threads must be from 1 to 1024")
        }
    }

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        let resolved = try ModelFile.resolve(model)
        let file = try ModelFile(
            ModelChoice(path: resolved.path, loadFormat: loadFormat, ablation: ablation, tokenizer: tokenizer),
            maximumContextLength: nil)
        let tokenizer = try file.tokenizer()
        let tokens = try promptTokens(tokenizer)
        guard !tokens.isEmpty else { throw ValidationError("the prompt is empty") }
        guard tokens.count < file.contextLength else {
            throw ValidationError(
                "the prompt has \(tokens.count) tokens, and the model takes at most \(file.contextLength - 1)")
        }
        let request = EngineRequest(
            id: 1,
            tokens: tokens,
            sampling: SamplingParameters(temperature: temperature, seed: seed ?? .random(in: 0...UInt64.max)),
            maximumNewTokens: min(maxTokens, file.contextLength - tokens.count),
            stopTokens: tokenizer.endOfGenerationTokens.union(file.checkpoint.generation.endTokens).sorted())
        let outputs = OutputPipe()
        let loop = try startLoop(file, request: request, outputs: outputs)
        defer {
            loop.stop()
            loop.join()
            if profile, let statistics = outputs.statistics {
                let host = statistics.times.table(steps: statistics.counters.steps)
                Process.write("\n" + statistics.profile.table + "\n" + host, to: STDERR_FILENO)
            }
        }
        try print(outputs, of: request, tokenizer: tokenizer, loop: loop)
    }

    private func promptTokens(_ tokenizer: Tokenizer) throws -> [TokenID] {
        let text = prompt == "-" ? try Self.standardInput() : prompt
        guard !raw, let source = tokenizer.chatTemplateSource else {
            return tokenizer.encode(text, addSpecialTokens: true, parseSpecialTokens: false)
        }
        var message = JSONObject()
        message["role"] = .string("user")
        message["content"] = .string(text)
        let special = { (token: TokenID?) in token.flatMap { tokenizer.vocabularyString($0) } ?? "" }
        let rendered = try ChatTemplate(source: source).render(
            messages: .array([.object(message)]), tools: nil, addGenerationPrompt: true,
            bosToken: special(tokenizer.bosToken), eosToken: special(tokenizer.eosToken), extra: JSONObject())
        return tokenizer.encode(rendered, addSpecialTokens: false, parseSpecialTokens: true)
    }

    private static let tokensPerStep = 512

    private func startLoop(_ file: ModelFile, request: EngineRequest, outputs: OutputPipe) throws -> StepLoop {
        // Room for this one sequence, and a block to spare.
        let length = request.tokens.count + request.maximumNewTokens + 16
        if let selector = try gpu() {
            return try startGPULoop(file, selector, length: length, request: request, outputs: outputs)
        }
        let compute = cpuCompute.compute(for: file)
        let cores = Process.usableCores()
        let executor = try CPUExecutor(
            model: file.description, file: file.tensors,
            options: CPUExecutor.Options(compute: compute, threads: threads ?? max(1, cores.count)))
        let bytes = UInt64(
            file.description.kvBytes(
                forSequenceOf: length, tokensPerStep: Self.tokensPerStep, elementBytes: compute.keyValueElementBytes))
        let available = MemoryAvailable.bytes()
        guard bytes <= available else {
            throw SupervisionError.notEnoughMemory(
                neededBytes: bytes, availableBytes: available, contextLength: length)
        }
        return try loop(executor, keyValueBytes: Int(bytes), file, request: request, outputs: outputs)
    }

    /// The GPU that is asked for, or the first that can be used; null for none.
    private func gpu() throws -> CUDADeviceSelector? {
        switch device {
        case "cpu": return nil
        case "auto":
            do throws(CUDAError) {
                let driver = try CUDADriver(environment: Process.environment())
                try driver.device(.index(0)).requireSupport()
                return .index(0)
            } catch {
                // Most machines have none; what is there and fails is worth a line.
                if error.kind != .missing { Process.log("computing on the CPU: \(error)") }
                return nil
            }
        default:
            guard device.hasPrefix("cuda:"), let selector = CUDADeviceSelector(String(device.dropFirst(5))) else {
                throw ValidationError("\(device) is no device; use auto, cpu, cuda:0 or cuda:GPU-…")
            }
            return selector
        }
    }

    private func startGPULoop(
        _ file: ModelFile, _ selector: CUDADeviceSelector, length: Int, request: EngineRequest, outputs: OutputPipe
    ) throws -> StepLoop {
        var options = CUDAExecutor.Options(device: selector, environment: Process.environment())
        options.isDeterministic = deterministic
        options.report = { Process.log($0) }
        let executor = try CUDAExecutor(model: file.description, file: file.tensors, options: options)
        let bytes = try DeviceMemoryPlan.keyValueBytes(
            model: file.description, forSequenceOf: length, tokensPerStep: Self.tokensPerStep)
        return try loop(executor, keyValueBytes: bytes, file, request: request, outputs: outputs)
    }

    private func loop(
        _ executor: sending any StepExecutor, keyValueBytes: Int, _ file: ModelFile, request: EngineRequest,
        outputs: OutputPipe
    ) throws -> StepLoop {
        try StepLoop(
            executor: executor,
            configuration: SchedulerConfiguration(
                slots: 1, tokensPerStep: Self.tokensPerStep,
                contextLength: request.tokens.count + request.maximumNewTokens,
                vocabularySize: file.description.vocabularySize, asynchronous: false, prefixCaching: false,
                // Of no consequence without a cache of prefixes.
                modelFingerprint: Digest128(high: 0, low: 0)),
            keyValueBytes: keyValueBytes,
            groups: file.description.kvGroups,
            now: Process.nanoseconds,
            handlers: StepLoopHandlers { report in
                outputs.send(report)
            } fatal: { error in
                // The sequence was reported as failed before.
                Process.log("the device failed: \(error.message)")
            })
    }

    private func print(_ outputs: OutputPipe, of request: EngineRequest, tokenizer: Tokenizer, loop: StepLoop) throws {
        var detokenizer = IncrementalDetokenizer(tokenizer: tokenizer, skipSpecialTokens: true)
        let start = Process.nanoseconds()
        var firstToken = start
        var count = 0
        loop.submit(request)
        while true {
            for output in outputs.receive() {
                for token in output.tokens {
                    if count == 0 { firstToken = Process.nanoseconds() }
                    count += 1
                    Process.write(detokenizer.append(token), to: STDOUT_FILENO)
                }
                guard let finish = output.finish else { continue }
                Process.write(detokenizer.finish() + "\n", to: STDOUT_FILENO)
                if finish == .failed { throw GenerateError(output.failure?.message ?? "the engine failed") }
                Process.log(
                    Self.speed(
                        promptTokens: request.tokens.count, prefillNanoseconds: firstToken - start,
                        generatedTokens: count, decodeNanoseconds: Process.nanoseconds() - firstToken))
                return
            }
        }
    }

    private static func speed(
        promptTokens: Int, prefillNanoseconds: UInt64, generatedTokens: Int, decodeNanoseconds: UInt64
    ) -> String {
        let rate = { (tokens: Int, nanoseconds: UInt64) in
            let tenths = nanoseconds == 0 ? 0 : Int(Double(tokens) / Double(nanoseconds) * 1e10)
            return "\(tenths / 10).\(tenths % 10) tok/s"
        }
        let prompt = "prompt: \(promptTokens) tokens, \(rate(promptTokens, prefillNanoseconds))"
        // The first token belongs to the prompt's step.
        guard generatedTokens > 1 else { return prompt }
        return prompt + "; generated: \(generatedTokens) tokens, \(rate(generatedTokens - 1, decodeNanoseconds))"
    }

    private static func standardInput() throws -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(STDIN_FILENO, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            bytes += buffer[..<count]
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw ValidationError("standard input is not UTF-8 text")
        }
        return text
    }
}

/// Why no text could be generated.
struct GenerateError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// Outputs from the step thread to the main thread, which sleeps on a pipe.
private final class OutputPipe: Sendable {
    private let waiting = Mutex<[SequenceOutput]>([])
    private let latest = Mutex<StepStatistics?>(nil)
    private let reader: Int32
    private let writer: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        if pipe(&ends) != 0 { ends = [-1, -1] }
        reader = ends[0]
        writer = ends[1]
    }

    deinit {
        close(reader)
        close(writer)
    }

    /// The last ones that were reported.
    var statistics: StepStatistics? { latest.withLock { $0 } }

    func send(_ report: StepReport) {
        if let statistics = report.statistics { latest.withLock { $0 = statistics } }
        let outputs = report.outputs
        guard !outputs.isEmpty else { return }
        let wasEmpty = waiting.withLock { waiting in
            defer { waiting += outputs }
            return waiting.isEmpty
        }
        // One byte at most lies in the pipe, so this never blocks.
        if wasEmpty { Process.write("x", to: writer) }
    }

    /// Sleeps until there are outputs.
    func receive() -> [SequenceOutput] {
        var byte: UInt8 = 0
        while read(reader, &byte, 1) < 0 && errno == EINTR {}
        return waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
    }
}
