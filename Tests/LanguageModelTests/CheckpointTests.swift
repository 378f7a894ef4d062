// Tandem — Apache-2.0

import Foundation
import LanguageModel
import TestSupport
import Testing
import Weights

@Suite struct CheckpointTests {
    static let fixtures = [
        "gemma3-mm", "gemma3-text", "llama-tied", "llama3-rope-untied", "qwen2-tied", "qwen2-untied", "qwen3-tied",
        "qwen3-untied",
    ]

    static func path(_ fixture: String) -> String { ModelFixture.fixturePath("tiny/\(fixture)") }

    /// A directory that lives as long as this object.
    final class Directory {
        let path = NSTemporaryDirectory() + "tandem-\(UUID().uuidString)"

        init(copying fixture: String? = nil, _ names: [String] = []) throws {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            for name in names {
                try FileManager.default.copyItem(
                    atPath: CheckpointTests.path(fixture ?? "") + "/" + name, toPath: path + "/" + name)
            }
        }

        func write(_ name: String, _ bytes: some Sequence<UInt8>) throws {
            try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + name))
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    @Test(arguments: fixtures) func directoriesOpenWithAllTheirTensors(fixture: String) throws {
        let checkpoint = try Checkpoint(path: Self.path(fixture))
        #expect(checkpoint.gguf == nil && checkpoint.description.name == fixture && !checkpoint.hasTokenizer)
        let prefix = fixture == "gemma3-mm" ? "language_model.model." : "model."
        #expect(
            checkpoint.description == (try ModelConfigurationTests.describe(fixture: fixture, prefix: prefix)))
        let embedding = try #require(checkpoint.tensors.tensor(named: prefix + "embed_tokens.weight"))
        #expect(embedding.shape == [64, 320] && embedding.type == .bf16)
        #expect(checkpoint.generation.endTokens == (fixture.hasPrefix("gemma3") ? [1] : [2]))
        // Matrices, norms and biases of the decoder: all that is stored, but for an image tower.
        let stored = checkpoint.tensors.tensors.filter { $0.name.hasPrefix(prefix) || $0.name == "lm_head.weight" }
        #expect(checkpoint.description.parameterCount == stored.reduce(0) { $0 + $1.elementCount })
        for ablation in Ablation.allCases {
            #expect(try Checkpoint(path: Self.path(fixture), ablation: ablation).description.ablation == ablation)
        }
    }

    @Test func aConfigurationIsEnoughForDummyNumbers() throws {
        let directory = try Directory(copying: "qwen2-untied", ["config.json"])
        #expect(throws: LanguageModelError.self) { try Checkpoint(path: directory.path) }
        let checkpoint = try Checkpoint(path: directory.path, loadFormat: .dummy)
        #expect(checkpoint.tensors.tensors.count == checkpoint.description.roles.count)
        try checkpoint.description.validate(against: checkpoint.tensors)
        let head = try #require(checkpoint.tensors.tensor(named: "lm_head.weight"))
        #expect(head.type == .bf16 && checkpoint.tensors.floats(of: head).allSatisfy { abs($0) <= 1e-3 })
        #expect(checkpoint.generation.endTokens == [2])
    }

    @Test func generationDefaultsAreReadAndChecked() throws {
        let directory = try Directory(copying: "llama-tied", ["config.json"])
        let open = { try Checkpoint(path: directory.path, loadFormat: .dummy).generation }
        try directory.write(
            "generation_config.json",
            Array(
                """
                {"eos_token_id": [7, 2], "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05,
                 "do_sample": true}
                """.utf8))
        var expected = GenerationDefaults()
        expected.endTokens = [7, 2]
        expected.temperature = 0.7
        expected.topP = 0.8
        expected.topK = 20
        expected.repetitionPenalty = 1.05
        #expect(try open() == expected)
        for (text, reason) in [
            (#"{"eos_token_id": "x"}"#, "eos_token_id"), (#"{"eos_token_id": -1}"#, "eos_token_id"),
            (#"{"temperature": -1}"#, "temperature"), (#"{"top_k": 1.5}"#, "top_k"), ("[]", "no JSON object"),
            (#"{"top_p": }"#, "byte 10"),
        ] {
            try directory.write("generation_config.json", Array(text.utf8))
            let error = #expect(throws: LanguageModelError.self) { try open() }
            #expect("\(try #require(error))".contains("generation_config.json: "))
            #expect("\(try #require(error))".contains(reason))
        }
    }

    @Test func aDirectoryWithOneGGUFFileIsThatFile() throws {
        let directory = try Directory()
        func error() throws -> String {
            "\(try #require(#expect(throws: LanguageModelError.self) { try Checkpoint(path: directory.path) }))"
        }
        #expect(try error().contains("neither a config.json nor a GGUF file"))
        try directory.write("a.gguf", TinyGGUF().bytes())
        let checkpoint = try Checkpoint(path: directory.path)
        #expect(checkpoint.path == directory.path + "/a.gguf" && checkpoint.gguf != nil && checkpoint.hasTokenizer)
        #expect(checkpoint.description == (try TinyGGUF().describe()))
        #expect(throws: LanguageModelError.self) { try Checkpoint(path: checkpoint.path, loadFormat: .dummy) }
        try directory.write("b.GGUF", [])
        #expect(try error().contains("it holds 2 GGUF files, a.gguf, b.GGUF"))
    }

    @Test func aTensorThatCannotBeReadIsNotCalledMissing() throws {
        let directory = try Directory(copying: "llama-tied", ["config.json"])
        var builder = SafetensorsBuilder()
        builder.addTensor(
            "model.embed_tokens.weight", dtype: "I64", shape: "[1]", bytes: [UInt8](repeating: 0, count: 8))
        let source = try SafetensorsFile(bytes: builder.build(), name: "odd.safetensors")
        let model = try ModelConfiguration(path: directory.path + "/config.json").description(name: "tiny")
        let error = #expect(throws: LanguageModelError.self) { try model.validate(against: source) }
        #expect(try #require(error).reason.contains("dtype \"I64\""))
    }

    @Test func whatIsWrongWithADirectoryIsSaid() throws {
        let directory = try Directory(copying: "llama-tied", ["config.json", "model.safetensors"])
        func error() throws -> String {
            "\(try #require(#expect(throws: LanguageModelError.self) { try Checkpoint(path: directory.path) }))"
        }
        let text = try String(contentsOfFile: directory.path + "/config.json", encoding: .utf8)
        for (old, new, reason) in [
            (
                "\"intermediate_size\": 160", "\"intermediate_size\": 161",
                "mlp.gate_proj.weight: expected the shape [64, 161]"
            ),
            ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "model.layers.2.input_layernorm.weight: missing"),
            ("LlamaForCausalLM", "Qwen2ForCausalLM", "self_attn.q_proj.bias: missing"),
            ("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", "lm_head.weight: missing"),
        ] {
            try directory.write("config.json", Array(text.replacingOccurrences(of: old, with: new).utf8))
            let found = try error()
            #expect(found.contains(reason), "\(found)")
        }
        // Tensors of a layer that nothing would read.
        let qwen = try Directory(copying: "qwen2-tied", ["config.json", "model.safetensors"])
        let other = try String(contentsOfFile: qwen.path + "/config.json", encoding: .utf8)
        try qwen.write(
            "config.json", Array(other.replacingOccurrences(of: "Qwen2ForCausalLM", with: "LlamaForCausalLM").utf8))
        let refusal = #expect(throws: LanguageModelError.self) { try Checkpoint(path: qwen.path) }
        #expect(try #require(refusal).subject.hasSuffix("_proj.bias"))
    }
}
