// Tandem — Apache-2.0

import Glibc
import LanguageModel
import TestSupport
import Testing
import Weights

/// Costs of three published models, each number derived here from the sizes in their papers and files.
@Suite struct ModelCostsTests {
    static func describe(_ architecture: String, _ rest: String) throws -> DecoderDescription {
        try ModelConfigurationTests.describe(#"{"architectures": ["\#(architecture)"], \#(rest)}"#)
    }

    static func smolLM2() throws -> DecoderDescription {
        try describe(
            "LlamaForCausalLM",
            """
            "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "max_position_embeddings": 8192, "vocab_size": 49152, "rope_theta": 100000,
            "tie_word_embeddings": true
            """)
    }

    static func qwen(tied: Bool) throws -> DecoderDescription {
        try describe(
            "Qwen2ForCausalLM",
            """
            "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "max_position_embeddings": 32768, "vocab_size": 151936, "rope_theta": 1000000,
            "tie_word_embeddings": \(tied)
            """)
    }

    static func gemma() throws -> DecoderDescription {
        try describe(
            "Gemma3ForCausalLM",
            """
            "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4,
            "num_key_value_heads": 1, "max_position_embeddings": 32768, "vocab_size": 262144, "sliding_window": 512
            """)
    }

    /// Weights of the matrices of one layer, attention's and the feed-forward block's.
    struct Matrices {
        var attention: Int
        var feedForward: Int
        var layers: Int
        var head: Int
    }

    /// 576·(576 + 192 + 192 + 576) and 3·576·1536, and so on.
    static let smolLM2Matrices = Matrices(attention: 884_736, feedForward: 2_654_208, layers: 30, head: 28_311_552)
    static let qwenMatrices = Matrices(attention: 1_835_008, feedForward: 13_074_432, layers: 24, head: 136_134_656)
    static let gemmaMatrices = Matrices(attention: 1_638_400, feedForward: 3_932_160, layers: 18, head: 167_772_160)

    @Test func parameters() throws {
        #expect(try Self.smolLM2().parameterCount == 28_311_552 + 30 * (884_736 + 2_654_208 + 2 * 576) + 576)
        // As published: 494 million, of which 136 are the embedding; 1152 of a layer's are biases.
        #expect(
            try Self.qwen(tied: true).parameterCount == 136_134_656 + 24 * (14_909_440 + 1152 + 2 * 896) + 896)
        #expect(try Self.qwen(tied: true).parameterCount == 494_032_768)
        #expect(try Self.qwen(tied: false).parameterCount == 494_032_768 + 136_134_656)
        // Four norms of 640 and two of 256 in a layer. Published: 268 million, 168 of them in the embedding.
        #expect(try Self.gemma().parameterCount == 167_772_160 + 18 * (5_570_560 + 4 * 640 + 2 * 256) + 640)
    }

