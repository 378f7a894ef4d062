// Tandem — Apache-2.0

import ArgumentParser
import Foundation
import Testing

@testable import Configuration

private func configuration(
    _ arguments: [String] = [], environment: [String: String] = [:]
) throws -> ServeConfiguration {
    try ServeFlags.parse(arguments).configuration(environment: environment)
}

private func failure(_ arguments: [String] = [], environment: [String: String] = [:]) -> ConfigurationError? {
    do {
        _ = try configuration(arguments, environment: environment)
        return nil
    } catch {
        return error as? ConfigurationError
    }
}

/// Writes a file that lasts for one call.
private func withFile<Result>(_ text: String, _ body: (String) throws -> Result) throws -> Result {
    let path = NSTemporaryDirectory() + "/tandem-test-\(UUID().uuidString).yaml"
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try body(path)
}

@Suite struct ServeConfigurationTests {
    @Test func nothingGivenIsTheDefault() throws {
        #expect(try configuration() == ServeConfiguration())
        #expect(ServeConfiguration().port == 8000)
        #expect(ServeConfiguration().models[0].engines == 2)
    }

    @Test func everyFlagArrives() throws {
        let result = try configuration([
            "my.gguf", "--tokenizer", "other.gguf", "--load-format", "dummy", "--ablation", "mlpOnly", "--host",
            "0.0.0.0", "--port", "9", "--engines", "3", "--threads", "4", "--device", "cpu",
            "--cpu-compute", "int8", "--mps", "off", "--max-model-len", "2048", "--max-num-seqs", "16",
            "--max-num-batched-tokens", "256", "--kv-cache-memory", "512MiB", "--async-scheduling",
            "--prompt-lookup", "5",
            "--served-model-name", "m", "--api-key", "secret", "--shutdown-timeout", "1500ms", "--log-level", "debug",
            "--gateway-threads", "2", "--host-stall-per-step", "500us", "--host-stall-per-sequence", "20µs",
            "--host-stall-per-request", "1ms", "--host-stall-per-prompt-token", "0.5us",
        ])
        var expected = ServeConfiguration()
        expected.models[0].model = "my.gguf"
        expected.models[0].tokenizer = "other.gguf"
        expected.models[0].loadFormat = .dummy
        expected.models[0].ablation = .mlpOnly
        expected.host = "0.0.0.0"
        expected.port = 9
        expected.models[0].engines = 3
        expected.models[0].threads = 4
        expected.models[0].cpuCompute = .int8
        expected.models[0].maximumContextLength = 2048
        expected.models[0].maximumSequences = 16
        expected.models[0].maximumBatchedTokens = 256
        expected.models[0].keyValueBytes = 512 << 20
        expected.models[0].asynchronousScheduling = true
        expected.models[0].promptLookup = 5
        expected.models[0].servedModelName = "m"
        expected.apiKey = "secret"
        expected.shutdownTimeout = .milliseconds(1500)
        expected.logLevel = .debug
        expected.gatewayThreads = 2
        expected.mps = .off
        expected.device = .cpu
        expected.hostStalls = HostStallSettings(
            perStep: .microseconds(500), perSequence: .microseconds(20), perRequest: .milliseconds(1),
            perPromptToken: .nanoseconds(500))
        #expect(result == expected)
    }

    @Test func enginesAreDividedAmongProcesses() throws {
        let result = try configuration(["--engines", "6", "--engines-per-process", "3"]).models[0]
        #expect(result.enginesPerProcess == 3 && result.processes == 2)
        #expect(try configuration().models[0].enginesPerProcess == 1)
        #expect(try configuration(environment: ["TANDEM_ENGINES_PER_PROCESS": "2"]).models[0].processes == 1)
        let uneven = failure(["--engines", "6", "--engines-per-process", "4"])
        #expect(uneven?.source == "--engines-per-process")
        #expect(uneven?.reason.contains("1, 2, 3, 6") == true)
        #expect(failure(["--engines-per-process", "0"])?.source == "--engines-per-process")
        try withFile(
            """
            engines-per-process: 2
            models:
              - model: a.gguf
                engines: 4
              - model: b.gguf
                engines: 3
                engines-per-process: 1
              - engine-command: run {port}
                engines: 3
            """
        ) { path in
            let models = try configuration(["--config", path]).models
            #expect(models.map(\.enginesPerProcess) == [2, 1, 1])
            #expect(models.map(\.processes) == [2, 3, 3])
        }
    }

