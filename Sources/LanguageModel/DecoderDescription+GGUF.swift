// Tandem — Apache-2.0

public import Weights

extension DecoderDescription {
    /// Architectures that ``init(gguf:ablation:)`` accepts.
    public static let supportedArchitectures = ["llama"]

    /// Reads a model's description from its file and checks that the file holds every tensor with the right shape.
    ///
    /// - Parameters:
    ///   - gguf: the file.
    ///   - ablation: the variant to describe.
    /// - Throws: ``LanguageModelError`` naming the key or tensor that is missing, out of range or not supported.
    public init(gguf: GGUFFile, ablation: Ablation = .full) throws(LanguageModelError) {
        let metadata = MetadataReader(file: gguf)
        let architecture = try metadata.string("general.architecture")
        guard Self.supportedArchitectures.contains(architecture) else {
            throw metadata.error(
                "general.architecture",
                "\"\(architecture.prefix(64))\" is not supported; supported: \(Self.supportedArchitectures.joined(separator: ", "))"
            )
        }
        try self.init(llama: metadata, architecture: architecture, ablation: ablation)
        try validate(against: gguf)
    }

    private init(llama metadata: MetadataReader, architecture: String, ablation: Ablation) throws(LanguageModelError) {
        func key(_ suffix: String) -> String { "\(architecture).\(suffix)" }

        if let experts = metadata.file.metadata.unsigned(key("expert_count")), experts > 0 {
            throw metadata.error(key("expert_count"), "mixtures of experts are not supported")
        }
        let scaling = metadata.file.metadata.string(key("rope.scaling.type")) ?? "none"
        guard scaling == "none" else {
            throw metadata.error(
                key("rope.scaling.type"),
                "\"\(scaling.prefix(64))\" is not supported; supported: none, and frequency factors in rope_freqs.weight"
            )
        }
        let hidden = try metadata.integer(key("embedding_length"), in: 16...(1 << 20))
        let layers = try metadata.integer(key("block_count"), in: 1...4096)
        let queryHeads = try metadata.integer(key("attention.head_count"), in: 1...4096)
        let keyValueHeads = try metadata.integer(
            key("attention.head_count_kv"), in: 1...4096, default: queryHeads)
        guard queryHeads % keyValueHeads == 0 else {
            throw metadata.error(
                key("attention.head_count"), "\(queryHeads) is not a multiple of \(keyValueHeads) key-value heads")
        }
        let headDimension: Int
        if metadata.file.metadata[key("attention.key_length")] != nil {
            headDimension = try metadata.integer(key("attention.key_length"), in: 1...65536)
        } else {
            guard hidden % queryHeads == 0 else {
                throw metadata.error(
                    key("attention.head_count"), "\(queryHeads) does not divide the embedding length \(hidden)")
            }
            headDimension = hidden / queryHeads
        }
        let valueDimension = try metadata.integer(
            key("attention.value_length"), in: 1...65536, default: headDimension)
        guard valueDimension == headDimension else {
            throw metadata.error(
                key("attention.value_length"), "\(valueDimension) differs from the key length \(headDimension)")
        }
        guard headDimension % 16 == 0, headDimension <= 256 else {
            throw metadata.error(
                key("attention.key_length"),
                "a head dimension of \(headDimension) is not supported; it must be a multiple of 16, at most 256")
        }
        let rotated = try metadata.integer(key("rope.dimension_count"), in: 1...65536, default: headDimension)
        guard rotated == headDimension else {
            throw metadata.error(
                key("rope.dimension_count"),
                "\(rotated) differs from the head dimension \(headDimension); not supported")
        }
        guard let embedding = metadata.file.tensor(named: "token_embd.weight"), embedding.shape.count == 2 else {
            throw metadata.error("tensor token_embd.weight", "missing or not a matrix")
        }
        let vocabulary = embedding.shape[1]
        guard (1...(1 << 24)).contains(vocabulary) else {
            throw metadata.error("tensor token_embd.weight", "\(vocabulary) rows; at most \(1 << 24) are supported")
        }
        let bias = metadata.file.tensor(named: "blk.0.attn_q.bias") != nil
        self.init(
            architecture: architecture,
            name: metadata.file.metadata.string("general.name") ?? architecture,
            vocabularySize: vocabulary,
            hiddenSize: hidden,
            intermediateSize: try metadata.integer(key("feed_forward_length"), in: 1...(1 << 22)),
            queryHeads: queryHeads,
            keyValueHeads: keyValueHeads,
            headDimension: headDimension,
            contextLength: try metadata.integer(key("context_length"), in: 1...(1 << 28)),
            normEpsilon: try metadata.float(key("attention.layer_norm_rms_epsilon"), in: 0...1),
            tiedHead: metadata.file.tensor(named: "output.weight") == nil,
            ropes: [
                RotaryDescription(
                    base: try metadata.float(key("rope.freq_base"), in: 1...1e12, default: 10000),
                    dimensions: headDimension,
                    fileLayout: .interleaved,
                    hasFrequencyFactors: metadata.file.tensor(named: "rope_freqs.weight") != nil)
            ],
            layers: Array(
                repeating: LayerDescription(
                    queryKeyValueBias: bias, attentionScale: 1 / Float(headDimension).squareRoot()),
                count: layers),
            ablation: ablation
        )
    }
}

/// Range-checked look-ups; numbers of a file are never trusted.
private struct MetadataReader {
    let file: GGUFFile

    func error(_ subject: String, _ reason: String) -> LanguageModelError {
        LanguageModelError(path: file.path, subject: subject, reason: reason)
    }

    func string(_ key: String) throws(LanguageModelError) -> String {
        guard let value = file.metadata.string(key) else { throw error(key, "missing or not a string") }
        return value
    }

    func integer(
        _ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil
    ) throws(LanguageModelError) -> Int {
        if file.metadata[key] == nil, let fallback { return fallback }
        guard let value = file.metadata.unsigned(key) else {
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
        if file.metadata[key] == nil, let fallback { return fallback }
        guard let value = file.metadata.float(key) else { throw error(key, "missing or not a number") }
        guard range.contains(value) else {
            throw error(key, "\(value) is out of range; expected \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }
}
