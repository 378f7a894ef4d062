// Tandem — Apache-2.0

import ArgumentParser
import Foundation
import Testing

@testable import Configuration

@Suite struct ExternalEngineTests {
    private func configuration(
        _ arguments: [String], environment: [String: String] = [:]
    ) throws -> ServeConfiguration {
        try ServeFlags.parse(arguments).configuration(environment: environment)
    }

    private func failure(_ arguments: [String], environment: [String: String] = [:]) -> ConfigurationError? {
        do {
            _ = try configuration(arguments, environment: environment)
            return nil
        } catch { return error as? ConfigurationError }
    }

    private func withFile<Result>(_ text: String, _ body: (String) throws -> Result) throws -> Result {
        let path = NSTemporaryDirectory() + "/tandem-test-\(UUID().uuidString).yaml"
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try body(path)
    }

    private func words(_ settings: ModelSettings) -> [String]? {
        settings.external?.command.command { "<\($0.rawValue)>" }.words
    }

    @Test func ownEnginesAreTheDefault() throws {
        #expect(try configuration([]).models[0].external == nil)
        #expect(try configuration(["--engine", "tandem"]).models[0].external == nil)
    }

    /// Flags win over the environment, which wins over the file.
    @Test func tandemsOwnEnginesCanBeChosenOverACommand() throws {
        let found = try withFile("engine-command: serve --port {port}\n") { path in
            let file = ["m", "--config", path]
            return [
                try configuration(file), try configuration(file + ["--engine", "tandem"]),
                try configuration(file, environment: ["TANDEM_ENGINE": "tandem"]),
            ].map { $0.models[0].external != nil }
        }
        #expect(found == [true, false, false])
        let command = ["m", "--engine-command", "serve --port {port}"]
        #expect(try configuration(command, environment: ["TANDEM_ENGINE": "tandem"]).models[0].external != nil)
        #expect(failure(command + ["--engine", "tandem"])?.reason.contains("take one of both") == true)
    }

