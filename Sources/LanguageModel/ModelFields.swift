// Tandem — Apache-2.0

/// The metadata of a model file, looked up with checks: numbers of a file are never trusted.
protocol ModelFields {
    /// The file, for messages.
    var path: String { get }

    /// Whether the key has a value.
    func isPresent(_ key: String) -> Bool
    /// An integer that is not negative.
    func unsigned(_ key: String) -> UInt64?
    func float(_ key: String) -> Float?
    func text(_ key: String) -> String?
    func bool(_ key: String) -> Bool?
    /// An error about a key, or about something else in the file.
    func error(_ subject: String, _ reason: String) -> LanguageModelError
}

extension ModelFields {
    func error(_ subject: String, _ reason: String) -> LanguageModelError {
        LanguageModelError(path: path, subject: subject, reason: reason)
    }

    func string(_ key: String) throws(LanguageModelError) -> String {
        guard let value = text(key) else { throw error(key, "missing or not a string") }
        return value
    }

    func integer(
        _ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil
    ) throws(LanguageModelError) -> Int {
        if let fallback, !isPresent(key) { return fallback }
        guard let value = unsigned(key) else {
            throw error(key, "missing or not an integer; one number for all layers is needed")
        }
        guard let integer = Int(exactly: value), range.contains(integer) else {
            throw error(key, "\(value) is out of range; expected \(range.lowerBound) to \(range.upperBound)")
        }
        return integer
    }

    func float(
        _ key: String, in range: ClosedRange<Float>, default fallback: Float? = nil
    ) throws(LanguageModelError) -> Float {
        if let fallback, !isPresent(key) { return fallback }
        guard let value = float(key) else { throw error(key, "missing or not a number") }
        guard range.contains(value) else {
            throw error(key, "\(value) is out of range; expected \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// Refuses a model that wants something which no layer here does.
    func refuse(_ key: String, unless isUsual: Bool, _ reason: String) throws(LanguageModelError) {
        guard isPresent(key), !isUsual else { return }
        throw error(key, reason)
    }
}

/// The sizes that every model states, whatever it calls them.
struct DecoderSizes {
    /// What a kind of file calls the sizes.
    struct Keys {
        var hiddenSize: String
        var intermediateSize: String
        var layerCount: String
        var queryHeads: String
        var keyValueHeads: String
        var headDimension: String
        var contextLength: String
        var normEpsilon: String
    }

    var hiddenSize: Int
    var intermediateSize: Int
    var layerCount: Int
    var queryHeads: Int
    var keyValueHeads: Int
    var headDimension: Int
    var contextLength: Int
    var normEpsilon: Float

    /// Most tokens that a vocabulary may have.
    static let largestVocabulary = 1 << 24

    /// Reads the sizes and checks that executors can work with them.
    init(_ fields: some ModelFields, keys: Keys) throws(LanguageModelError) {
        hiddenSize = try fields.integer(keys.hiddenSize, in: 16...(1 << 20))
        intermediateSize = try fields.integer(keys.intermediateSize, in: 1...(1 << 22))
        // With all numbers at their limits, bytes of keys and values still fit an Int.
        layerCount = try fields.integer(keys.layerCount, in: 1...1024)
        queryHeads = try fields.integer(keys.queryHeads, in: 1...4096)
        keyValueHeads = try fields.integer(keys.keyValueHeads, in: 1...4096, default: queryHeads)
        guard queryHeads % keyValueHeads == 0 else {
            throw fields.error(
                keys.queryHeads, "\(queryHeads) is not a multiple of \(keyValueHeads) key-value heads")
        }
        if fields.isPresent(keys.headDimension) {
            headDimension = try fields.integer(keys.headDimension, in: 1...65536)
        } else {
            guard hiddenSize % queryHeads == 0 else {
                throw fields.error(
                    keys.queryHeads, "\(queryHeads) does not divide the embedding length \(hiddenSize)")
            }
            headDimension = hiddenSize / queryHeads
        }
        guard headDimension % 16 == 0, headDimension <= 256 else {
            throw fields.error(
                keys.headDimension,
                "a head dimension of \(headDimension) is not supported; it must be a multiple of 16, at most 256")
        }
        contextLength = try fields.integer(keys.contextLength, in: 1...(1 << 28))
        normEpsilon = try fields.float(keys.normEpsilon, in: 0...1)
    }
}

/// The rotary embeddings and windows of a model's layers, as its files state them.
struct DecoderPositions {
    /// Of layers without a window, or of all.
    var rope: RotaryDescription
    /// Of layers with a window, if theirs is another.
    var localRope: RotaryDescription?
    /// The window of each layer.
    var windows: [Int?]
}

extension DecoderDescription {
    /// Puts a description together from a family's features and what was read from a model's files.
    init(
        family: DecoderFamily, sizes: DecoderSizes, positions: DecoderPositions, name: String, vocabularySize: Int,
        tiedHead: Bool, queryKeyValueBias: Bool, attentionScale: Float, normOffset: Float, tensorNaming: TensorNaming,
        ablation: Ablation
    ) {
        let hasLocalRope = positions.localRope != nil && positions.windows.contains { $0 != nil }
        let layers = positions.windows.map { window in
            LayerDescription(
                queryKeyValueBias: queryKeyValueBias,
                queryKeyNorm: family.queryKeyNorm,
                postAttentionNorm: family.postNorms,
                postFeedForwardNorm: family.postNorms,
                activation: family.activation,
                window: window,
                rope: hasLocalRope && window != nil ? 1 : 0,
                attentionScale: attentionScale)
        }
        self.init(
            architecture: family.name,
            name: name,
            vocabularySize: vocabularySize,
            hiddenSize: sizes.hiddenSize,
            intermediateSize: sizes.intermediateSize,
            queryHeads: sizes.queryHeads,
            keyValueHeads: sizes.keyValueHeads,
            headDimension: sizes.headDimension,
            contextLength: sizes.contextLength,
            normEpsilon: sizes.normEpsilon,
            normOffset: normOffset,
            embeddingScale: family.scalesEmbeddings ? Float(sizes.hiddenSize).squareRoot() : 1,
            tiedHead: tiedHead,
            ropes: [positions.rope] + (hasLocalRope ? [positions.localRope].compactMap(\.self) : []),
            layers: layers,
            ablation: ablation,
            tensorNaming: tensorNaming)
    }
}
