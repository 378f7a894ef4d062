// Tandem — Apache-2.0

public import LanguageModel

/// Published models by name, so that advice needs no file.
///
/// Sizes are those of the publishers' `config.json` on Hugging Face, in the repository named with each.
public struct BuiltInModel: Sendable, Equatable {
    /// `qwen2.5-0.5b`.
    public let name: String
    /// Where the sizes are from.
    public let source: String
    public let description: DecoderDescription

    /// All of them, families together.
    public static let all: [BuiltInModel] = rows.map(BuiltInModel.init)

    /// The model of a name, written as here or as publishers do: `Qwen/Qwen2.5-0.5B-Instruct`.
    public static func named(_ name: String) -> BuiltInModel? {
        var text = name.lowercased()
        if let slash = text.lastIndex(of: "/") { text = String(text[text.index(after: slash)...]) }
        for suffix in ["-instruct", "-it", "-base", "-pt", "-chat"] where text.hasSuffix(suffix) {
            text.removeLast(suffix.count)
        }
        if text.hasPrefix("meta-llama-3.2") { text.removeFirst("meta-".count) }
        return all.first { $0.name == text }
    }

    private init(_ row: Row) {
        name = row.name
        source = "config.json of huggingface.co/" + row.repository
        let traits = row.family
        let scale = 1 / Float(row.head).squareRoot()
        let local =
            traits.window == nil ? [] : [RotaryDescription(base: 10000, dimensions: row.head, fileLayout: .halfSplit)]
        description = DecoderDescription(
            architecture: traits.architecture, name: row.name, vocabularySize: row.vocabulary, hiddenSize: row.hidden,
            intermediateSize: row.intermediate, queryHeads: row.heads, keyValueHeads: row.keyValueHeads,
            headDimension: row.head, contextLength: row.context, normEpsilon: 1e-6,
            embeddingScale: traits.window == nil ? 1 : Float(row.hidden).squareRoot(), tiedHead: row.tied,
            ropes: [RotaryDescription(base: traits.rotaryBase, dimensions: row.head, fileLayout: .halfSplit)] + local,
            layers: (0..<row.layers).map { index in
                // Every sixth layer of Gemma 3 sees all, the others a window.
                let window = traits.window != nil && index % 6 != 5 ? row.window : nil
                return LayerDescription(
                    queryKeyValueBias: traits.bias, queryKeyNorm: traits.queryKeyNorm,
                    postAttentionNorm: traits.window != nil, postFeedForwardNorm: traits.window != nil,
                    activation: traits.window != nil ? .geluTanh : .silu, window: window,
                    rope: window == nil ? 0 : 1 % (1 + local.count),
                    attentionScale: scale)
            })
    }
}

private struct Family {
    var architecture: String
    var bias = false
    var queryKeyNorm = false
    var window: Bool?
    var rotaryBase: Float

    static let qwen2 = Family(architecture: "qwen2", bias: true, rotaryBase: 1e6)
    static let qwen3 = Family(architecture: "qwen3", queryKeyNorm: true, rotaryBase: 1e6)
    static let llama = Family(architecture: "llama", rotaryBase: 500_000)
    static let smolLM2 = Family(architecture: "llama", rotaryBase: 100_000)
    static let gemma3 = Family(architecture: "gemma3", queryKeyNorm: true, window: true, rotaryBase: 1e6)
}

