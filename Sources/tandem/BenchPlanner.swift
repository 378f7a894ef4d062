// Tandem — Apache-2.0

import ArgumentParser
import EngineLink
import Glibc
import HTTPCore
import JSON
import LoadGenerator
import Requests
import Tokenization

/// Makes a plan of the flags, and refuses what does not go together.
struct BenchPlanner {
    let endpoint: HTTPEndpoint
    let apiKey: String?
    private let command: BenchCommand
    private let duration: Double?
    private let pause: Double
    private let timeout: Double
    private let ramp: (first: Double, last: Double)?
    private let synthetic: SyntheticWorkload
    private let goodput: Goodput?
    private let extraFields: JSONObject

    private var pace: BenchPaceFlags { command.pace }
    private var workload: BenchWorkloadFlags { command.workload }

    /// - Throws: `ValidationError` naming the flag at fault.
    init(_ command: BenchCommand) throws {
        self.command = command
        let (pace, workload) = (command.pace, command.workload)
        guard !command.url.lowercased().hasPrefix("https:") else {
            throw ValidationError(
                "\(command.url): only http:// can be measured; TLS needs a proxy in front of tandem bench")
        }
        do {
            var endpoint = try HTTPEndpoint(command.url.contains("://") ? command.url : "http://" + command.url)
            if endpoint.prefix.hasSuffix("/v1") { endpoint.prefix.removeLast(3) }
            self.endpoint = endpoint
        } catch {
            throw ValidationError("\(error)")
        }
        apiKey = command.apiKey ?? Process.environment()["TANDEM_API_KEY"].flatMap { $0.isEmpty ? nil : $0 }
        duration = try pace.duration.map { try BenchTime.seconds($0, flag: "--duration") }
        pause = try pace.pause.map { try BenchTime.seconds($0, flag: "--pause") } ?? 0
        timeout = try BenchTime.seconds(command.timeout, flag: "--timeout")
        ramp = try pace.ramp.map { try Self.ramp($0) }
        synthetic = try Self.synthetic(workload)
        do {
            goodput = try command.goodput.map { text throws(LoadGeneratorError) in try Goodput(text) }
        } catch {
            throw ValidationError("--goodput: \(error)")
        }
        if let text = workload.extraBody {
            guard let object = try? JSONParser.parse(Array(text.utf8)).object else {
                throw ValidationError("--extra-body is no JSON object")
            }
            extraFields = object
        } else {
            extraFields = JSONObject()
        }
        try Self.checkPace(pace, duration: duration)
        try Self.checkWorkload(workload, pace: pace, stream: workload.stream, goodput: goodput)
        if command.saveDetailed, command.output == nil { throw ValidationError("--save-detailed needs --output") }
    }

