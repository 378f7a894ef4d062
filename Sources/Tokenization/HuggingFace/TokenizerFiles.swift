// Tandem — Apache-2.0

import Glibc
import JSON
import Requests
import Weights

/// The files that make a tokenizer in a directory of Hugging Face's layout.
struct TokenizerFiles {
    let tokenizer: JSONField
    let tokenizerConfig: JSONField
    let generationConfig: JSONField
    /// The content of `chat_template.jinja`.
    let chatTemplate: String?
    /// Over the bytes of `tokenizer.json`.
    let fingerprint: Digest128

    /// Vocabularies of a quarter of a million tokens with merges as pairs have two million values.
    private static let tokenizerLimits = JSONLimits(
        maximumDepth: 32, maximumBytes: 256 << 20, maximumValues: 12_000_000)
    private static let configLimits = JSONLimits(maximumDepth: 64, maximumBytes: 8 << 20, maximumValues: 1_000_000)

    init(directory: String) throws(TokenizationError) {
        let base = directory.hasSuffix("/") ? directory : directory + "/"
        let path = base + "tokenizer.json"
        guard let file = try Self.open(path) else {
            throw TokenizationError(
                file: path, field: "",
                reason: "does not exist; a model directory must carry its tokenizer in this file")
        }
        tokenizer = try Self.parse(file, Self.tokenizerLimits)
        var hash = StableHash()
        withExtendedLifetime(file) { hash.combine(buffer: file.bytes) }
        fingerprint = hash.digest()
        tokenizerConfig = try Self.config(base + "tokenizer_config.json")
        generationConfig = try Self.config(base + "generation_config.json")
        let template = try Self.open(base + "chat_template.jinja")
        if let template, template.bytes.count > Self.configLimits.maximumBytes {
            throw TokenizationError(
                file: template.path, field: "",
                reason: "has \(template.bytes.count) bytes; \(Self.configLimits.maximumBytes) are allowed")
        }
        chatTemplate = template.map { file in
            withExtendedLifetime(file) { String(decoding: file.bytes, as: UTF8.self) }
        }
    }

    /// From content alone, without files.
    init(
        tokenizer: JSONValue, tokenizerConfig: JSONValue? = nil, generationConfig: JSONValue? = nil,
        chatTemplate: String? = nil
    ) {
        self.tokenizer = JSONField(file: "tokenizer.json", value: tokenizer)
        self.tokenizerConfig = JSONField(file: "tokenizer_config.json", value: tokenizerConfig)
        self.generationConfig = JSONField(file: "generation_config.json", value: generationConfig)
        self.chatTemplate = chatTemplate
        fingerprint = Digest128(high: 0, low: 0)
    }

    /// nil if there is no such file.
    private static func open(_ path: String) throws(TokenizationError) -> MappedFile? {
        guard access(path, F_OK) == 0 || errno != ENOENT else { return nil }
        do {
            return try MappedFile(path: path)
        } catch {
            throw TokenizationError(file: path, field: "", reason: error.reason)
        }
    }

    private static func config(_ path: String) throws(TokenizationError) -> JSONField {
        guard let file = try open(path) else { return JSONField(file: path, value: nil) }
        return try parse(file, configLimits)
    }

    private static func parse(_ file: MappedFile, _ limits: JSONLimits) throws(TokenizationError) -> JSONField {
        // The bytes are valid only while the file is.
        let result = withExtendedLifetime(file) {
            Result { () throws(JSONError) in try JSONParser.parse(file.bytes, limits: limits) }
        }
        switch result {
        case .success(let value): return JSONField(file: file.path, value: value)
        case .failure(let error): throw TokenizationError(file: file.path, field: "", reason: error.description)
        }
    }

    // MARK: - Definition

    func definition() throws(TokenizationError) -> TokenizerDefinition {
        var reader = try TokenizerJSONReader(tokenizer)
        try reader.readAll()
        var definition = reader.definition
        definition.fields.file = tokenizer.file
        try readConfig(reader, into: &definition)
        definition.furtherEndTokens = try endTokens()
        if let chatTemplate {
            definition.chatTemplate = chatTemplate
        } else {
            definition.chatTemplate = try templateOfConfig()
        }
        return definition
    }

    private func readConfig(
        _ reader: TokenizerJSONReader, into definition: inout TokenizerDefinition
    ) throws(TokenizationError) {
        definition.bosToken = try token("bos_token", reader)
        definition.eosToken = try token("eos_token", reader)
        var surroundings = definition.surroundings ?? ([], [])
        // What the configuration says about BOS and EOS holds, whatever the post-processor does.
        if let addsBOS = try tokenizerConfig["add_bos_token"].optionalBool() {
            if let bos = definition.bosToken {
                surroundings.prefix.removeAll { $0 == bos }
                if addsBOS { surroundings.prefix.insert(bos, at: 0) }
            } else if addsBOS {
                throw tokenizerConfig["bos_token"].error("missing, but add_bos_token is true")
            }
        }
        if let addsEOS = try tokenizerConfig["add_eos_token"].optionalBool() {
            if let eos = definition.eosToken {
                surroundings.suffix.removeAll { $0 == eos }
                if addsEOS { surroundings.suffix.append(eos) }
            } else if addsEOS {
                throw tokenizerConfig["eos_token"].error("missing, but add_eos_token is true")
            }
        }
        definition.surroundings = surroundings
    }

    /// A token of the configuration, a string or an object with its `content`.
    private func token(_ key: String, _ reader: TokenizerJSONReader) throws(TokenizationError) -> UInt64? {
        let field = tokenizerConfig[key]
        if field.isMissing { return nil }
        let text = field.value?.object == nil ? try field.string() : try field["content"].string()
        guard let token = reader.token(text) else {
            throw field.error("\(quoted(text)) is not in the vocabulary")
        }
        return UInt64(token)
    }

    /// `eos_token_id`: one token or several. Models may have more tokens than their vocabulary names.
    private func endTokens() throws(TokenizationError) -> [TokenID] {
        let field = generationConfig["eos_token_id"]
        if field.isMissing { return [] }
        var result: [TokenID] = []
        for element in field.value?.array == nil ? [field] : try field.elements() {
            guard let token = TokenID(exactly: try element.integer()), token >= 0 else {
                throw element.error("is not a token")
            }
            result.append(token)
        }
        return result
    }

    /// `chat_template`: one template, or several with names.
    private func templateOfConfig() throws(TokenizationError) -> String? {
        let field = tokenizerConfig["chat_template"]
        if field.isMissing { return nil }
        guard field.value?.array != nil else { return try field.string() }
        let templates = try field.elements()
        for template in templates where template["name"].value?.string == "default" {
            return try template["template"].string()
        }
        guard let only = templates.first, templates.count == 1 else {
            if templates.isEmpty { return nil }
            throw field.error("none of the \(templates.count) templates is named default")
        }
        return try only["template"].string()
    }
}
