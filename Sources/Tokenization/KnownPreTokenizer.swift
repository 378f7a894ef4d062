// Tandem — Apache-2.0

/// What a name in `tokenizer.ggml.pre` stands for.
struct KnownPreTokenizer: Sendable {
    let name: String
    let preTokenizer: PreTokenizer
    /// Text is brought into Unicode's normalization form C first.
    var normalizesToFormC = false
    /// What holds where the file does not say whether a text begins with BOS.
    var addsBOSByDefault = false

    /// One entry for each name that model files may use.
    static let table: [KnownPreTokenizer] = [
        KnownPreTokenizer(name: "smollm", preTokenizer: PreTokenizer(isolatesDigits: true, pattern: .gpt2)),
        KnownPreTokenizer(name: "gpt-2", preTokenizer: PreTokenizer(pattern: .gpt2)),
        KnownPreTokenizer(
            name: "qwen2", preTokenizer: PreTokenizer(pattern: .llama3(digits: 1)), normalizesToFormC: true),
        KnownPreTokenizer(
            name: "llama-bpe", preTokenizer: PreTokenizer(pattern: .llama3(digits: 3), ignoresMerges: true),
            addsBOSByDefault: true),
    ]

    private init(
        name: String, preTokenizer: PreTokenizer, normalizesToFormC: Bool = false, addsBOSByDefault: Bool = false
    ) {
        self.name = name
        self.preTokenizer = preTokenizer
        self.normalizesToFormC = normalizesToFormC
        self.addsBOSByDefault = addsBOSByDefault
    }

    /// - Throws: `TokenizationError` for a name that is not in the table.
    init(named name: String) throws(TokenizationError) {
        guard let entry = Self.table.first(where: { $0.name == name }) else {
            let names = Self.table.map(\.name).joined(separator: ", ")
            throw TokenizationError(
                field: "tokenizer.ggml.pre", reason: "unknown pre-tokenizer \"\(name)\"; known are \(names)")
        }
        self = entry
    }
}
