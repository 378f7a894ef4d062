// Tandem — Apache-2.0

/// What one decoder layer does. Families differ in these switches and in nothing else: Llama has none of them on,
/// Qwen2 has ``queryKeyValueBias``, Qwen3 has ``queryKeyNorm``, Gemma 3 has ``queryKeyNorm``, both post-norms, a
/// ``window`` in most layers, a second rotary embedding and ``Activation/geluTanh``.
public struct LayerDescription: Sendable, Equatable {
    /// The function on the gate of the feed-forward block.
    public enum Activation: Sendable, Equatable {
        /// x · sigmoid(x).
        case silu
        /// GELU in its tanh approximation.
        case geluTanh
    }

    /// Whether query, key and value projections add a bias.
    public var queryKeyValueBias: Bool
    /// Whether each query and key head is normalised (RMS) before it is rotated.
    public var queryKeyNorm: Bool
    /// Whether the attention's output is normalised before it is added to the residual.
    public var postAttentionNorm: Bool
    /// Whether the feed-forward block's output is normalised before it is added to the residual.
    public var postFeedForwardNorm: Bool
    /// The function on the gate.
    public var activation: Activation
    /// How many tokens, its own included, a token sees; `nil` for all before it.
    public var window: Int?
    /// Index into ``DecoderDescription/ropes``.
    public var rope: Int
    /// Factor of query·key.
    public var attentionScale: Float

    /// A layer; the defaults are those of Llama.
    public init(
        queryKeyValueBias: Bool = false,
        queryKeyNorm: Bool = false,
        postAttentionNorm: Bool = false,
        postFeedForwardNorm: Bool = false,
        activation: Activation = .silu,
        window: Int? = nil,
        rope: Int = 0,
        attentionScale: Float
    ) {
        self.queryKeyValueBias = queryKeyValueBias
        self.queryKeyNorm = queryKeyNorm
        self.postAttentionNorm = postAttentionNorm
        self.postFeedForwardNorm = postFeedForwardNorm
        self.activation = activation
        self.window = window
        self.rope = rope
        self.attentionScale = attentionScale
    }
}

/// A variant of a model for measurements: what of each layer is computed. The output of an ablated model is noise.
public enum Ablation: String, Sendable, Equatable, CaseIterable {
    /// The model as it is.
    case full
    /// Layers without their feed-forward blocks.
    case attentionOnly
    /// Layers without attention and its projections.
    case mlpOnly
}