    @Test func aGPUIsDividedAmongEnginesOfAProcess() throws {
        let flags = ["--engines-per-process", "2", "--device", "cuda:0"]
        let result = try configuration(flags + ["--gpu-engine-priority", "normal, low", "--gpu-partition", "green"])
        #expect(result.gpuEnginePriorities == [.normal, .low] && result.gpuPartition == .green)
        #expect(try configuration(["--gpu-partition", "none"]).gpuPartition == .none)
        let short = failure(flags + ["--gpu-engine-priority", "low"])
        #expect(short?.reason.contains("a process hosts 2 engines") == true)
        #expect(failure(flags + ["--gpu-engine-priority", "low,high"])?.reason.contains("\"high\"") == true)
        #expect(failure(flags + ["--gpu-partition", "blue"])?.source == "--gpu-partition")
        let alone = failure(["--gpu-partition", "green", "--device", "cuda:0"])
        #expect(alone?.reason.contains("--engines-per-process") == true)
        let nowhere = failure(["--engines-per-process", "2", "--device", "cpu", "--gpu-partition", "green"])
        #expect(nowhere?.reason.contains("NVIDIA GPU") == true)
    }

    @Test func flagWinsOverEnvironmentOverFile() throws {
        try withFile("port: 1\nengines: 4\nthreads: 7\nasync-scheduling: true\n") { path in
            let environment = ["TANDEM_PORT": "2", "TANDEM_ENGINES": "5", "TANDEM_MAX_NUM_SEQS": ""]
            let result = try configuration(
                ["--port", "3", "--config", path, "--no-async-scheduling"], environment: environment)
            #expect(result.port == 3)
            #expect(result.models[0].engines == 5)
            #expect(result.models[0].threads == 7)
            #expect(!result.models[0].asynchronousScheduling)
            #expect(result.models[0].maximumSequences == ModelSettings().maximumSequences)
            // The file itself can be named by the environment.
            #expect(try configuration(environment: ["TANDEM_CONFIG": path]).models[0].threads == 7)
        }
    }

    @Test func aCertificateAndItsKeyGoTogether() throws {
        try withFile("tls-certificate: c.pem\ntls-key: nowhere\n") { path in
            let result = try configuration(["--config", path], environment: ["TANDEM_TLS_KEY": "k.pem"])
            #expect(result.tlsCertificate == "c.pem" && result.tlsKey == "k.pem")
        }
        #expect(failure(["--tls-certificate", "c"])?.source == "--tls-certificate")
        #expect(failure(["--tls-certificate", "c"])?.reason.contains("tls-key") == true)
        #expect(failure(environment: ["TANDEM_TLS_KEY": "k"])?.source == "environment variable TANDEM_TLS_KEY")
    }

