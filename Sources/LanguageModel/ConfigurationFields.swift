// Tandem — Apache-2.0

import JSON

/// Look-ups in a `config.json`. What concerns the decoder of text stands in `text_config` if there is one, else at the
/// top; keys that are not there have the value that the architecture's own code gives them.
struct ConfigurationFields: ModelFields {
    /// Kinds of layers as `layer_types` and `rope_parameters` name them.
    enum LayerType: String {
        case fullAttention = "full_attention"
        case slidingAttention = "sliding_attention"
    }

    let path: String
    let text: JSONObject?
    let whole: JSONObject
    let family: DecoderFamily

    private func value(_ key: String) -> JSONValue? {
        (text ?? whole)[key] ?? family.configurationDefaults[key]
    }

    /// Null is as good as nothing, but hides a default.
    func isPresent(_ key: String) -> Bool { !(value(key) ?? .null).isNull }
    func unsigned(_ key: String) -> UInt64? { value(key)?.integer.flatMap { UInt64(exactly: $0) } }
    func float(_ key: String) -> Float? { value(key)?.number.map { Float($0) } }
    func text(_ key: String) -> String? { value(key)?.string }
    func bool(_ key: String) -> Bool? { value(key)?.bool }

    func refuseWhatNoLayerDoes() throws(LanguageModelError) {
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            try refuse(key, unless: false, "capped logits are not supported; only null is")
        }
        // A family that always has biases has none of its attention's output, which this would add.
        try refuse("attention_bias", unless: bool("attention_bias") == false, "only false is supported")
        try refuse("mlp_bias", unless: bool("mlp_bias") == false, "only false is supported")
        try refuse(
            "use_bidirectional_attention", unless: bool("use_bidirectional_attention") == false,
            "attention to later tokens is not supported; only false is")
        try refuse("partial_rotary_factor", unless: float("partial_rotary_factor") == 1, "only 1 is supported")
        guard (whole["quantization_config"] ?? .null).isNull else {
            throw error("quantization_config", "quantized safetensors are not supported; use a GGUF file")
        }
        let expected =
            switch family.activation {
            case .silu: "silu"
            case .geluTanh: "gelu_pytorch_tanh"
            }
        for key in ["hidden_act", "hidden_activation"] {
            try refuse(
                key, unless: text(key) == expected,
                "\"\((text(key) ?? "").prefix(64))\" is not supported here; \(expected) is")
        }
    }

    /// Of models with images the file's top rules, as it is the whole model whose head is tied.
    func tiedHead() throws(LanguageModelError) -> Bool {
        let key = "tie_word_embeddings"
        let stated = [whole[key], value(key)].compactMap(\.self).first { !$0.isNull }
        guard let stated else { return false }
        guard let tied = stated.bool else { throw error(key, "not a boolean") }
        return tied
    }

    // MARK: - Positions

    /// The rotary embedding of a kind of layers.
    func rope(_ type: LayerType, _ sizes: DecoderSizes) throws(LanguageModelError) -> RotaryDescription {
        let parameters = try ropeParameters(type)
        let base = try parameters.float(
            "rope_theta", in: 1...1e12, default: try float("rope_theta", in: 1...1e12, default: family.rotaryBase))
        return RotaryDescription(
            base: base, dimensions: sizes.headDimension, fileLayout: .halfSplit, scaling: try scaling(parameters))
    }

    /// The rotary embedding of layers with a window, if it may differ from the others'.
    func localRope(_ sizes: DecoderSizes) throws(LanguageModelError) -> RotaryDescription? {
        if try ropeParameters(.slidingAttention).isOfOneType { return try rope(.slidingAttention, sizes) }
        guard let usual = family.localRotaryBase else { return nil }
        return RotaryDescription(
            base: try float("rope_local_base_freq", in: 1...1e12, default: usual), dimensions: sizes.headDimension,
            fileLayout: .halfSplit)
    }

    /// The object that says how positions are encoded: `rope_parameters`, in which each kind of layers may have one of
    /// its own, or `rope_scaling` as it was called before.
    private func ropeParameters(_ type: LayerType) throws(LanguageModelError) -> RopeParameters {
        for key in ["rope_parameters", "rope_scaling"] where isPresent(key) {
            guard let object = value(key)?.object else { throw error(key, "not an object") }
            let types = [LayerType.fullAttention, .slidingAttention]
            guard types.contains(where: { object[$0.rawValue] != nil }) else {
                return RopeParameters(path: path, name: key, object: object, isOfOneType: false)
            }
            let name = "\(key).\(type.rawValue)"
            switch object[type.rawValue] ?? .null {
            case .object(let own): return RopeParameters(path: path, name: name, object: own, isOfOneType: true)
            case .null: return RopeParameters(path: path, name: name, object: JSONObject(), isOfOneType: false)
            default: throw error(name, "not an object")
            }
        }
        return RopeParameters(path: path, name: "rope_parameters", object: JSONObject(), isOfOneType: false)
    }

    private func scaling(_ parameters: RopeParameters) throws(LanguageModelError) -> RotaryDescription.Scaling {
        try parameters.refuse(
            "partial_rotary_factor", unless: parameters.float("partial_rotary_factor") == 1, "only 1 is supported")
        let key = parameters.isPresent("rope_type") ? "rope_type" : "type"
        guard parameters.isPresent(key) else { return .none }
        switch try parameters.string(key) {
        case "default":
            return .none
        case "linear":
            return .linear(factor: try parameters.float("factor", in: 1e-3...1e6))
        case "llama3":
            let low = try parameters.float("low_freq_factor", in: 1e-3...1e6)
            let high = try parameters.float("high_freq_factor", in: 1e-3...1e6)
            guard low < high else {
                throw parameters.error("high_freq_factor", "\(high) is not above low_freq_factor, \(low)")
            }
            return .llama3(
                factor: try parameters.float("factor", in: 1e-3...1e6),
                lowFrequencyFactor: low, highFrequencyFactor: high,
                originalContext: try parameters.integer("original_max_position_embeddings", in: 1...(1 << 28)))
        case let other:
            throw parameters.error(
                key, "\"\(other.prefix(64))\" is not supported; supported: default, linear, llama3")
        }
    }

    /// The window of each layer.
    func windows(layers: Int) throws(LanguageModelError) -> [Int?] {
        let stated = try layerTypes(layers: layers)
        let isSliding: [Bool]
        switch family.windowedLayers {
        case .none:
            try refuse(
                "layer_types", unless: stated?.contains(.slidingAttention) != true,
                "models of the architecture \(family.name) have no windows")
            isSliding = Array(repeating: false, count: layers)
        case .all:
            isSliding = Array(repeating: isPresent("sliding_window"), count: layers)
        case .allButEvery(let usual):
            let key = isPresent("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern"
            let pattern = try integer(key, in: 1...4096, default: usual)
            isSliding = stated?.map { $0 == .slidingAttention } ?? (0..<layers).map { $0 % pattern != pattern - 1 }
        case .fromStatedLayer:
            if bool("use_sliding_window") == true {
                let first = try stated == nil ? integer("max_window_layers", in: 0...4096, default: 28) : 0
                isSliding = stated?.map { $0 == .slidingAttention } ?? (0..<layers).map { $0 >= first }
            } else {
                isSliding = Array(repeating: false, count: layers)
            }
        }
        guard isSliding.contains(true) else { return Array(repeating: nil, count: layers) }
        let window = try integer("sliding_window", in: 1...(1 << 28))
        return isSliding.map { $0 ? window : nil }
    }

    private func layerTypes(layers: Int) throws(LanguageModelError) -> [LayerType]? {
        guard isPresent("layer_types") else { return nil }
        guard let list = value("layer_types")?.array, list.count == layers else {
            throw error("layer_types", "expected a list with one entry for each of \(layers) layers")
        }
        var types: [LayerType] = []
        for entry in list {
            guard let type = entry.string.flatMap(LayerType.init(rawValue:)) else {
                throw error(
                    "layer_types",
                    "\"\((entry.string ?? entry.typeName).prefix(64))\" is not supported; supported: full_attention, "
                        + "sliding_attention")
            }
            types.append(type)
        }
        return types
    }
}

/// How positions are encoded, of all layers or of one kind.
private struct RopeParameters: ModelFields {
    let path: String
    /// The object's place in the file.
    let name: String
    let object: JSONObject
    /// Whether it concerns one kind of layers only.
    let isOfOneType: Bool

    func isPresent(_ key: String) -> Bool { !(object[key] ?? .null).isNull }
    func unsigned(_ key: String) -> UInt64? { object[key]?.integer.flatMap { UInt64(exactly: $0) } }
    func float(_ key: String) -> Float? { object[key]?.number.map { Float($0) } }
    func text(_ key: String) -> String? { object[key]?.string }
    func bool(_ key: String) -> Bool? { object[key]?.bool }

    func error(_ subject: String, _ reason: String) -> LanguageModelError {
        LanguageModelError(path: path, subject: "\(name).\(subject)", reason: reason)
    }
}
