// Tandem — Apache-2.0

/// A decoder-only transformer as data: sizes, and what each layer does. Executors and cost models read this and know
/// no model family by name.
public struct DecoderDescription: Sendable, Equatable {
    /// `general.architecture` of the file.
    public var architecture: String
    /// The model's name for people.
    public var name: String
    /// Tokens; the rows of the embedding and of the head.
    public var vocabularySize: Int
    /// Width of the residual stream.
    public var hiddenSize: Int
    /// Width of the feed-forward blocks.
    public var intermediateSize: Int
    /// Query heads of a layer, a multiple of ``keyValueHeads``.
    public var queryHeads: Int
    /// Key and value heads of a layer.
    public var keyValueHeads: Int
    /// Elements of a head.
    public var headDimension: Int
    /// Most tokens of a sequence that the model was made for.
    public var contextLength: Int
    /// Added to the mean square under the root of every RMS norm.
    public var normEpsilon: Float
    /// Added to the weights of every RMS norm: 1 where a model's files store `weight - 1` (Gemma as Hugging Face writes
    /// it), else 0.
    public var normOffset: Float
    /// Factor of token embeddings; 1 for most models.
    public var embeddingScale: Float
    /// Whether the head is the embedding matrix.
    public var tiedHead: Bool
    /// Rotary embeddings that layers refer to.
    public var ropes: [RotaryDescription]
    /// The layers, first to last.
    public var layers: [LayerDescription]
    /// Which variant of the model runs.
    public var ablation: Ablation
    /// How the model's files call its tensors.
    public var tensorNaming: TensorNaming

    /// A description from its parts; ``init(gguf:ablation:)`` reads one from a file.
    public init(
        architecture: String,
        name: String,
        vocabularySize: Int,
        hiddenSize: Int,
        intermediateSize: Int,
        queryHeads: Int,
        keyValueHeads: Int,
        headDimension: Int,
        contextLength: Int,
        normEpsilon: Float,
        normOffset: Float = 0,
        embeddingScale: Float = 1,
        tiedHead: Bool,
        ropes: [RotaryDescription],
        layers: [LayerDescription],
        ablation: Ablation = .full,
        tensorNaming: TensorNaming = .gguf
    ) {
        self.architecture = architecture
        self.name = name
        self.vocabularySize = vocabularySize
        self.hiddenSize = hiddenSize
        self.intermediateSize = intermediateSize
        self.queryHeads = queryHeads
        self.keyValueHeads = keyValueHeads
        self.headDimension = headDimension
        self.contextLength = contextLength
        self.normEpsilon = normEpsilon
        self.normOffset = normOffset
        self.embeddingScale = embeddingScale
        self.tiedHead = tiedHead
        self.ropes = ropes
        self.layers = layers
        self.ablation = ablation
        self.tensorNaming = tensorNaming
    }

    /// Whether layers compute attention.
    public var computesAttention: Bool { ablation != .mlpOnly }

    /// Whether layers compute their feed-forward blocks.
    public var computesFeedForward: Bool { ablation != .attentionOnly }

    /// Layers grouped by window, in order of first appearance, and cut into groups of equally many layers: the greatest
    /// common divisor of the windows' counts. A model without windows is one group. An ablation does not change them.
    public var kvGroups: [KeyValueGroup] {
        var kinds: [KeyValueGroup] = []
        for (index, layer) in layers.enumerated() {
            if let kind = kinds.firstIndex(where: { $0.window == layer.window }) {
                kinds[kind].layers.append(index)
            } else {
                kinds.append(KeyValueGroup(layers: [index], window: layer.window))
            }
        }
        let size = max(1, kinds.reduce(0) { greatestCommonDivisor($0, $1.layers.count) })
        return kinds.flatMap { kind in
            stride(from: 0, to: kind.layers.count, by: size).map { start in
                KeyValueGroup(layers: Array(kind.layers[start..<start + size]), window: kind.window)
            }
        }
    }
}

private func greatestCommonDivisor(_ first: Int, _ second: Int) -> Int {
    second == 0 ? first : greatestCommonDivisor(second, first % second)
}
