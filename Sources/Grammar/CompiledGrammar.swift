// Tandem — Apache-2.0

public import Requests

/// A compiled source: a language over bytes, without a vocabulary. Cheap enough to make where a request is validated.
public struct CompiledGrammar: Sendable {
    let network: PositionNetwork

    /// - Throws: ``GrammarError`` if the source has a mistake, uses what is not supported, needs too much, or describes
    ///   nothing.
    public init(_ source: GrammarSource) throws(GrammarError) {
        let bytes = source.text.utf8.count + source.prefix.utf8.count + source.suffix.utf8.count
        guard bytes <= GrammarLimits.sourceBytes else {
            throw GrammarError(
                kind: .tooComplex, place: "",
                reason: "the source has \(bytes) bytes; \(GrammarLimits.sourceBytes) are allowed")
        }
        var rules: RuleSet
        switch source.kind {
        case .jsonObject: rules = JSONGrammar.anyObject()
        case .jsonSchema: rules = try SchemaGrammar.rules(source.text)
        case .regularExpression: rules = try PatternParser.rules(source.text)
        case .gbnf: rules = try GBNFParser.rules(source.text)
        case .choice: rules = try ChoiceGrammar.rules(source.text)
        }
        if !source.prefix.isEmpty || !source.suffix.isEmpty {
            let root = rules.reserve(name: "root", place: rules.places[rules.root])
            rules.expressions[root] = .sequence([.literal(source.prefix), .rule(rules.root), .literal(source.suffix)])
            rules.root = root
        }
        network = try PositionNetwork(rules)
    }

    /// Whether a whole text belongs to the language.
    public func matches(_ text: String) -> Bool {
        var table = StateTable(network)
        var state = table.start()
        for byte in text.utf8 {
            if table.isFull {
                let new = StateTable(network)
                state = new.state(equalTo: state, of: table)
                table = new
            }
            state = table.next(state, byte)
            guard state != StateTable.dead else { return false }
        }
        return table.states[Int(state)].isAccepting
    }
}
