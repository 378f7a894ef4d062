// Tandem — Apache-2.0

import ArgumentParser
import Glibc
import HTTPCore
import JSON
import LoadGenerator
import ModelStore
import NIOCore
import NIOPosix
import Telemetry
import Tokenization

/// Measures a server under load.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure any OpenAI-compatible server under load.",
        discussion: """
            Prompts are random words, unless a dataset, preset or trace says otherwise. The result goes to standard \
            output, progress to standard error; Ctrl-C ends the run and shows what was measured so far. Ends \
            with 1 if a request failed, with 130 after Ctrl-C.

            Example:
              tandem bench --concurrency 8 --requests 64
              tandem bench http://host:8000 --rate 4 --duration 30s --goodput ttft:500,itl:50 --output result.json
            """)

    @Argument(help: "Where the server is.")
    var url = "http://127.0.0.1:8000"

    @OptionGroup(title: "Pace") var pace: BenchPaceFlags
    @OptionGroup(title: "Workload") var workload: BenchWorkloadFlags

    @Option(help: ArgumentHelp("The model to ask for. (default: the first that the server names)", valueName: "name"))
    var servedModelName: String?

    @Option(help: ArgumentHelp("Key to show. (environment: TANDEM_API_KEY)", valueName: "key"))
    var apiKey: String?

    @Option(help: ArgumentHelp("How long the server may be silent: 30s, 2m.", valueName: "time"))
    var timeout = "10m"

    @Option(
        help: ArgumentHelp(
            "Count requests that meet limits in ms, of ttft, tpot, itl (the longest gap) and e2el: ttft:500,itl:50.",
            valueName: "limits"))
    var goodput: String?

    @Option(help: ArgumentHelp("Also write the result as JSON, with vLLM's field names.", valueName: "file"))
    var output: String?

    @Flag(help: "With --output: the times of every request, too.")
    var saveDetailed = false

    func validate() throws {
        _ = try BenchPlanner(self)
    }

    func run() throws {
        DescriptorLimit.raise()
        let planner = try BenchPlanner(self)
        // Before any work is done: a result that cannot be kept is none.
        let file = try output.map { try BenchOutput(path: $0) }
        let tokenizer = try workload.model.map { name -> Tokenizer in
            let resolved = try ModelFile.resolve(name)
            return try ModelFile(ModelChoice(path: resolved.path), maximumContextLength: nil).tokenizer()
        }
        let events = ProcessEvents(processName: "tandem-bench")
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.any()
        if pace.batch != nil {
            let (plan, settings) = try planner.batches(tokenizer: tokenizer)
            let screen = BenchScreen(events, title: "bench", expected: plan.size * plan.batches)
            return try finish(screen.watch(LoadRun(plan, on: loop)), settings, file)
        }
        let names = try servedModelName.map { [$0] } ?? Self.ask(planner, on: loop)
        guard let name = names.first else {
            throw ValidationError("the server names no model; use --served-model-name")
        }
        var (plan, settings) = try planner.plan(tokenizer: tokenizer, servedModel: name)
        settings.tokenizer = workload.model

        if pace.warmup > 0 {
            var warmup = plan
            warmup.pace = .closed(clients: 1)
            (warmup.requests, warmup.nanoseconds) = (pace.warmup, nil)
            // Other prompts than those that are measured, which a cache would know then.
            warmup.workload.seed = ~plan.workload.seed
            let outcome = try BenchScreen(events, title: "warm-up", plan: warmup).watch(LoadRun(warmup, on: loop))
            for record in outcome.records {
                guard case .failed(let reason, let detail) = record.outcome else { continue }
                throw BenchFailure(description: "a request of the warm-up failed: \(reason): \(detail)")
            }
            if outcome.isStopped { throw ExitCode(130) }
        }
        try finish(BenchScreen(events, title: "bench", plan: plan).watch(LoadRun(plan, on: loop)), settings, file)
    }

    private func finish(_ outcome: LoadOutcome, _ settings: BenchmarkSettings, _ file: BenchOutput?) throws {
        if let fault = outcome.fault { throw BenchFailure(description: fault) }
        let result = BenchmarkResult(outcome, settings: settings)
        Process.write(result.table, to: STDOUT_FILENO)
        try file?.write(result.json(date: Self.date(), version: Tandem.version, isDetailed: saveDetailed))
        if result.failed > 0, !result.isStopped || pace.batch != nil { throw ExitCode(1) }
        if result.isStopped { throw ExitCode(130) }
        if result.complete == 0 { throw BenchFailure(description: "no request was due in that time") }
    }

    private static func ask(_ planner: BenchPlanner, on loop: any EventLoop) throws -> [String] {
        do {
            return try ServedModels.ask(planner.endpoint, apiKey: planner.apiKey, on: loop).wait()
        } catch {
            throw BenchFailure(description: "\(error)")
        }
    }

    /// Now, in UTC, as vLLM's benchmark writes it.
    private static func date() -> String {
        var now = Glibc.time(nil)
        var parts = tm()
        gmtime_r(&now, &parts)
        let two = { (value: Int32) in value < 10 ? "0\(value)" : "\(value)" }
        return "\(parts.tm_year + 1900)\(two(parts.tm_mon + 1))\(two(parts.tm_mday))-"
            + "\(two(parts.tm_hour))\(two(parts.tm_min))\(two(parts.tm_sec))"
    }
}

/// Why nothing could be measured.
struct BenchFailure: Error, CustomStringConvertible {
    let description: String
}

/// The file that the result goes to: written beside it, and put in its place when it is whole.
struct BenchOutput {
    private let path: String
    private var part: String { path + ".part" }

    /// - Throws: ``BenchFailure`` if it cannot be written, before any work is done for it.
    init(path: String) throws {
        self.path = path
        close(try open())
        unlink(part)
    }

    private func open() throws -> Int32 {
        let file = Glibc.open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else {
            throw BenchFailure(description: "--output \(path) cannot be written: \(String(cString: strerror(errno)))")
        }
        return file
    }

    func write(_ bytes: [UInt8]) throws {
        let file = try open()
        Process.write(bytes, to: file)
        let isWhole = lseek(file, 0, SEEK_END) == bytes.count && fsync(file) == 0
        close(file)
        guard isWhole, rename(part, path) == 0 else {
            let reason = String(cString: strerror(errno))
            unlink(part)
            throw BenchFailure(description: "--output \(path) could not be written whole: \(reason)")
        }
    }
}
