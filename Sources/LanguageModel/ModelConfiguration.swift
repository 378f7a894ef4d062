// Tandem — Apache-2.0

public import JSON
public import Weights

/// A `config.json` as transformers writes it, read for the decoder it describes. Spellings before and after transformers
/// 5 mean the same. Of models that also see images, only the decoder of text is described.
public struct ModelConfiguration: Sendable {
    /// Values of `architectures` that are accepted.
    public static let supportedArchitectures = DecoderFamily.all.flatMap(\.configurationNames)

    /// The file, for messages.
    public let path: String
    /// The file's content.
    public let json: JSONObject
    private let family: DecoderFamily
    private let fields: ConfigurationFields

    /// Reads a file.
    ///
    /// - Throws: ``LanguageModelError`` if it is no JSON object or its architecture is not supported.
    public init(path: String) throws(LanguageModelError) {
        try self.init(json: readJSONObject(path: path), path: path)
    }

    /// Takes a file's content.
    ///
    /// - Parameters:
    ///   - json: the content.
    ///   - path: the file, for messages.
    /// - Throws: ``LanguageModelError`` if the architecture is not supported.
    public init(json: JSONObject, path: String) throws(LanguageModelError) {
        self.json = json
        self.path = path
        let stated = json["architectures"]?.array?.compactMap(\.string) ?? []
        let family = DecoderFamily.all.first { $0.configurationNames.contains { stated.contains($0) } }
        guard let family else {
            let found = stated.isEmpty ? "missing or empty" : "\"\(stated[0].prefix(64))\" is not supported"
            throw LanguageModelError(
                path: path, subject: "architectures",
                reason: "\(found); supported: \(Self.supportedArchitectures.joined(separator: ", "))")
        }
        self.family = family
        fields = ConfigurationFields(path: path, text: json["text_config"]?.object, whole: json, family: family)
    }

    /// How the model's numbers are stored: what `dtype` says, BF16 if it says nothing.
    ///
    /// - Throws: ``LanguageModelError`` if it is none of bfloat16, float16, float32.
    public func storedType() throws(LanguageModelError) -> TensorType {
        let key = fields.isPresent("dtype") ? "dtype" : "torch_dtype"
        guard fields.isPresent(key) else { return .bf16 }
        switch try fields.string(key) {
        case "bfloat16": return .bf16
        case "float16": return .f16
        case "float32": return .f32
        case let other:
            throw fields.error(
                key, "\"\(other.prefix(64))\" is not supported; supported: bfloat16, float16, float32")
        }
    }

    /// Tokens that end a text, of `eos_token_id`; nil if it does not say.
    func endTokens() throws(LanguageModelError) -> [Int32]? {
        if let tokens = try endTokenList(json, path: path) { return tokens }
        guard let text = json["text_config"]?.object else { return nil }
        return try endTokenList(text, path: path)
    }

    /// Describes the decoder.
    ///
    /// - Parameters:
    ///   - name: the model's name for people.
    ///   - prefix: what stands before the names of the decoder's tensors; see ``prefix(in:)``.
    ///   - ablation: the variant to describe.
    /// - Throws: ``LanguageModelError`` naming the key that is missing, out of range or not supported.
    public func description(
        name: String, prefix: String = "model.", ablation: Ablation = .full
    ) throws(LanguageModelError) -> DecoderDescription {
        try fields.refuseWhatNoLayerDoes()
        let sizes = try DecoderSizes(fields, keys: .configuration)
        let scaled = try fields.float(
            "query_pre_attn_scalar", in: 1...1e6, default: Float(sizes.headDimension))
        return DecoderDescription(
            family: family,
            sizes: sizes,
            positions: DecoderPositions(
                rope: try fields.rope(.fullAttention, sizes),
                localRope: try fields.localRope(sizes),
                windows: try fields.windows(layers: sizes.layerCount)),
            name: name,
            vocabularySize: try fields.integer("vocab_size", in: 1...DecoderSizes.largestVocabulary),
            tiedHead: try fields.tiedHead(),
            queryKeyValueBias: family.queryKeyValueBias == .always,
            attentionScale: 1 / scaled.squareRoot(),
            normOffset: family.configurationNormOffset,
            tensorNaming: .huggingFace(prefix: prefix),
            ablation: ablation)
    }

    /// What stands before the names of the decoder's tensors in a source: models that also see images, and those saved
    /// without their head, have other prefixes than `model.`.
    ///
    /// - Throws: ``LanguageModelError`` if no tensor can be the embedding.
    public static func prefix(in source: any TensorSource) throws(LanguageModelError) -> String {
        let prefixes = ["model.", "language_model.model.", "model.language_model.", ""]
        guard let prefix = prefixes.first(where: { source.tensor(named: "\($0)embed_tokens.weight") != nil }) else {
            throw LanguageModelError(
                path: source.path, subject: "tensor model.embed_tokens.weight",
                reason: "missing, also under the prefixes "
                    + prefixes.dropFirst().map { "\"\($0)\"" }.joined(separator: ", "))
        }
        return prefix
    }
}

extension DecoderSizes.Keys {
    fileprivate static let configuration = DecoderSizes.Keys(
        hiddenSize: "hidden_size", intermediateSize: "intermediate_size", layerCount: "num_hidden_layers",
        queryHeads: "num_attention_heads", keyValueHeads: "num_key_value_heads", headDimension: "head_dim",
        contextLength: "max_position_embeddings", normEpsilon: "rms_norm_eps")
}

/// Reads a file of JSON.
///
/// - Throws: ``LanguageModelError`` if it cannot be read, or its content is no object.
func readJSONObject(path: String) throws(LanguageModelError) -> JSONObject {
    let value: JSONValue
    do {
        let file = try MappedFile(path: path)
        // Configurations of models have some kilobytes.
        value = try JSONParser.parse(file.bytes, limits: JSONLimits(maximumBytes: 1 << 22))
    } catch let error as WeightsError {
        throw LanguageModelError(error)
    } catch let error as JSONError {
        throw LanguageModelError(path: path, subject: "byte \(error.offset)", reason: error.reason)
    } catch {
        throw LanguageModelError(path: path, subject: "file", reason: "\(error)")
    }
    guard let object = value.object else {
        throw LanguageModelError(path: path, subject: "file", reason: "it is no JSON object")
    }
    return object
}
