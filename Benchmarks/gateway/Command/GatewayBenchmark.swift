// Tandem — Apache-2.0

import EngineLink
import GatewayLoad
import Glibc
import JSON
import NIOCore
import NIOPosix
import Requests
import Tokenization

/// Mock engines and clients for `Benchmarks/gateway/run`, in one process.
///
///     gateway-benchmark --http N --link N --model FILE --folder DIRECTORY
///
/// Prints where the engines are, as JSON, and then for each line of its input, a JSON object that says what to do, the
/// result as another one.
@main
struct GatewayBenchmark {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    static func main() async {
        do {
            try await run(Array(CommandLine.arguments.dropFirst()))
        } catch {
            show("gateway-benchmark: \(error)", on: STDERR_FILENO)
            exit(1)
        }
    }

    private static func run(_ arguments: [String]) async throws {
        var options: [String: String] = [:]
        for index in stride(from: 0, to: arguments.count - 1, by: 2) {
            options[arguments[index]] = arguments[index + 1]
        }
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("http")
        writer.beginArray()
        for _ in 0..<(options["--http"].flatMap { Int($0) } ?? 0) {
            let port = gateway_load_start_engine(0)
            guard port > 0 else { throw Failure(description: "an engine cannot listen: errno \(-port)") }
            writer.integer(port)
        }
        writer.endArray()
        writer.key("link")
        writer.beginArray()
        let count = options["--link"].flatMap { Int($0) } ?? 0
        var engines: LinkEngines?
        if count > 0 {
            guard let model = options["--model"], let folder = options["--folder"] else {
                throw Failure(description: "engines behind a link need --model and --folder")
            }
            let tokenizer = try Tokenizer(path: model)
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            engines = try await LinkEngines(
                count: count, folder: folder, fingerprint: tokenizer.fingerprint, tokens: plainTokens(tokenizer),
                on: group.next())
            for address in engines?.addresses ?? [] { writer.string(address) }
        }
        writer.endArray()
        writer.endObject()
        show(String(decoding: writer.bytes, as: UTF8.self), on: STDOUT_FILENO)
        while let line = readLine() {
            guard let object = try JSONParser.parse(line.utf8).object else {
                throw Failure(description: "a line of the input is no JSON object")
            }
            let bytes = object["cancels"] == nil ? load(object).bytes : try await cancel(object, engines)
            show(String(decoding: bytes, as: UTF8.self), on: STDOUT_FILENO)
        }
        withExtendedLifetime(engines) {}
    }

    private static func show(_ text: String, on descriptor: Int32) {
        let bytes = Array((text + "\n").utf8)
        _ = write(descriptor, bytes, bytes.count)
    }

    /// Tokens that stand for plain text of a few letters, each a text of its own: JSON shows them as they are, and none
    /// waits for another one.
    private static func plainTokens(_ tokenizer: Tokenizer) throws -> [TokenID] {
        let wanted = Int(GATEWAY_LOAD_TOKENS)
        var tokens: [TokenID] = []
        for token in 0..<TokenID(tokenizer.vocabularySize) where tokens.count < wanted && !tokenizer.isSpecial(token) {
            let bytes = tokenizer.bytes(of: token)
            let letters = bytes.first == UInt8(ascii: " ") ? bytes[1...] : bytes[...]
            guard (3...9).contains(letters.count), letters.allSatisfy({ (0x61...0x7A).contains($0) }) else { continue }
            bytes.withUnsafeBytes { buffer in
                gateway_load_set_token(
                    UInt32(tokens.count), buffer.baseAddress?.assumingMemoryBound(to: CChar.self), UInt32(buffer.count))
            }
            tokens.append(token)
        }
        guard tokens.count == wanted else { throw Failure(description: "the tokenizer has too few plain tokens") }
        return tokens
    }

    /// Lets clients leave while others stay.
    private static func cancel(_ object: JSONObject, _ engines: LinkEngines?) async throws -> [UInt8] {
        guard let engines else { throw Failure(description: "cancels are noted by engines behind a link") }
        let load = CancelLoad(
            port: UInt16(clamping: object["port"]?.integer ?? 0), model: object["model"]?.string ?? "mock",
            count: Int(clamping: object["cancels"]?.integer ?? 200), resets: object["resets"]?.bool ?? false)
        configure(object)
        guard let others = object["connections"]?.integer, others > 0 else { return try load.run(engines.cancels).json }
        let thread = NIOThreadPool(numberOfThreads: 1)
        thread.start()
        async let staying = thread.runIfActive { Self.load(object).bytes }
        // Until they have their first tokens.
        try await Task.sleep(for: .milliseconds(700))
        let result = try load.run(engines.cancels)
        _ = try await staying
        try await thread.shutdownGracefully()
        return result.json
    }

    private static func configure(_ object: JSONObject) {
        func integer<T: FixedWidthInteger>(_ name: String, _ otherwise: T) -> T {
            object[name]?.integer.map { T(clamping: $0) } ?? otherwise
        }
        gateway_load_configure(
            gateway_load_engine_settings(
                interval: integer("interval", 0), answer_bytes: integer("answer_bytes", 64),
                window: integer("window", 8)))
    }

    private static func load(_ object: JSONObject) -> JSONWriter {
        func integer<T: FixedWidthInteger>(_ name: String, _ otherwise: T) -> T {
            object[name]?.integer.map { T(clamping: $0) } ?? otherwise
        }
        configure(object)
        let processes: [Int32] = object["processes"]?.array?.compactMap { $0.integer.map { Int32(clamping: $0) } } ?? []
        let result = (object["model"]?.string ?? "mock").withCString { model in
            processes.withUnsafeBufferPointer { processes in
                var plan = gateway_load_plan()
                plan.port = integer("port", 0)
                plan.model = model
                plan.stream = object["stream"]?.bool ?? false
                plan.over_link = object["over_link"]?.bool ?? false
                plan.connections = integer("connections", 1)
                plan.tokens = integer("tokens", 16)
                plan.warm_seconds = object["warm"]?.number ?? 0.5
                plan.seconds = object["seconds"]?.number ?? 3
                plan.processes = processes.baseAddress
                plan.process_count = UInt32(processes.count)
                return gateway_load_run(&plan)
            }
        }
        return text(of: result)
    }

    private static func text(of result: gateway_load_result) -> JSONWriter {
        var writer = JSONWriter()
        func quantiles(_ name: String, _ values: gateway_load_quantiles) {
            writer.key(name)
            writer.beginObject()
            for (name, value) in [
                ("p50", values.median), ("p90", values.p90), ("p99", values.p99), ("max", values.maximum),
            ] {
                writer.key(name)
                writer.number(value)
            }
            writer.endObject()
        }
        writer.beginObject()
        for (name, value) in [
            ("seconds", result.seconds), ("user", result.user_seconds), ("system", result.system_seconds),
        ] {
            writer.key(name)
            writer.number(value)
        }
        for (name, value) in [
            ("requests", result.requests), ("tokens", result.tokens), ("all_requests", result.all_requests),
            ("all_tokens", result.all_tokens), ("errors", result.errors),
            ("wrong", result.wrong), ("resident", result.resident_bytes),
        ] {
            writer.key(name)
            writer.integer(value)
        }
        quantiles("latency", result.latency)
        quantiles("first_token", result.first_token)
        quantiles("one_way", result.one_way)
        quantiles("jitter", result.jitter)
        writer.key("error")
        writer.string(
            withUnsafeBytes(of: result.error) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
        writer.endObject()
        return writer
    }
}
