// Tandem — Apache-2.0

public import LanguageModel

/// What a virtual device has to know of a client's model: the sizes from which kernels and bytes follow.
public struct ClientModel: Sendable, Equatable {
    /// What one layer does, as far as it costs something.
    public struct Layer: Sendable, Equatable {
        var queryKeyValueBias = false
        var queryKeyNorm = false
        var postAttentionNorm = false
        var postFeedForwardNorm = false
        /// Tokens that a token sees; null for all.
        var window: UInt32?
    }

    /// For people.
    public var name: String
    public var vocabularySize: UInt32
    public var hiddenSize: UInt32
    public var intermediateSize: UInt32
    public var queryHeads: UInt16
    public var keyValueHeads: UInt16
    public var headDimension: UInt16
    public var tiedHead: Bool
    public var ablation: Ablation
    public var layers: [Layer]

    static let mostLayers = 1024
    static let largestSize: UInt32 = 1 << 20
    static let largestVocabulary: UInt32 = 1 << 24
    static let mostHeads: UInt16 = 1 << 12
    static let longestName = 256

    /// Takes the sizes of a description; null if they are beyond what a device accepts.
    public init?(_ model: DecoderDescription) {
        guard let vocabulary = UInt32(exactly: model.vocabularySize), let hidden = UInt32(exactly: model.hiddenSize),
            let intermediate = UInt32(exactly: model.intermediateSize),
            let queryHeads = UInt16(exactly: model.queryHeads),
            let keyValueHeads = UInt16(exactly: model.keyValueHeads),
            let headDimension = UInt16(exactly: model.headDimension)
        else { return nil }
        var name = ""
        for character in model.name where name.utf8.count + character.utf8.count <= Self.longestName {
            name.append(character)
        }
        self.init(
            name: name, vocabularySize: vocabulary, hiddenSize: hidden, intermediateSize: intermediate,
            queryHeads: queryHeads, keyValueHeads: keyValueHeads, headDimension: headDimension,
            tiedHead: model.tiedHead, ablation: model.ablation,
            layers: model.layers.map { layer in
                Layer(
                    queryKeyValueBias: layer.queryKeyValueBias, queryKeyNorm: layer.queryKeyNorm,
                    postAttentionNorm: layer.postAttentionNorm, postFeedForwardNorm: layer.postFeedForwardNorm,
                    window: layer.window.map { UInt32(clamping: $0) })
            })
        guard isUsable else { return nil }
    }

    init(
        name: String, vocabularySize: UInt32, hiddenSize: UInt32, intermediateSize: UInt32, queryHeads: UInt16,
        keyValueHeads: UInt16, headDimension: UInt16, tiedHead: Bool, ablation: Ablation, layers: [Layer]
    ) {
        self.name = name
        self.vocabularySize = vocabularySize
        self.hiddenSize = hiddenSize
        self.intermediateSize = intermediateSize
        self.queryHeads = queryHeads
        self.keyValueHeads = keyValueHeads
        self.headDimension = headDimension
        self.tiedHead = tiedHead
        self.ablation = ablation
        self.layers = layers
    }

    /// Whether all sizes are in range, so that no count that follows from them is beyond an integer.
    var isUsable: Bool {
        (1...Self.largestVocabulary).contains(vocabularySize) && (1...Self.largestSize).contains(hiddenSize)
            && (1...Self.largestSize).contains(intermediateSize) && (1...Self.mostHeads).contains(queryHeads)
            && (1...Self.mostHeads).contains(keyValueHeads) && queryHeads % keyValueHeads == 0
            && (1...Self.mostHeads).contains(headDimension) && (1...Self.mostLayers).contains(layers.count)
            && layers.allSatisfy { $0.window.map { (1...Self.largestVocabulary).contains($0) } ?? true }
            && name.utf8.count <= Self.longestName
    }

    /// A description that costs the same; what costs nothing is made up.
    public var description: DecoderDescription {
        DecoderDescription(
            architecture: "simulated", name: name, vocabularySize: Int(vocabularySize), hiddenSize: Int(hiddenSize),
            intermediateSize: Int(intermediateSize), queryHeads: Int(queryHeads), keyValueHeads: Int(keyValueHeads),
            headDimension: Int(headDimension), contextLength: 1 << 24, normEpsilon: 1e-6, tiedHead: tiedHead,
            ropes: [RotaryDescription(base: 10000, dimensions: Int(headDimension), fileLayout: .halfSplit)],
            layers: layers.map { layer in
                LayerDescription(
                    queryKeyValueBias: layer.queryKeyValueBias, queryKeyNorm: layer.queryKeyNorm,
                    postAttentionNorm: layer.postAttentionNorm, postFeedForwardNorm: layer.postFeedForwardNorm,
                    window: layer.window.map { Int($0) }, attentionScale: 1)
            }, ablation: ablation)
    }
}
