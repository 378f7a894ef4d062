// Tandem — Apache-2.0

internal import JSON

/// One of several texts.
enum ChoiceGrammar {
    /// - Parameter text: a JSON array of strings.
    static func rules(_ text: String) throws(GrammarError) -> RuleSet {
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONParser.parse(Array(text.utf8))
        } catch {
            throw GrammarError(kind: .malformed, place: "#", reason: "\(error)")
        }
        guard let elements = value.array else {
            throw GrammarError(kind: .malformed, place: "#", reason: "a choice is an array of strings")
        }
        guard !elements.isEmpty else {
            throw GrammarError(kind: .empty, place: "#", reason: "there is nothing to choose from")
        }
        var texts: [Expression] = []
        for (index, element) in elements.enumerated() {
            guard let text = element.string else {
                throw GrammarError(
                    kind: .malformed, place: "#/\(index)", reason: "a \(element.typeName) stands where a string belongs"
                )
            }
            texts.append(.literal(text))
        }
        var rules = RuleSet()
        rules.root = rules.reserve(name: "root", place: "#")
        rules.expressions[rules.root] = .choice(texts)
        return rules
    }
}