    @Test func everyKeyIsAFlag() throws {
        // `ServeFlags.given` and the key list are written by hand; this keeps them together.
        let help = ServeFlags.helpMessage(columns: 120)
        for key in ServeConfiguration.keys where key != "model" { #expect(help.contains("--\(key)"), "\(key)") }
    }

    @Test func everyKeyIsDocumented() throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
            "../../docs/configuration.md")
        let text = try String(contentsOf: path, encoding: .utf8)
        for key in ServeConfiguration.keys + ModelSettings.entryKeys where !key.hasPrefix("host-stall") {
            #expect(text.contains("| `\(key)`"), "\(key)")
        }
    }

    @Test func helpIsGroupedAndShowsDefaults() {
        let help = ServeFlags.helpMessage(columns: 120)
        for title in ["SERVER:", "ENGINES:", "LIMITS OF AN ENGINE:", "OTHER:"] { #expect(help.contains(title)) }
        #expect(help.contains("(default: 8000)"))
        #expect(help.contains("--async-scheduling/--no-async-scheduling"))
    }

    @Test(arguments: [
        (["--port", "70000"], "--port", "from 0 to 65535"), (["--port", "80x"], "--port", "80x"),
        (["--engines", "0"], "--engines", "from 1"), (["--threads", "-1"], "--threads", "from 1"),
        (["--cpu-compute", "fp4"], "--cpu-compute", "auto, f32, bf16, int8"),
        (["--load-format", "pt"], "--load-format", "auto, dummy"),
        (["--ablation", "none"], "--ablation", "full, attentionOnly, mlpOnly"),
        (["--kv-cache-memory", "much"], "--kv-cache-memory", "512MiB"),
        (["--shutdown-timeout", "soon"], "--shutdown-timeout", "30s"),
        (["--host-stall-per-step", "2s"], "--host-stall-per-step", "at most a second"),
        (["--log-level", "loud"], "--log-level", "debug, info"),
        (["--device", "cuda:first"], "--device", "name one GPU"),
        (["--device", "cuda:"], "--device", "name one GPU"), (["--device", "cuda:-1"], "--device", "name one GPU"),
        (["--gpu-memory-fraction", "1.5"], "--gpu-memory-fraction", "no share such as 0.9"),
        (["--gpu-memory-fraction", "nan"], "--gpu-memory-fraction", "no share such as 0.9"),
        (["--gpu-weights", "both"], "--gpu-weights", "shared"),
        (["--device", "simulated:"], "--device", "simulated:h100"),
        (["--simulated-model", "qwen2.5-3b"], "--simulated-model", "only with --device simulated:NAME"),
        (["--device", "tpu"], "--device", "auto, cpu, cuda:INDEX"), (["--mps", "on"], "--mps", "NVIDIA GPU"),
        (["--mps", "maybe"], "--mps", "external"),
        (["--config", "/nonexistent.yaml"], "/nonexistent.yaml", "No such file"),
    ])
    func badFlagIsNamedWithTheRemedy(arguments: [String], source: String, reason: String) throws {
        // `=` so that values with a dash are values.
        let joined = ["\(arguments[0])=\(arguments[1])"]
        let error = try #require(failure(joined))
        #expect(error.source == source)
        #expect(error.reason.contains(reason), "\(error)")
    }

    @Test func ownEnginesTakeAGPU() throws {
        #expect(try configuration([]).device == .automatic)
        #expect(try configuration(["--device", "cpu"]).device == .cpu)
        let indexed = try configuration(
            ["--device", "cuda:1", "--gpu-memory-fraction", "0.5", "--deterministic", "--mps", "on"])
        #expect(indexed.device == .cuda("1") && indexed.sharedGPU == "1")
        #expect(indexed.gpuMemoryFraction == 0.5 && indexed.isDeterministic && indexed.mps == .on)
        #expect(try configuration(["--device", "cuda:GPU-12ab"]).device == .cuda("GPU-12ab"))
        let sharing = try configuration(["--device", "cuda:0", "--gpu-weights", "shared"])
        #expect(sharing.gpuWeights == .shared && sharing.sharesGPUWeights)
        #expect(try !configuration(["--device", "cuda:0", "--gpu-weights", "private"]).sharesGPUWeights)
        #expect(
            try configuration(["--device", "cuda:0"]).sharesGPUWeights == ServeConfiguration.sharesGPUWeightsByDefault)
        for device in ["cpu", "simulated:h100"] {
            let error = failure(["--device", device, "--gpu-weights", "shared-by-mps"])
            #expect(error?.source == "--gpu-weights" && error?.reason.contains("--device cuda:") == true)
        }
        // An external engine's GPU is its own business.
        #expect(try configuration(["--engine", "vllm", "--device", "cuda:0"]).device == .automatic)
    }

    @Test func badEnvironmentIsNamed() throws {
        let error = try #require(failure(environment: ["TANDEM_MAX_MODEL_LEN": "long"]))
        #expect(error.source == "environment variable TANDEM_MAX_MODEL_LEN")
    }
}