    private static func checkPace(_ pace: BenchPaceFlags, duration: Double?) throws {
        let kinds = [
            ("--concurrency", pace.concurrency != nil), ("--rate", pace.rate != nil), ("--ramp", pace.ramp != nil),
            ("--trace", pace.trace != nil), ("--batch", pace.batch != nil),
        ].filter(\.1).map(\.0)
        guard kinds.count <= 1 else {
            throw ValidationError(
                "\(kinds.joined(separator: " and ")) do not go together; --max-in-flight limits an open loop")
        }
        let kind = kinds.first ?? "--concurrency"
        let isClosed = kind == "--concurrency"
        let needs: [(String, Bool, String)] = [
            ("--pause", pace.pause != nil && !isClosed, "--concurrency"),
            ("--arrivals", pace.arrivals != nil && kind != "--rate", "--rate"),
            ("--burstiness", pace.burstiness != nil && pace.arrivals != .bursty, "--arrivals bursty"),
            ("--trace-speed", pace.traceSpeed != nil && kind != "--trace", "--trace"),
            ("--max-in-flight", pace.maxInFlight != nil && isClosed, "--rate, --ramp or --trace"),
            ("--ramp", kind == "--ramp" && duration == nil, "--duration"),
            ("--batch", kind == "--batch" && pace.link.isEmpty, "--link"),
            ("--batches", pace.batches != nil && kind != "--batch", "--batch"),
            ("--link", !pace.link.isEmpty && kind != "--batch", "--batch"),
            ("--requests", pace.requests != nil && kind == "--batch", "--batches instead"),
            ("--duration", duration != nil && kind == "--batch", "another pace than --batch"),
            ("--max-in-flight", pace.maxInFlight != nil && kind == "--batch", "another pace than --batch"),
            ("--warmup", pace.warmup > 0 && kind == "--batch", "another pace than --batch"),
        ]
        for (flag, isWrong, remedy) in needs where isWrong { throw ValidationError("\(flag) needs \(remedy)") }
        let counts = [
            ("--concurrency", pace.concurrency, 1...65536), ("--max-in-flight", pace.maxInFlight, 1...65536),
            ("--batch", pace.batch, 1...65536), ("--batches", pace.batches, 1...100_000),
            ("--requests", pace.requests, 1...10_000_000), ("--warmup", pace.warmup, 0...1_000_000),
        ]
        for (flag, value, range) in counts {
            guard value.map(range.contains) ?? true else {
                throw ValidationError("\(flag) must be from \(range.lowerBound) to \(range.upperBound)")
            }
        }
        let numbers = [
            ("--rate", pace.rate, 0.001...1_000_000), ("--burstiness", pace.burstiness, 0.01...1000),
            ("--trace-speed", pace.traceSpeed, 0.001...1000),
        ]
        for (flag, value, range) in numbers {
            guard value.map(range.contains) ?? true else {
                throw ValidationError("\(flag) must be from \(range.lowerBound) to \(range.upperBound)")
            }
        }
        let rates = try pace.ramp.map { try ramp($0) }
        let rate = max(pace.rate ?? 0, rates.map { ($0.0 + $0.1) / 2 } ?? 0)
        guard pace.requests != nil || (duration ?? 0) * rate <= 10_000_000 else {
            throw ValidationError(
                "\(rates == nil ? "--rate" : "--ramp") for --duration makes more than 10 million requests")
        }
    }

    private static func checkWorkload(
        _ workload: BenchWorkloadFlags, pace: BenchPaceFlags, stream: Bool, goodput: Goodput?
    ) throws {
        let sources = [
            ("--preset", workload.preset != nil), ("--dataset", workload.dataset != nil),
            ("--trace", pace.trace != nil),
        ].filter(\.1).map(\.0)
        guard sources.count <= 1 else {
            throw ValidationError("\(sources.joined(separator: " and ")) do not go together")
        }
        let lengths = [
            ("--input-tokens", workload.inputTokens != nil), ("--output-tokens", workload.outputTokens != nil),
            ("--prefix-tokens", workload.prefixTokens != nil), ("--prefixes", workload.prefixes != nil),
        ].filter(\.1).map(\.0)
        if let source = sources.first, let length = lengths.first {
            throw ValidationError("\(length) does not go with \(source), which has lengths of its own")
        }
        if workload.prefixes != nil, workload.prefixTokens == nil {
            throw ValidationError("--prefixes needs --prefix-tokens")
        }
        guard (0...2).contains(workload.temperature) else { throw ValidationError("--temperature must be from 0 to 2") }
        if !stream, goodput?.timeToFirstToken ?? goodput?.timePerOutputToken ?? goodput?.interTokenLatency != nil {
            throw ValidationError("--no-stream leaves only e2el to be limited by --goodput")
        }
    }

    private static func ramp(_ text: String) throws -> (Double, Double) {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { Double($0) }
        guard ends.count == 2, let first = ends[0], let last = ends[1], first >= 0, last >= 0, first + last > 0,
            max(first, last) <= 1_000_000
        else { throw ValidationError("--ramp must be two rates in requests per second, such as 1-20") }
        return (first, last)
    }

    private static func synthetic(_ flags: BenchWorkloadFlags) throws -> SyntheticWorkload {
        if let preset = flags.preset { return preset.preset.workload }
        let length = { (text: String, flag: String) throws -> LengthDistribution in
            guard let length = LengthDistribution(text) else {
                throw ValidationError("\(flag) \(text) is none of 128, 64-256 and lognormal:MEAN:DEVIATION")
            }
            return length
        }
        var workload = SyntheticWorkload(
            inputTokens: try length(flags.inputTokens ?? "128", "--input-tokens"),
            outputTokens: try length(flags.outputTokens ?? "64", "--output-tokens"))
        workload.prefixTokens = flags.prefixTokens ?? 0
        workload.prefixes = flags.prefixes ?? 1
        guard (0...LengthDistribution.maximum).contains(workload.prefixTokens), workload.prefixes >= 1 else {
            throw ValidationError("--prefix-tokens must be at least 0, and --prefixes at least 1")
        }
        return workload
    }

