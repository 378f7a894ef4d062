// Tandem — Apache-2.0

import CPUExecutor
import Glibc
import InferenceEngine
import LanguageModel
import Requests
import Weights

/// Measures one CPU engine without server and link: prompt processing and decoding at several batch sizes. Prints one
/// JSON object a line, with the fields of `Measurement`.
///
///     engine-benchmark MODEL [--threads T] [--compute f32|bf16|int8] [--prompts 128,512] [--batches 1,4,16,64]
///                      [--prompt-length 128] [--decode 64] [--repetitions 3] [--spin NANOSECONDS] [--async]
///                      [--load-format auto|dummy] [--ablation full|attentionOnly|mlpOnly]
///                      [--stalls 0,2000,5000] [--profile] [--count-allocations]
///
/// `--stalls` adds so many microseconds of host work to every step, one measurement each. `--profile` ends with a table
/// of where the time went. `--count-allocations` measures nothing else; see `AllocationCount`.
@main
struct EngineBenchmark {
    struct Options {
        var model = ""
        var loadFormat = LoadFormat.auto
        var ablation = Ablation.full
        var threads = 2
        var compute = CPUCompute.int8
        var prompts = [512]
        var batches = [1, 16]
        var promptLength = 128
        var decode = 64
        var repetitions = 3
        var spinNanoseconds: UInt64?
        var asynchronous = false
        /// Host work added to each step, in microseconds.
        var stalls: [UInt64] = [0]
        var profile = false
        var countsAllocations = false
    }

