// Tandem — Apache-2.0

internal import JSON
public import Requests

/// A compiled source: a language over bytes, without a vocabulary. Cheap enough to make where a request is validated.
public struct CompiledGrammar: Sendable {
    let texts: [[UInt8]]

    public init(_ source: GrammarSource) throws(GrammarError) {
        guard source.kind == .choice else {
            throw GrammarError(kind: .unsupported, place: "", reason: "only choices can be matched")
        }
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONParser.parse(Array(source.text.utf8))
        } catch {
            throw GrammarError(kind: .malformed, place: "byte \(error.offset)", reason: error.reason)
        }
        guard let array = value.array, array.allSatisfy({ $0.string != nil }) else {
            throw GrammarError(kind: .malformed, place: "#", reason: "a choice is an array of strings")
        }
        guard !array.isEmpty else {
            throw GrammarError(kind: .empty, place: "#", reason: "there is nothing to choose from")
        }
        texts = array.map { Array((source.prefix + ($0.string ?? "") + source.suffix).utf8) }
    }

    /// Whether a whole text belongs to the language.
    public func matches(_ text: String) -> Bool { texts.contains(Array(text.utf8)) }
}