    // MARK: - The plan

    func plan(tokenizer: Tokenizer?, servedModel: String) throws -> (LoadPlan, BenchmarkSettings) {
        let text = try tokenizer.map { try PromptText(tokenizer: $0, isChat: workload.chat) } ?? PromptText()
        let seed = workload.seed ?? UInt64.random(in: 0..<1 << 53)
        let entries = try pace.trace.map { try WorkloadFile.trace(Self.bytes(of: $0), path: $0) }
        let items = try workload.dataset.map {
            try WorkloadFile.dataset(Self.bytes(of: $0), path: $0, isChat: workload.chat)
        }
        let source: Workload.Source
        if let entries {
            source = .trace(entries.sorted { $0.moment < $1.moment })
        } else if let items {
            source = .dataset(items)
        } else {
            source = .synthetic(synthetic)
        }
        let (made, requests) = schedule(seed: seed, entries: entries, items: items)
        let ignoresEnd = workload.ignoreEos ?? (items == nil)
        var fields = JSONObject()
        fields["temperature"] = .number(workload.temperature)
        if ignoresEnd { fields["ignore_eos"] = .bool(true) }
        for (name, value) in extraFields.entries { fields[name] = value }
        var plan = LoadPlan(
            endpoint: endpoint, apiKey: apiKey,
            template: RequestTemplate(
                model: servedModel, isChat: workload.chat, streams: workload.stream, fields: fields),
            workload: Workload(source: source, text: text, seed: seed),
            pace: made, requests: requests, nanoseconds: duration.map { UInt64($0 * 1e9) })
        plan.timeoutNanoseconds = UInt64(timeout * 1e9)
        if plan.expectedRequests == 0 { throw BenchFailure(description: "no request is due in that time") }

        var settings = BenchmarkSettings(
            pace: paceWords, workload: workloadWords(isExact: text.isExact), url: "\(endpoint)", model: servedModel,
            seed: seed)
        settings.isChat = workload.chat
        settings.ignoresEnd = ignoresEnd
        settings.rate = pace.rate
        settings.burstiness = pace.arrivals == .bursty ? pace.burstiness ?? 0.25 : 1
        settings.isOpen = isOpen
        settings.concurrency = isOpen ? pace.maxInFlight : pace.concurrency ?? 1
        settings.rampSeconds = ramp == nil ? nil : duration
        settings.goodput = goodput
        return (plan, settings)
    }

    private var isOpen: Bool { pace.rate != nil || ramp != nil || pace.trace != nil }

    private var arrivals: BenchArrivals { pace.arrivals ?? .poisson }

    private func schedule(
        seed: UInt64, entries: [TraceEntry]?, items: [WorkloadItem]?
    ) -> (pace: LoadPlan.Pace, requests: Int?) {
        var random = RandomSource(seed: seed)
        let process: ArrivalProcess
        if let rate = pace.rate {
            process =
                switch arrivals {
                case .poisson: .poisson(rate: rate)
                case .constant: .constant(rate: rate)
                case .bursty: .bursty(rate: rate, burstiness: pace.burstiness ?? 0.25)
                }
        } else if let ramp, let duration {
            process = .ramp(from: ramp.first, to: ramp.last, seconds: duration)
        } else if let entries {
            let first = entries.map(\.moment).min() ?? 0
            process = .trace(entries.map { ($0.moment - first) / (pace.traceSpeed ?? 1) })
        } else {
            let clients = pace.concurrency ?? 1
            let usual = items?.count ?? max(32, 8 * clients)
            return (
                .closed(clients: clients, pauseNanoseconds: UInt64(pause * 1e9)),
                pace.requests ?? (duration == nil ? usual : nil)
            )
        }
        let requests = pace.requests ?? (duration == nil ? items?.count ?? (entries == nil ? 32 : nil) : nil)
        let schedule = process.schedule(requests: requests, seconds: duration, random: &random)
        return (.open(schedule: schedule, limit: pace.maxInFlight), requests)
    }