    @Test func operations() throws {
        for (model, matrices) in try [
            (Self.smolLM2(), Self.smolLM2Matrices), (Self.qwen(tied: true), Self.qwenMatrices),
            (Self.qwen(tied: false), Self.qwenMatrices), (Self.gemma(), Self.gemmaMatrices),
        ] {
            let (attention, feedForward) = (
                matrices.layers * matrices.attention, matrices.layers * matrices.feedForward
            )
            #expect(model.flopsPerToken(head: false) == 2 * (attention + feedForward))
            #expect(model.flopsPerToken(head: true) == 2 * (attention + feedForward + matrices.head))
            var ablated = model
            ablated.ablation = .attentionOnly
            #expect(ablated.flopsPerToken(head: true) == 2 * (attention + matrices.head))
            #expect(
                ablated.flopsPerToken(head: false, context: 3000) - 2 * attention
                    == model.flopsPerToken(head: false, context: 3000) - 2 * (attention + feedForward))
            ablated.ablation = .mlpOnly
            #expect(ablated.flopsPerToken(head: true, context: 3000) == 2 * (feedForward + matrices.head))
        }
        // Queries of 1024 elements, four operations for each and each key; three of 18 layers see all keys.
        let gemma = try Self.gemma()
        #expect(
            gemma.flopsPerToken(head: false, context: 2000) - gemma.flopsPerToken(head: false)
                == 4 * 1024 * (15 * 512 + 3 * 2000))
        // Rounded figures that are often quoted: 0.269, 0.99 and 0.536 GFLOP.
        #expect((268_000_000...270_000_000).contains(try Self.smolLM2().flopsPerToken(head: true)))
        #expect((985_000_000...995_000_000).contains(try Self.qwen(tied: false).flopsPerToken(head: true)))
        #expect((535_000_000...537_000_000).contains(gemma.flopsPerToken(head: true)))
    }

    @Test func keysAndValues() throws {
        #expect(try Self.smolLM2().kvBytesPerToken(elementBytes: 2) == 30 * 2 * 192 * 2)
        #expect(try Self.qwen(tied: true).kvBytesPerToken(elementBytes: 2) == 24 * 2 * 128 * 2)
        var gemma = try Self.gemma()
        #expect(gemma.kvBytesPerToken(elementBytes: 2) == 18432)
        #expect(gemma.kvBytesRead(context: 100, elementBytes: 2) == 100 * 18432)
        #expect(gemma.kvBytesRead(context: 2000, elementBytes: 2) == (15 * 512 + 3 * 2000) * 1024)
        gemma.ablation = .attentionOnly
        #expect(gemma.kvBytesRead(context: 2000, elementBytes: 2) == (15 * 512 + 3 * 2000) * 1024)
        gemma.ablation = .mlpOnly
        #expect(gemma.kvBytesRead(context: 2000, elementBytes: 2) == 0)
        #expect(gemma.kvBytesPerToken(elementBytes: 2) == 18432)
    }

    @Test func rolesOfAblatedModelsAreThoseOfTheWholeModel() throws {
        for model in try [Self.smolLM2(), Self.qwen(tied: false), Self.gemma()] {
            for ablation in Ablation.allCases {
                var ablated = model
                ablated.ablation = ablation
                #expect(ablated.roles == model.roles)
                #expect(ablated.kvGroups == model.kvGroups)
                #expect(ablated.parameterCount == model.parameterCount)
            }
        }
    }

    // MARK: - The files

    /// A model file at the path in an environment variable; nil, with the reason printed, where there is none.
    static func file(_ variable: String) throws -> GGUFFile? {
        guard let path = getenv(variable).map({ String(cString: $0) }) else {
            print("skipped: no model; set \(variable) to the path of its GGUF file")
            return nil
        }
        return try GGUFFile(path: path)
    }

    /// A tensor's bytes in K-quants and their neighbours, by elements of a block and bytes of a block.
    static let q5 = (32, 22)
    static let q8 = (32, 34)
    static let q4K = (256, 144)
    static let q6K = (256, 210)

    static func bytes(_ elements: Int, _ type: (elements: Int, bytes: Int)) -> Int {
        elements / type.elements * type.bytes
    }

    @Test func theFileOfGemma() throws {
        guard let file = try Self.file("TANDEM_TEST_GEMMA") else { return }
        let model = try DecoderDescription(gguf: file)
        var expected = try Self.gemma()
        expected.name = "Gemma 3 270m"
        expected.normOffset = 0
        expected.tensorNaming = .gguf
        #expect(model == expected)
        // Values and the head in 8 bits in half of the layers, where the down projection has 6.
        let norms = 4 * (18 * (4 * 640 + 2 * 256) + 640)
        let query = Self.bytes(640 * 1024, Self.q5)
        let key = Self.bytes(640 * 256, Self.q5)
        let attention =
            18 * (query + key + Self.bytes(1024 * 640, Self.q4K)) + 9 * (key + Self.bytes(640 * 256, Self.q8))
        let feedForward =
            18 * 2 * Self.bytes(640 * 2048, Self.q5)
            + 9 * (Self.bytes(2048 * 640, Self.q6K) + Self.bytes(2048 * 640, Self.q4K))
        let head = Self.bytes(262144 * 640, Self.q8)
        #expect(model.weightBytesPerStep(in: file) == head + attention + feedForward + norms)
        let mlpOnly = try DecoderDescription(gguf: file, ablation: .mlpOnly)
        #expect(mlpOnly.weightBytesPerStep(in: file) == head + feedForward + 4 * (18 * 2 * 640 + 640))
    }

    @Test func theFileOfQwen() throws {
        guard let file = try Self.file("TANDEM_TEST_QWEN") else { return }
        let model = try DecoderDescription(gguf: file)
        var expected = try Self.qwen(tied: false)
        expected.name = "Qwen2.5 Coder 0.5B Instruct AWQ"
        expected.tensorNaming = .gguf
        #expect(model == expected)
        let small = 4 * (24 * (1152 + 2 * 896) + 896)
        let head = Self.bytes(151936 * 896, Self.q8)
        let attention =
            24 * (2 * Self.bytes(896 * 896, Self.q5) + Self.bytes(896 * 128, Self.q5))
            + 12 * (Self.bytes(896 * 128, Self.q5) + Self.bytes(896 * 128, Self.q8))
        let feedForward =
            24 * 2 * Self.bytes(896 * 4864, Self.q5)
            + 12 * (Self.bytes(4864 * 896, Self.q6K) + Self.bytes(4864 * 896, Self.q4K))
        #expect(model.weightBytesPerStep(in: file) == head + attention + feedForward + small)
        let attentionOnly = try DecoderDescription(gguf: file, ablation: .attentionOnly)
        #expect(attentionOnly.weightBytesPerStep(in: file) == head + attention + 4 * (24 * (1152 + 896) + 896))
    }
}