    @Test func presetsAreCommands() throws {
        let vllm = try configuration(["m", "--engine", "vllm", "--engine-arguments", "--max-model-len 4096"])
        #expect(
            words(vllm.models[0]) == [
                "vllm", "serve", "<model>", "--host", "<host>", "--port", "<port>", "--served-model-name", "<name>",
                "--gpu-memory-utilization", "<memory-fraction>", "--max-model-len", "4096",
            ])
        #expect(vllm.models[0].external?.memoryFraction.description == "0.45")
        #expect(vllm.models[0].external?.preset == .vllm)
        #expect(vllm.engineStartTimeout == .seconds(600) && vllm.enginePortBase == nil)
        for preset in EngineSetting.allCases where preset != .tandem {
            let settings = try configuration(["m", "--engine", preset.rawValue])
            #expect(settings.models[0].external?.command.placeholders.isSuperset(of: [.port, .model, .name]) == true)
        }
    }

    @Test func flagsVariablesAndFilesAreEqual() throws {
        let arguments = [
            "--engine-command", "run {port} {memory-fraction}", "--engines", "3", "--engine-memory-fraction", "0.6",
            "--engine-port-base", "9000", "--engine-start-timeout", "90s", "--device", "cuda:GPU-1-2",
        ]
        let result = try configuration(arguments)
        let external = try #require(result.models[0].external)
        #expect(external.memoryFraction.description == "0.2" && external.gpu == "GPU-1-2" && external.preset == nil)
        #expect(result.enginePortBase == 9000 && result.engineStartTimeout == .seconds(90))
        #expect(result.externalEngines == [0, 1, 2])
        let fromVariables = try configuration(
            [],
            environment: [
                "TANDEM_ENGINE_COMMAND": "run {port} {memory-fraction}", "TANDEM_ENGINES": "3",
                "TANDEM_ENGINE_MEMORY_FRACTION": "0.6", "TANDEM_ENGINE_PORT_BASE": "9000",
                "TANDEM_ENGINE_START_TIMEOUT": "90s", "TANDEM_DEVICE": "cuda:GPU-1-2",
            ])
        #expect(fromVariables == result)
        let text = """
            engine-command: run {port} {memory-fraction}
            engines: 3
            engine-memory-fraction: 0.6
            engine-port-base: 9000
            engine-start-timeout: 90s
            device: cuda:GPU-1-2
            """
        let fromFile = try withFile(text) { try configuration(["--config", $0]) }
        #expect(fromFile == result)
    }

    @Test func modelsOfAListMayDiffer() throws {
        let text = """
            engine: vllm
            max-num-seqs: 7
            models:
              - model: a
                engine-memory-fraction: 0.5
              - model: b
                engine: tandem
                engines: 3
              - engine-command: run {port}
                name: c
                engines: 1
            """
        try withFile(text) { path in
            let result = try configuration(["--config", path])
            #expect(result.models.map { $0.external?.command.program } == ["vllm", nil, "run"])
            #expect(result.models[0].external?.memoryFraction.description == "0.25")
            #expect(result.externalEngines == [0, 1, 5])
        }
        let more = "    engine-memory-fraction: 0.5\n  - model: d\n    engine: sglang\n"
        try withFile(text.replacingOccurrences(of: "    engine-memory-fraction: 0.5\n", with: more)) {
            #expect(failure(["--config", $0])?.description.contains("would take 140 % of the GPU's memory") == true)
        }
        try withFile(text.replacingOccurrences(of: "name: c", with: "max-num-seqs: 3")) {
            #expect(failure(["--config", $0])?.source.hasSuffix("models[2].max-num-seqs") == true)
        }
        try withFile(text.replacingOccurrences(of: "name: c", with: "aliases: [x]")) {
            #expect(failure(["--config", $0])?.source.hasSuffix("models[2].aliases") == true)
        }
    }

    @Test(arguments: [
        (["--engine-command", "run {prot}"], "--engine-command: at character 5: {prot} is unknown"),
        (["--engine-command", "run 8000"], "--engine-command: it has no {port}"),
        (["--engine", "vllm", "--engine-arguments", "'x"], "--engine-arguments: at character 1: the quote"),
        (["--engine", "vllm", "--engine-command", "run {port}"], "so does --engine vllm"),
        (["--engine", "ollama"], "\"ollama\" is none of tandem, vllm, sglang, llama-server"),
        (["--engine-arguments", "x"], "--engine-arguments: it is for engines of --engine"),
        (["--engine-memory-fraction", "0.5"], "--engine-memory-fraction: it is for engines of --engine"),
        (["--engine-port-base", "9"], "--engine-port-base: it is for engines of --engine"),
        (["--engine-command", "run {port}", "--engine-memory-fraction", "0.5"], "no {memory-fraction}"),
        (["--engine", "vllm", "--engine-memory-fraction", "1.5"], "no share such as 0.9"),
        (["--engine", "vllm", "--engine-memory-fraction", "nan"], "no share such as 0.9"),
        (["--engine", "vllm", "--engine-memory-fraction", "0.0001"], "too little for 2 engines"),
        (["--engine", "vllm", "--max-model-len", "9"], "--max-model-len: it is for Tandem's own engines"),
        (["--engine", "vllm", "--engine-start-timeout", "10ms"], "--engine-start-timeout: at least 1s"),
        (["--engine", "vllm", "--engine-port-base", "65535"], "there are no 2 ports"),
        (["--engine", "vllm", "--engine-port-base", "7999"], "overlap with --port"),
        (["--engine", "vllm", "--device", "cuda:"], "name one GPU"),
        (["--device", "cuda:x"], "name one GPU"),
    ])
    func whatCannotBeIsRefused(_ arguments: [String], reason: String) {
        let text = failure(arguments)?.description ?? "nothing"
        #expect(text.contains(reason), "\(text)")
    }
}
