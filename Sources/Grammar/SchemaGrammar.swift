// Tandem — Apache-2.0

/// JSON schemas.
enum SchemaGrammar {
    static func rules(_ text: String) throws(GrammarError) -> RuleSet {
        throw GrammarError(kind: .unsupported, place: "#", reason: "schemas are not supported")
    }
}
