// Tandem — Apache-2.0

public import Weights

extension DecoderDescription {
    /// Values of `general.architecture` that ``init(gguf:ablation:)`` accepts.
    public static let supportedArchitectures = DecoderFamily.all.filter(\.isInGGUF).map(\.name)

    /// Reads a model's description from its file and checks that the file holds every tensor with the right shape.
    ///
    /// Keys are those of `gguf-py/gguf/constants.py` of ggml.
    ///
    /// - Parameters:
    ///   - gguf: the file.
    ///   - ablation: the variant to describe.
    /// - Throws: ``LanguageModelError`` naming the key or tensor that is missing, out of range or not supported.
    public init(gguf: GGUFFile, ablation: Ablation = .full) throws(LanguageModelError) {
        let fields = GGUFFields(file: gguf)
        let architecture = try fields.string("general.architecture")
        guard let family = DecoderFamily.all.first(where: { $0.isInGGUF && $0.name == architecture }) else {
            throw fields.error(
                "general.architecture",
                "\"\(architecture.prefix(64))\" is not supported; supported: "
                    + Self.supportedArchitectures.joined(separator: ", "))
        }
        try fields.refuseWhatNoLayerDoes(architecture)
        let sizes = try DecoderSizes(fields, keys: DecoderSizes.Keys(ggufArchitecture: architecture))
        try fields.checkHeads(architecture, dimension: sizes.headDimension)
        let bias =
            switch family.queryKeyValueBias {
            case .never: false
            case .always: true
            case .ifStored: gguf.tensor(named: "blk.0.attn_q.bias") != nil
            }
        let scaledDimension =
            family.layersScaledByWidth == sizes.layerCount
            ? sizes.hiddenSize / sizes.queryHeads : sizes.headDimension
        self.init(
            family: family,
            sizes: sizes,
            positions: try fields.positions(architecture, family, sizes),
            name: gguf.metadata.string("general.name") ?? architecture,
            vocabularySize: try fields.vocabularySize(),
            tiedHead: gguf.tensor(named: "output.weight") == nil,
            queryKeyValueBias: bias,
            attentionScale: 1 / Float(scaledDimension).squareRoot(),
            normOffset: 0,
            tensorNaming: .gguf,
            ablation: ablation)
        try validate(against: gguf)
    }
}

extension DecoderSizes.Keys {
    fileprivate init(ggufArchitecture architecture: String) {
        self.init(
            hiddenSize: "\(architecture).embedding_length",
            intermediateSize: "\(architecture).feed_forward_length",
            layerCount: "\(architecture).block_count",
            queryHeads: "\(architecture).attention.head_count",
            keyValueHeads: "\(architecture).attention.head_count_kv",
            headDimension: "\(architecture).attention.key_length",
            contextLength: "\(architecture).context_length",
            normEpsilon: "\(architecture).attention.layer_norm_rms_epsilon")
    }
}

private struct GGUFFields: ModelFields {
    let file: GGUFFile

    var path: String { file.path }
    func isPresent(_ key: String) -> Bool { file.metadata[key] != nil }
    func unsigned(_ key: String) -> UInt64? { file.metadata.unsigned(key) }
    func float(_ key: String) -> Float? { file.metadata.float(key) }
    func text(_ key: String) -> String? { file.metadata.string(key) }
    func bool(_ key: String) -> Bool? { file.metadata.bool(key) }

    func refuseWhatNoLayerDoes(_ architecture: String) throws(LanguageModelError) {
        let experts = "\(architecture).expert_count"
        try refuse(experts, unless: unsigned(experts) == 0, "mixtures of experts are not supported")
        for suffix in ["attn_logit_softcapping", "final_logit_softcapping"] {
            let key = "\(architecture).\(suffix)"
            try refuse(key, unless: float(key) == 0, "capped logits are not supported")
        }
        let causal = "\(architecture).attention.causal"
        try refuse(causal, unless: bool(causal) == true, "attention to later tokens is not supported")
        let factor = "\(architecture).rope.scaling.attn_factor"
        try refuse(factor, unless: float(factor) == 1, "only 1 is supported")
    }

