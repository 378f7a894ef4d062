// Tandem — Apache-2.0

import ArgumentParser
import LoadGenerator

/// What makes requests come.
struct BenchPaceFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Closed loop: so many clients, each sends when it has its answer. (default: 1)", valueName: "clients"))
    var concurrency: Int?

    @Option(help: ArgumentHelp("With --concurrency: pause of a client between two requests.", valueName: "time"))
    var pause: String?

    @Option(help: ArgumentHelp("Open loop: requests per second, sent whatever the server does.", valueName: "number"))
    var rate: Double?

    @Option(help: ArgumentHelp("With --rate: poisson (the default), constant or bursty.", valueName: "arrivals"))
    var arrivals: BenchArrivals?

    @Option(
        help: ArgumentHelp(
            "With --arrivals bursty: shape of the gamma distribution of gaps; less is burstier. (default: 0.25)",
            valueName: "shape"))
    var burstiness: Double?

    @Option(
        help: ArgumentHelp(
            "Open loop: Poisson, with a rate that goes from FIRST to LAST during --duration.", valueName: "first-last"))
    var ramp: String?

    @Option(
        help: ArgumentHelp(
            "Open loop: moments, lengths and shared parts from a file in Mooncake's format.", valueName: "file"))
    var trace: String?

    @Option(help: ArgumentHelp("With --trace: 2 plays it twice as fast.", valueName: "factor"))
    var traceSpeed: Double?

    @Option(help: ArgumentHelp("Open loop: the most requests in flight; others wait.", valueName: "number"))
    var maxInFlight: Int?

    @Option(
        help: ArgumentHelp(
            "Static batches: so many sequences at once, as token ids, to the engines of --link; needs --model.",
            valueName: "sequences"))
    var batch: Int?

    @Option(help: ArgumentHelp("With --batch: how many. (default: 3)", valueName: "number"))
    var batches: Int?

    @Option(
        help: ArgumentHelp(
            "With --batch: an engine, as link+unix:PATH or link+tcp:HOST:PORT; once an engine.", valueName: "address"))
    var link: [String] = []

    @Option(
        help: ArgumentHelp(
            "How many requests. (default: the dataset's or trace's, else 8 a client, at least 32; no limit with "
                + "--duration)",
            valueName: "number"))
    var requests: Int?

    @Option(help: ArgumentHelp("After which nothing more is sent: 500ms, 30s, 2m.", valueName: "time"))
    var duration: String?

    @Option(
        help: ArgumentHelp("Requests that are sent before, one after the other, and not counted.", valueName: "number"))
    var warmup = 0
}

/// What is asked.
struct BenchWorkloadFlags: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Tokens of a prompt: 128, 64-256 or lognormal:MEAN:DEVIATION. (default: 128)", valueName: "length"))
    var inputTokens: String?

    @Option(help: ArgumentHelp("Tokens of an answer, likewise. (default: 64)", valueName: "length"))
    var outputTokens: String?

    @Option(help: ArgumentHelp("Tokens at the beginning of prompts that they share.", valueName: "number"))
    var prefixTokens: Int?

    @Option(help: ArgumentHelp("How many such beginnings there are. (default: 1)", valueName: "number"))
    var prefixes: Int?

    @Option(help: ArgumentHelp("completion, retrieval, grammar or extraction.", valueName: "kind"))
    var preset: BenchPreset?

    @Option(
        help: ArgumentHelp(
            "Prompts from a file: a JSON object a line with prompt or messages, and output_tokens.", valueName: "file"))
    var dataset: String?

    @Flag(help: "Send messages to /v1/chat/completions, not prompts to /v1/completions.")
    var chat = false

    @Option(
        help: ArgumentHelp(
            "The model whose tokenizer makes lengths exact: a name, ORG/NAME on a hub, or a path. Without it "
                + "lengths are words.", valueName: "model"))
    var model: String?

    @Option(help: ArgumentHelp("Repeats prompts and moments. (default: another each time)", valueName: "number"))
    var seed: UInt64?

    @Flag(
        inversion: .prefixedNo,
        help: "Ask for answers of the whole length. (default: --ignore-eos, --no-ignore-eos with --dataset)")
    var ignoreEos: Bool?

    @Flag(inversion: .prefixedNo, help: "Ask for streams; without, only whole answers are timed.")
    var stream = true

    @Option(help: ArgumentHelp("0 always takes the likeliest token.", valueName: "number"))
    var temperature: Double = 0

    @Option(help: ArgumentHelp("A JSON object of more fields for every request.", valueName: "json"))
    var extraBody: String?
}

enum BenchArrivals: String, ExpressibleByArgument, CaseIterable {
    case poisson, constant, bursty
}

/// ``WorkloadPreset`` on the command line.
enum BenchPreset: String, ExpressibleByArgument, CaseIterable {
    case completion, retrieval, grammar, extraction

    var preset: WorkloadPreset {
        switch self {
        case .completion: .completion
        case .retrieval: .retrieval
        case .grammar: .grammar
        case .extraction: .extraction
        }
    }
}

/// Reads `500ms`, `30s`, `2m` or a number of seconds.
enum BenchTime {
    static func seconds(_ text: String, flag: String) throws -> Double {
        let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0)]
        let unit = units.first { text.hasSuffix($0.0) } ?? ("", 1)
        guard let value = Double(text.dropLast(unit.0.count)), value > 0, value * unit.1 <= 86400 * 7 else {
            throw ValidationError("\(flag) must be a time such as 500ms, 30s or 2m")
        }
        return value * unit.1
    }
}
