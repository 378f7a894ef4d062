// Tandem — Apache-2.0

import Foundation
import TestSupport
import Testing
import Weights

/// The default model itself, where it is at hand.
@Suite struct ModelTests {
    @Test func theDefaultModelIsRead() throws {
        guard let path = try ModelFixture.path() else { return }
        let file = try GGUFFile(path: path)
        #expect(file.version == 3)
        #expect(file.alignment == 32)
        #expect(file.metadata.string("general.architecture") == "llama")
        #expect(file.metadata.unsigned("llama.block_count") == 30)
        #expect(file.metadata.float("llama.attention.layer_norm_rms_epsilon") == 1e-5)
        #expect(file.metadata.bool("tokenizer.ggml.add_bos_token") == false)
        #expect(file.metadata.strings("tokenizer.ggml.tokens")?.count == 49152)
        #expect(file.metadata.strings("tokenizer.ggml.merges")?.count == 48900)
        #expect(file.metadata.integers("tokenizer.ggml.token_type")?.count == 49152)
        #expect(file.metadata.strings("tokenizer.ggml.tokens")?[1] == "<|im_start|>")

        #expect(file.tensors.count == 272)
        let byType = Dictionary(grouping: file.tensors, by: \.type.name).mapValues(\.count)
        #expect(byType == ["Q4_1": 210, "Q8_0": 1, "F32": 61])
        let embedding = try #require(file.tensor(named: "token_embd.weight"))
        #expect(embedding.type == .q8_0)
        #expect(embedding.shape == [576, 49152])
        let query = try #require(file.tensor(named: "blk.0.attn_q.weight"))
        #expect(query.type == .q4_1)
        #expect(query.shape == [576, 576])
        let parameters = file.tensors.reduce(0) { $0 + $1.elementCount }
        #expect(parameters == 134_515_008)
        // Weights of a trained model are finite, centred and small.
        let values = file.floats(of: query)
        let mean = values.reduce(0, +) / Float(values.count)
        #expect(values.allSatisfy { $0.magnitude < 10 })
        #expect(mean.magnitude < 0.01)
    }
}
