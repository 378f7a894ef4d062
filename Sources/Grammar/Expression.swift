// Tandem — Apache-2.0

/// What a rule describes, in terms that all notations share.
indirect enum Expression: Sendable {
    /// These bytes.
    case literal([UInt8])
    /// One character.
    case characters(CodePointSet)
    /// One after the other; without elements, the empty text.
    case sequence([Expression])
    /// One of them; without elements, nothing at all.
    case choice([Expression])
    case repetition(Expression, minimum: Int, maximum: Int?)
    /// What another rule describes.
    case rule(Int)
    /// What an automaton over characters accepts, each character written as `spelling` says.
    case text(CharacterAutomaton, spelling: Spelling)
    case list(List)
    case members(Members)

    /// Elements with separators between them.
    struct List: Sendable {
        /// The first elements.
        var prefix: [Expression]
        /// All others; nil if there are none.
        var rest: Expression?
        var separator: Expression
        var minimum: Int
        var maximum: Int?
    }

    /// Members of an object, one at least, with separators between them: those that are listed in their order, then
    /// others.
    struct Members: Sendable {
        var listed: [(expression: Expression, isRequired: Bool)]
        var extra: Expression?
        var separator: Expression
        /// The least number of different members; the greatest number of members.
        var minimum: Int
        var maximum: Int?
    }

    static var empty: Expression { .sequence([]) }
    static var never: Expression { .choice([]) }

    static func literal(_ text: String) -> Expression { .literal(Array(text.utf8)) }

    static func optional(_ expression: Expression) -> Expression {
        .repetition(expression, minimum: 0, maximum: 1)
    }

    /// Calls a function with every rule that is referred to, each time.
    func forEachRule(_ body: (Int) -> Void) {
        switch self {
        case .literal, .characters, .text: break
        case .sequence(let elements), .choice(let elements):
            for element in elements { element.forEachRule(body) }
        case .repetition(let repeated, _, _): repeated.forEachRule(body)
        case .rule(let rule): body(rule)
        case .list(let list):
            for element in list.prefix + [list.separator] { element.forEachRule(body) }
            list.rest?.forEachRule(body)
        case .members(let members):
            for member in members.listed { member.expression.forEachRule(body) }
            members.extra?.forEachRule(body)
            members.separator.forEachRule(body)
        }
    }
}

/// How a character is written.
enum Spelling: Sendable {
    /// As its UTF-8.
    case plain
    /// As in a JSON string: as its UTF-8 where JSON permits it, and else as its shortest escape.
    case json

    /// The ways to write members of a set: literally for most, bytes of their own for the others.
    func spell(_ set: CodePointSet) -> (plain: CodePointSet, escaped: [[UInt8]]) {
        guard self == .json else { return (set, []) }
        let special = CodePointSet([0...0x1F, 0x22...0x22, 0x5C...0x5C])
        let escaped = set.intersection(special).ranges.flatMap { range in
            range.map { Spelling.escape(UInt8($0)) }
        }
        return (set.subtracting(special), escaped)
    }

    private static func escape(_ byte: UInt8) -> [UInt8] {
        switch byte {
        case 0x08: Array("\\b".utf8)
        case 0x09: Array("\\t".utf8)
        case 0x0A: Array("\\n".utf8)
        case 0x0C: Array("\\f".utf8)
        case 0x0D: Array("\\r".utf8)
        case 0x22: Array("\\\"".utf8)
        case 0x5C: Array("\\\\".utf8)
        default: Array((byte < 0x10 ? "\\u000" : "\\u00").utf8) + Array(String(byte, radix: 16).utf8)
        }
    }
}