    func checkHeads(_ architecture: String, dimension: Int) throws(LanguageModelError) {
        let valueKey = "\(architecture).attention.value_length"
        let value = try integer(valueKey, in: 1...65536, default: dimension)
        guard value == dimension else {
            throw error(valueKey, "\(value) differs from the key length \(dimension)")
        }
        let rotatedKey = "\(architecture).rope.dimension_count"
        let rotated = try integer(rotatedKey, in: 1...65536, default: dimension)
        guard rotated == dimension else {
            throw error(rotatedKey, "\(rotated) differs from the head dimension \(dimension); not supported")
        }
    }

    func vocabularySize() throws(LanguageModelError) -> Int {
        guard let embedding = file.tensor(named: "token_embd.weight"), embedding.shape.count == 2 else {
            throw error("tensor token_embd.weight", "missing or not a matrix")
        }
        let rows = embedding.shape[1]
        guard (1...DecoderSizes.largestVocabulary).contains(rows) else {
            throw error(
                "tensor token_embd.weight", "\(rows) rows; at most \(DecoderSizes.largestVocabulary) are supported")
        }
        return rows
    }

    func positions(
        _ architecture: String, _ family: DecoderFamily, _ sizes: DecoderSizes
    ) throws(LanguageModelError) -> DecoderPositions {
        let rope = RotaryDescription(
            base: try float("\(architecture).rope.freq_base", in: 1...1e12, default: family.rotaryBase),
            dimensions: sizes.headDimension,
            fileLayout: family.ggufRotaryLayout,
            hasFrequencyFactors: file.tensor(named: "rope_freqs.weight") != nil,
            scaling: try scaling(architecture))
        var local: RotaryDescription?
        if let base = family.localRotaryBase {
            local = RotaryDescription(
                base: try float("\(architecture).rope.freq_base_swa", in: 1...1e12, default: base),
                dimensions: sizes.headDimension,
                fileLayout: family.ggufRotaryLayout)
        }
        return DecoderPositions(
            rope: rope, localRope: local, windows: try windows(architecture, family, layers: sizes.layerCount))
    }

    private func scaling(_ architecture: String) throws(LanguageModelError) -> RotaryDescription.Scaling {
        let typeKey = "\(architecture).rope.scaling.type"
        let factorKey = "\(architecture).rope.scaling.factor"
        // Files from before there were types state a factor, by one of two names, and mean linear scaling.
        let oldKey = "\(architecture).rope.scale_linear"
        let stated = isPresent(typeKey) ? try string(typeKey) : nil
        switch stated {
        case "none":
            return .none
        case nil where !isPresent(factorKey) && !isPresent(oldKey):
            return .none
        case nil, "linear":
            let key = isPresent(factorKey) ? factorKey : oldKey
            let factor = try float(key, in: 0...1e6)
            // A zero stands for no scaling.
            guard factor > 0, factor != 1 else { return .none }
            return .linear(factor: factor)
        default:
            throw error(
                typeKey,
                "\"\((stated ?? "").prefix(64))\" is not supported; supported: none, linear, and frequency factors in "
                    + "rope_freqs.weight")
        }
    }

    private func windows(
        _ architecture: String, _ family: DecoderFamily, layers: Int
    ) throws(LanguageModelError) -> [Int?] {
        let windowKey = "\(architecture).attention.sliding_window"
        // Only these state windows in GGUF files; others' converters leave them out.
        guard case .allButEvery(let usual) = family.windowedLayers, isPresent(windowKey) else {
            return Array(repeating: nil, count: layers)
        }
        let window = try integer(windowKey, in: 0...(1 << 28))
        guard window > 0 else { return Array(repeating: nil, count: layers) }
        let patternKey = "\(architecture).attention.sliding_window_pattern"
        if let list = file.metadata[patternKey]?.array {
            guard list.elementType == .bool, list.count == layers, let flags = list.elements?.compactMap(\.bool) else {
                throw error(patternKey, "expected one boolean for each of \(layers) layers, or one integer")
            }
            return flags.map { $0 ? window : nil }
        }
        let pattern = try integer(patternKey, in: 0...4096, default: usual)
        return (0..<layers).map { pattern > 0 && $0 % pattern == pattern - 1 ? nil : window }
    }
}