@Suite struct ConfigurationFileTests {
    private func values(_ yaml: String) throws(ConfigurationError) -> [String: String] {
        try ConfigurationFile(name: "t.yaml", yaml: yaml, keys: ["port", "model", "flag"]).values
    }

    @Test func plainValuesAreTexts() throws {
        #expect(
            try values("# comment\nport: 8000\nmodel: \"a b\"\nflag: true\n")
                == ["port": "8000", "model": "a b", "flag": "true"])
        #expect(try values("") == [:])
        #expect(try values("# nothing\n") == [:])
        #expect(try values("port: null\nmodel:\nflag: ~") == [:])
    }

    @Test(arguments: [
        ("prot: 1", "unknown key \"prot\" in line 1; known keys are port, model, flag"),
        ("port: [1, 2]", "single value"), ("port: {a: 1}", "single value"), ("- port", "port: 8000"),
        ("just text", "port: 8000"), ("port: 1\nport: 2", "not valid YAML"), ("port: \"open", "not valid YAML"),
    ])
    func badFileIsRefusedByName(yaml: String, reason: String) {
        do throws(ConfigurationError) {
            _ = try values(yaml)
            Issue.record("accepted")
        } catch {
            #expect(error.source.hasPrefix("t.yaml"))
            #expect(error.reason.contains(reason), "\(error)")
        }
    }

    @Test func badValueNamesFileAndKey() throws {
        try withFile("port: high\n") { path in
            let found = failure(["--config", path])
            #expect(found?.source == "\(path): port")
        }
        try withFile("host: \"\"\n") { path in
            #expect(failure(["--config", path])?.reason == "it is empty")
        }
    }
}

@Suite struct QuantityTests {
    @Test(
        arguments: [
            ("1", 1), ("1000000000", 1_000_000_000), ("512MiB", 512 << 20), ("2GiB", 2 << 30), ("2 g", 2 << 30),
            ("1.5GiB", 3 << 29), ("1GB", 1_000_000_000), ("4k", 4096),
        ] as [(String, UInt64)])
    func sizes(text: String, bytes: UInt64) {
        #expect(ByteCount.parse(text) == bytes)
    }

    @Test(arguments: ["", "MiB", "-1", "1XB", "1e999", "99999999TiB", "1..2", "nan", "inf"])
    func badSizes(text: String) {
        #expect(ByteCount.parse(text) == nil)
    }

    @Test func times() {
        #expect(TimeSpan.parse("30") == .seconds(30))
        #expect(TimeSpan.parse("0.5s") == .milliseconds(500))
        #expect(TimeSpan.parse("2m") == .seconds(120))
        #expect(TimeSpan.parse("0") == .zero)
        #expect(TimeSpan.parse("25h") == nil)
        #expect(TimeSpan.parse("1 day") == nil)
    }

    @Test func originsAreRead() throws {
        for (text, expected) in [
            ("*", ["*"]), ("[\"*\"]", ["*"]), ("", []),
            ("https://a.example, http://localhost:3000", ["https://a.example", "http://localhost:3000"]),
            ("[\"https://a.example\", \"http://[::1]:80\"]", ["https://a.example", "http://[::1]:80"]),
        ] {
            #expect(try OriginList.origins(text, source: "x") == expected, "\(text)")
        }
        for text in ["example.org", "https://", "https://a.example/path", "://a", "\"", "https://a b"] {
            let error = #expect(throws: ConfigurationError.self) { try OriginList.origins(text, source: "--o") }
            #expect(error?.description.hasPrefix("--o: ") == true)
        }
        let settings = try ServeConfiguration(flags: ["allowed-origins": "https://a.example"], environment: [:])
        #expect(settings.allowedOrigins == ["https://a.example"])
    }
}