    // MARK: - Batches

    func batches(tokenizer: Tokenizer?) throws -> (BatchPlan, BenchmarkSettings) {
        guard let tokenizer, let model = workload.model, let size = pace.batch else {
            throw BenchFailure(description: "--batch needs --model: engines check that the tokenizer is theirs")
        }
        guard workload.preset == nil, workload.dataset == nil, !workload.chat, workload.prefixTokens == nil,
            let outputTokens = synthetic.outputTokens
        else {
            throw BenchFailure(description: "--batch takes --input-tokens and --output-tokens, and no other workload")
        }
        var plan = BatchPlan(
            links: try pace.link.map { try LinkAddress($0) }, fingerprint: tokenizer.fingerprint,
            vocabulary: (0..<TokenID(tokenizer.vocabularySize)).filter { !tokenizer.isSpecial($0) }, size: size,
            batches: pace.batches ?? 3, inputTokens: synthetic.inputTokens, outputTokens: outputTokens,
            seed: workload.seed ?? UInt64.random(in: 0..<1 << 53))
        guard size >= plan.links.count else {
            throw BenchFailure(
                description: "--batch \(size) leaves some of the \(plan.links.count) engines without work")
        }
        plan.seed &= (1 << 53) - 1
        let engines = "\(plan.links.count) engine\(plan.links.count == 1 ? "" : "s")"
        var settings = BenchmarkSettings(
            pace: "static batches of \(size) over the link to \(engines)",
            workload: "prompts of \(plan.inputTokens) random token ids, answers of \(outputTokens), no cache",
            url: plan.links.map(\.description).joined(separator: " "), model: model, seed: plan.seed)
        settings.tokenizer = model
        settings.ignoresEnd = true
        settings.concurrency = size
        settings.goodput = goodput
        return (plan, settings)
    }

    // MARK: - Words

    private var paceWords: String {
        let limit = pace.maxInFlight.map { ", at most \($0) in flight" } ?? ""
        if let rate = pace.rate {
            let name = arrivals == .bursty ? "bursty (\(pace.burstiness ?? 0.25))" : arrivals.rawValue
            return "\(name) arrivals, \(rate) requests/s\(limit)"
        }
        if let ramp, let text = pace.duration {
            return "ramp from \(ramp.first) to \(ramp.last) requests/s during \(text)\(limit)"
        }
        if let path = pace.trace {
            return "trace \(path)\(pace.traceSpeed.map { ", \($0) times as fast" } ?? "")\(limit)"
        }
        let clients = pace.concurrency ?? 1
        let pause = pace.pause.map { " with a pause of \($0)" } ?? ""
        return "closed loop, \(clients) client\(clients == 1 ? "" : "s")\(pause)"
    }

    private func workloadWords(isExact: Bool) -> String {
        let unit = isExact ? "tokens" : "words"
        if let path = workload.dataset { return "dataset \(path)" }
        if pace.trace != nil { return "lengths of the trace in \(unit)" }
        let answers = synthetic.outputTokens.map { "\($0) tokens" } ?? "the text's length"
        var words = "prompts of \(synthetic.inputTokens) \(unit), answers of \(answers)"
        if synthetic.prefixTokens > 0 {
            words += ", \(synthetic.prefixes) shared prefixes of \(synthetic.prefixTokens)"
        }
        return (workload.preset.map { "preset \($0.rawValue): " } ?? "") + words
    }

    private static func bytes(of path: String) throws -> [UInt8] {
        let file = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            throw BenchFailure(description: "\(path): \(String(cString: strerror(errno)))")
        }
        defer { if path != "-" { close(file) } }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(file, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw BenchFailure(description: "\(path): \(String(cString: strerror(errno)))") }
            guard count > 0 else { return bytes }
            bytes += buffer[..<count]
            guard bytes.count <= 2 << 30 else { throw BenchFailure(description: "\(path): it has more than 2 GiB") }
        }
    }
}