private struct Row {
    var name: String
    var repository: String
    var family: Family
    var layers: Int
    var hidden: Int
    var intermediate: Int
    var heads: Int
    var keyValueHeads: Int
    var head: Int
    var vocabulary: Int
    var context: Int
    var tied: Bool
    var window: Int?
}
private let rows: [Row] = [
    qwen2("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", 24, 896, 4864, 14, 2, 64, tied: true),
    qwen2("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct", 28, 1536, 8960, 12, 2, 128, tied: true),
    qwen2("qwen2.5-3b", "Qwen/Qwen2.5-3B-Instruct", 36, 2048, 11008, 16, 2, 128, tied: true),
    qwen2("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct", 28, 3584, 18944, 28, 4, 128, tied: false),
    qwen2("qwen2.5-14b", "Qwen/Qwen2.5-14B-Instruct", 48, 5120, 13824, 40, 8, 128, tied: false),
    qwen2("qwen2.5-32b", "Qwen/Qwen2.5-32B-Instruct", 64, 5120, 27648, 40, 8, 128, tied: false),
    qwen3("qwen3-0.6b", "Qwen/Qwen3-0.6B", 28, 1024, 3072, 16, tied: true),
    qwen3("qwen3-1.7b", "Qwen/Qwen3-1.7B", 28, 2048, 6144, 16, tied: true),
    qwen3("qwen3-4b", "Qwen/Qwen3-4B", 36, 2560, 9728, 32, tied: true),
    qwen3("qwen3-8b", "Qwen/Qwen3-8B", 36, 4096, 12288, 32, tied: false),
    qwen3("qwen3-14b", "Qwen/Qwen3-14B", 40, 5120, 17408, 40, tied: false),
    Row(
        name: "llama-3.2-1b", repository: "meta-llama/Llama-3.2-1B-Instruct", family: .llama, layers: 16, hidden: 2048,
        intermediate: 8192, heads: 32, keyValueHeads: 8, head: 64, vocabulary: 128_256, context: 131_072, tied: true),
    Row(
        name: "llama-3.2-3b", repository: "meta-llama/Llama-3.2-3B-Instruct", family: .llama, layers: 28, hidden: 3072,
        intermediate: 8192, heads: 24, keyValueHeads: 8, head: 128, vocabulary: 128_256, context: 131_072, tied: true),
    gemma3("gemma-3-270m", "google/gemma-3-270m-it", 18, 640, 2048, 4, 1, 256, 262_144, 32768, window: 512),
    gemma3("gemma-3-1b", "google/gemma-3-1b-it", 26, 1152, 6912, 4, 1, 256, 262_144, 32768, window: 512),
    gemma3("gemma-3-4b", "google/gemma-3-4b-it", 34, 2560, 10240, 8, 4, 256, 262_208, 131_072, window: 1024),
    gemma3("gemma-3-12b", "google/gemma-3-12b-it", 48, 3840, 15360, 16, 8, 256, 262_208, 131_072, window: 1024),
    gemma3("gemma-3-27b", "google/gemma-3-27b-it", 62, 5376, 21504, 32, 16, 128, 262_208, 131_072, window: 1024),
    smolLM2("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", 30, 576, 1536, 9, 3),
    smolLM2("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", 32, 960, 2560, 15, 5),
    smolLM2("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 24, 2048, 8192, 32, 32),
]

private func qwen2(
    _ name: String, _ repository: String, _ layers: Int, _ hidden: Int, _ intermediate: Int, _ heads: Int,
    _ keyValueHeads: Int, _ head: Int, tied: Bool
) -> Row {
    Row(
        name: name, repository: repository, family: .qwen2, layers: layers, hidden: hidden, intermediate: intermediate,
        heads: heads, keyValueHeads: keyValueHeads, head: head, vocabulary: tied ? 151_936 : 152_064, context: 32768,
        tied: tied)
}

private func qwen3(
    _ name: String, _ repository: String, _ layers: Int, _ hidden: Int, _ intermediate: Int, _ heads: Int, tied: Bool
) -> Row {
    Row(
        name: name, repository: repository, family: .qwen3, layers: layers, hidden: hidden, intermediate: intermediate,
        heads: heads, keyValueHeads: 8, head: 128, vocabulary: 151_936, context: 40960, tied: tied)
}

private func gemma3(
    _ name: String, _ repository: String, _ layers: Int, _ hidden: Int, _ intermediate: Int, _ heads: Int,
    _ keyValueHeads: Int, _ head: Int, _ vocabulary: Int, _ context: Int, window: Int
) -> Row {
    Row(
        name: name, repository: repository, family: .gemma3, layers: layers, hidden: hidden, intermediate: intermediate,
        heads: heads, keyValueHeads: keyValueHeads, head: head, vocabulary: vocabulary, context: context, tied: true,
        window: window)
}

private func smolLM2(
    _ name: String, _ repository: String, _ layers: Int, _ hidden: Int, _ intermediate: Int, _ heads: Int,
    _ keyValueHeads: Int
) -> Row {
    Row(
        name: name, repository: repository, family: .smolLM2, layers: layers, hidden: hidden,
        intermediate: intermediate, heads: heads, keyValueHeads: keyValueHeads, head: 64, vocabulary: 49152,
        context: 8192, tied: true)
}
