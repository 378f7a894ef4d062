// Tandem — Apache-2.0

import EngineHost
import EngineLink
import Foundation
import LanguageModel
import NIOCore
import NIOPosix
import Requests
import TestSupport
import Testing
import Tokenization
import Weights

/// The whole engine with the real model, if there is one.
@Suite(.timeLimit(.minutes(10))) struct EngineHostTests {
    @Test func cpuEngineServesTheModel() async throws {
        guard let model = try ModelFixture.path() else { return }
        let directory = NSTemporaryDirectory() + "tandem-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var options = EngineHostOptions(
            modelPath: model,
            addresses: [.unix(path: directory + "/engine.sock")],
            keyValueBytes: 32 << 20
        )
        options.maximumSequences = 4
        options.contextLength = 256
        options.maximumTokensPerStep = 64
        options.tokenizerFingerprint = testTokenizer
        let process = try EngineHost.start(options, on: MultiThreadedEventLoopGroup.singleton) { print($1) }
        defer { process.shutdown() }
        let service = try #require(process.services.first)
        #expect(service.hello.device.hasPrefix("cpu ("))
        let gateway = TestGateway(service.address)
        let hello = try await gateway.opened()
        #expect(hello.maximumContextLength == 256)
        #expect(hello.keyValueBlocks > 0)
        let request = EngineRequest(
            id: 1,
            tokens: [1, 504, 260, 1343, 30],
            maximumNewTokens: 8,
            logProbabilities: 2
        )
        let first = try await gateway.answer(request)
        #expect(first.finish == .length)
        #expect(first.tokens.count == 8)
        #expect(first.tokens.allSatisfy { (0..<TokenID(hello.vocabularySize)).contains($0) })
        // Alone or beside others, the same tokens.
        for id in 2...4 {
            var copy = request
            copy.id = RequestID(id)
            gateway.client.send(.submit(copy))
        }
        let others = try await gateway.answers { answers in (2...4).allSatisfy { answers[$0]?.finish != nil } }
        for id in 2...4 { #expect(others[RequestID(id)]?.tokens == first.tokens) }
    }

    @Test func unusableModelIsAPermanentError() throws {
        let path = NSTemporaryDirectory() + "tandem-\(UUID().uuidString.prefix(8)).gguf"
        try Data("GGUF, or not".utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        for model in [path, path + ".missing"] {
            let options = EngineHostOptions(
                modelPath: model, addresses: [.unix(path: path + ".sock")], keyValueBytes: 1)
            let error = #expect(throws: EngineHostError.self) {
                try EngineHost.start(options, on: MultiThreadedEventLoopGroup.singleton) { _, _ in }
            }
            #expect(error?.isPermanent == true)
            #expect(error?.message.contains(model) == true)
        }
    }

    @Test func gatewayAndEngineComeToTheSameTokenizerFingerprint() throws {
        guard let model = try ModelFixture.path() else { return }
        let checkpoint = try Checkpoint(path: model)
        let gguf = try #require(checkpoint.gguf)
        let expected = try Tokenizer(gguf: gguf).fingerprint
        #expect(try TokenizerFingerprint.of(checkpoint) == expected)
        // Given as another model's tokenizer, too.
        #expect(try TokenizerFingerprint.of(checkpoint, tokenizerPath: model) == expected)
    }

    @Test func fingerprintOfADirectorysTokenizer() throws {
        let path = NSTemporaryDirectory() + "tandem-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try FileManager.default.copyItem(
            atPath: ModelFixture.fixturePath("tiny/llama-tied/config.json"), toPath: path + "/config.json")
        let checkpoint = try Checkpoint(path: path, loadFormat: .dummy)
        #expect(throws: WeightsError.self) { try TokenizerFingerprint.of(checkpoint) }
        let json = """
            {"added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
             "trim_offsets": true, "use_regex": true}, "post_processor": null, "decoder": {"type": "ByteLevel"},
             "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}
            """
        try Data(json.utf8).write(to: URL(fileURLWithPath: path + "/tokenizer.json"))
        let expected = try Tokenizer(directory: path).fingerprint
        #expect(try TokenizerFingerprint.of(checkpoint) == expected)
        #expect(try TokenizerFingerprint.of(checkpoint, tokenizerPath: path + "/tokenizer.json") == expected)
        // The configuration beside it changes nothing, its bytes do.
        try Data((json + "\n").utf8).write(to: URL(fileURLWithPath: path + "/tokenizer.json"))
        #expect(try TokenizerFingerprint.of(checkpoint) != expected)
    }
}