    static func main() {
        do {
            let options = try parse(Array(CommandLine.arguments.dropFirst()))
            try run(options)
        } catch {
            fputs("engine-benchmark: \(error)\n", stderrStream)
            exit(1)
        }
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    static func parse(_ arguments: [String]) throws -> Options {
        var options = Options()
        var rest = arguments[...]
        func list(_ text: String) -> [Int] { text.split(separator: ",").compactMap { Int($0) } }
        while let argument = rest.popFirst() {
            if argument == "--async" {
                options.asynchronous = true
                continue
            }
            if argument == "--profile" {
                options.profile = true
                continue
            }
            if argument == "--count-allocations" {
                options.countsAllocations = true
                continue
            }
            guard argument.hasPrefix("--") else {
                options.model = argument
                continue
            }
            guard let value = rest.popFirst() else { throw Failure(description: "\(argument) needs a value") }
            switch argument {
            case "--threads": options.threads = Int(value) ?? 2
            case "--compute": options.compute = CPUCompute(rawValue: value) ?? .int8
            case "--prompts": options.prompts = list(value)
            case "--batches": options.batches = list(value)
            case "--prompt-length": options.promptLength = Int(value) ?? 128
            case "--decode": options.decode = Int(value) ?? 64
            case "--repetitions": options.repetitions = Int(value) ?? 3
            case "--load-format": options.loadFormat = LoadFormat(rawValue: value) ?? .auto
            case "--ablation": options.ablation = Ablation(rawValue: value) ?? .full
            case "--stalls": options.stalls = list(value).map { UInt64(clamping: $0) }
            case "--spin": options.spinNanoseconds = UInt64(value)
            default: throw Failure(description: "unknown option \(argument)")
            }
        }
        guard !options.model.isEmpty else { throw Failure(description: "give the path of a model") }
        return options
    }

    static func now() -> Double { Double(nanoseconds()) * 1e-9 }

    @Sendable static func nanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    static func run(_ options: Options) throws {
        let began = now()
        let checkpoint = try Checkpoint(
            path: options.model, loadFormat: options.loadFormat, ablation: options.ablation)
        let model = checkpoint.description
        if options.countsAllocations {
            try AllocationCount(model: model, file: checkpoint.tensors, options: options).run()
            return
        }
        var executorOptions = CPUExecutor.Options(compute: options.compute, threads: options.threads)
        if let spin = options.spinNanoseconds { executorOptions.spinNanoseconds = spin }
        let executor = try CPUExecutor(model: model, file: checkpoint.tensors, options: executorOptions)
        let longest = max(options.prompts.max() ?? 0, options.promptLength + options.decode) + 16
        let batch = max(1, options.batches.max() ?? 1)
        let tokens = max(batch, batch * (options.promptLength + options.decode + 16), longest)
        let bytes = tokens * 2 * model.kvBytesPerToken(elementBytes: options.compute.keyValueElementBytes)
        let prepared = try executor.prepare(
            limits: ExecutorLimits(slots: batch, tokensPerStep: 512, contextLength: longest, keyValueBytes: bytes),
            groups: model.kvGroups)
        report("start", size: 0, seconds: now() - began, tokens: 0, options)
        var bench = try Run(executor, model, prepared, options, slots: batch, context: longest)
        for _ in 0..<options.repetitions {
            for length in options.prompts {
                try bench.add(length: length, newTokens: 1)
                let seconds = try bench.untilDone()
                report("prompt", size: length, seconds: seconds, tokens: length, options)
            }
            for batch in options.batches {
                for stall in options.stalls {
                    bench.stallNanoseconds = stall * 1000
                    for _ in 0..<batch { try bench.add(length: options.promptLength, newTokens: options.decode + 1) }
                    try bench.untilAllGenerate()
                    let before = bench.generated
                    let seconds = try bench.untilDone()
                    report(
                        "decode", size: batch, seconds: seconds, tokens: bench.generated - before, options,
                        stallMicroseconds: stall)
                }
                bench.stallNanoseconds = 0
            }
        }
        let profile = executor.profile()
        let total = Double(max(1, profile.attention + profile.mlp + profile.rest))
        print(
            #"{"kind":"profile","attention":\#(Double(profile.attention) / total),"mlp":\#(Double(profile.mlp) / total),"#
                + #""rest":\#(Double(profile.rest) / total)}"#)
        if options.profile { print(profile.table, terminator: "") }
        executor.shutdown()
    }

    static func report(
        _ kind: String, size: Int, seconds: Double, tokens: Int, _ options: Options, stallMicroseconds: UInt64 = 0
    ) {
        let stall = options.stalls == [0] ? "" : #""stall_us":\#(stallMicroseconds),"async":\#(options.asynchronous),"#
        print(
            #"{"kind":"\#(kind)","size":\#(size),"threads":\#(options.threads),"compute":"\#(options.compute.rawValue)","#
                + stall + #""seconds":\#(seconds),"tokens_per_second":\#(seconds > 0 ? Double(tokens) / seconds : 0)}"#)
    }

    /// Batches of sequences, one after the other, driven step by step.
    struct Run {
        let executor: CPUExecutor
        let vocabulary: Int
        let asynchronous: Bool
        var scheduler: Scheduler
        var plan = StepPlan()
        var result = StepResult()
        var outputs: [SequenceOutput] = []
        var tickets: [StepTicket] = []
        var nextID: RequestID = 1
        var generated = 0
        var started = 0
        /// Host work added to each step.
        var stallNanoseconds: UInt64 = 0

        init(
            _ executor: CPUExecutor, _ model: DecoderDescription, _ prepared: PreparedExecutor, _ options: Options,
            slots: Int, context: Int
        ) throws {
            self.executor = executor
            vocabulary = model.vocabularySize
            asynchronous = options.asynchronous
            scheduler = try Scheduler(
                configuration: SchedulerConfiguration(
                    slots: slots, tokensPerStep: 512, contextLength: context, asynchronous: options.asynchronous,
                    prefixCaching: false),
                groups: model.kvGroups, prepared: prepared)
        }

        mutating func add(length: Int, newTokens: Int) throws {
            // Any tokens do; different ones for each sequence.
            let tokens = (0..<length).map { TokenID((Int(nextID) * 7919 + $0 * 104_729) % (vocabulary - 300) + 200) }
            try scheduler.add(EngineRequest(id: nextID, tokens: tokens, maximumNewTokens: newTokens))
            nextID += 1
        }

        mutating func advance() throws {
            let planned = scheduler.schedule(into: &plan)
            if planned {
                stall()
                let ticket = try executor.submit(plan)
                try executor.sample(ticket, masks: nil)
                tickets.append(ticket)
            }
            // One step stays in flight only while there is another one to plan behind it.
            let keep = asynchronous && planned && scheduler.unfinishedCount > 0 ? 1 : 0
            while tickets.count > keep {
                try executor.result(of: tickets.removeFirst(), into: &result)
                outputs.removeAll(keepingCapacity: true)
                try scheduler.finish(result, into: &outputs)
                for output in outputs {
                    generated += output.tokens.count
                    if output.tokens.count > 0, output.id > UInt64(started) { started = Int(output.id) }
                }
            }
        }

        /// Burns time as a slow host would.
        private func stall() {
            guard stallNanoseconds > 0 else { return }
            let began = EngineBenchmark.nanoseconds()
            while EngineBenchmark.nanoseconds() - began < stallNanoseconds {}
        }

        /// Runs until every sequence has its first token.
        mutating func untilAllGenerate() throws {
            while started < Int(nextID) - 1 { try advance() }
        }

        mutating func untilDone() throws -> Double {
            let began = EngineBenchmark.now()
            while scheduler.unfinishedCount > 0 || !tickets.isEmpty { try advance() }
            return EngineBenchmark.now() - began
        }
    }
}

/// `stderr` is a mutable global of C, which Swift 6 refuses to read directly.
nonisolated(unsafe) private let stderrStream: UnsafeMutablePointer<FILE> = fdopen(2, "w")
