// Tandem — Apache-2.0

import LanguageModel
import Requests
import Testing

@testable import CPUExecutor

@Suite struct ModelFingerprintTests {
    static let changes: [(String, @Sendable (inout DecoderDescription) -> Void)] = [
        ("epsilon", { $0.normEpsilon *= 2 }),
        ("norm offset", { $0.normOffset = 1 }),
        ("embedding scale", { $0.embeddingScale = 8 }),
        ("rotary base", { $0.ropes[0].base = 1e6 }),
        ("rotary layout", { $0.ropes[0].fileLayout = .halfSplit }),
        ("rotary dimensions", { $0.ropes[0].dimensions = 8 }),
        ("linear scaling", { $0.ropes[0].scaling = .linear(factor: 8) }),
        ("another factor", { $0.ropes[0].scaling = .linear(factor: 4) }),
        (
            "scaling as Llama 3's",
            {
                $0.ropes[0].scaling = .llama3(
                    factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 8192)
            }
        ),
        ("another rotary embedding", { $0.ropes.append($0.ropes[0]) }),
        ("a window", { $0.layers[0].window = 16 }),
        ("another window", { $0.layers[0].window = 17 }),
        ("the other layer's window", { $0.layers[1].window = 16 }),
        ("attention scale", { $0.layers[1].attentionScale = 0.5 }),
        ("activation", { $0.layers[0].activation = .geluTanh }),
        ("bias", { $0.layers[0].queryKeyValueBias = true }),
        ("head norms", { $0.layers[0].queryKeyNorm = true }),
        ("norm after attention", { $0.layers[0].postAttentionNorm = true }),
        ("norm after the feed-forward block", { $0.layers[0].postFeedForwardNorm = true }),
        ("heads", { $0.keyValueHeads = 1 }),
        ("head", { $0.tiedHead = false }),
    ]

    @Test func everyChangeThatChangesResultsShows() throws {
        let file = try TinyModel().file()
        let model = try DecoderDescription(gguf: file)
        let plain = ModelFingerprint.weights(model: model, file: file)
        #expect(plain == ModelFingerprint.weights(model: model, file: file))
        var seen: [Digest128: String] = [plain: "no change"]
        for (name, change) in Self.changes {
            var changed = model
            change(&changed)
            let digest = ModelFingerprint.weights(model: changed, file: file)
            #expect(seen[digest] == nil, "\(name) looks like \(seen[digest] ?? "")")
            seen[digest] = name
        }
    }
}
