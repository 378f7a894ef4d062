// Tandem — Apache-2.0

/// An expression of a template. A class, so that trees need no other indirection.
final class TemplateExpression: Sendable {
    enum Kind: Sendable {
        case none
        case boolean(Bool)
        case integer(Int64)
        case number(Double)
        case string(String)
        case name(String)
        case list([TemplateExpression], isTuple: Bool)
        case mapping([(key: TemplateExpression, value: TemplateExpression)])
        case attribute(TemplateExpression, String)
        case element(TemplateExpression, TemplateExpression)
        case slice(TemplateExpression, [TemplateExpression?])
        case call(TemplateExpression, TemplateArguments)
        case filter(TemplateExpression, String, TemplateArguments)
        case test(TemplateExpression, String, TemplateArguments)
        case not(TemplateExpression)
        case and(TemplateExpression, TemplateExpression)
        case or(TemplateExpression, TemplateExpression)
        case negative(TemplateExpression)
        case positive(TemplateExpression)
        case arithmetic(TemplateOperator, TemplateExpression, TemplateExpression)
        case concatenation([TemplateExpression])
        case comparison(TemplateExpression, [(TemplateComparison, TemplateExpression)])
        case conditional(TemplateExpression, condition: TemplateExpression, otherwise: TemplateExpression?)
    }

    let kind: Kind
    let line: Int
    /// The number of nodes from here down the longest path.
    let height: Int

    init(_ kind: Kind, line: Int) {
        self.kind = kind
        self.line = line
        height = 1 + kind.children.reduce(0) { max($0, $1.height) }
    }
}

extension TemplateExpression.Kind {
    fileprivate var children: [TemplateExpression] {
        switch self {
        case .none, .boolean, .integer, .number, .string, .name: []
        case .list(let items, _), .concatenation(let items): items
        case .mapping(let entries): entries.flatMap { [$0.key, $0.value] }
        case .attribute(let base, _), .not(let base), .negative(let base), .positive(let base): [base]
        case .element(let left, let right), .and(let left, let right), .or(let left, let right),
            .arithmetic(_, let left, let right):
            [left, right]
        case .slice(let base, let bounds): [base] + bounds.compactMap { $0 }
        case .call(let base, let arguments), .filter(let base, _, let arguments), .test(let base, _, let arguments):
            [base] + arguments.positional + arguments.keywords.map(\.value)
        case .comparison(let first, let rest): [first] + rest.map(\.1)
        case .conditional(let value, let condition, let otherwise):
            [value, condition] + (otherwise.map { [$0] } ?? [])
        }
    }
}

struct TemplateArguments: Sendable {
    var positional: [TemplateExpression] = []
    var keywords: [(name: String, value: TemplateExpression)] = []
}

enum TemplateOperator: String, Sendable {
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case floorDivide = "//"
    case modulo = "%"
}

enum TemplateComparison: String, Sendable {
    case equal = "=="
    case notEqual = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case isIn = "in"
    case isNotIn = "not in"
}

/// What an assignment or a loop binds.
enum TemplateTarget: Sendable {
    case name(String)
    case names([String])
    /// An attribute of a namespace.
    case attribute(String, String)
}

/// A macro: statements with parameters, called like a function for the text that they write.
final class TemplateMacro: Sendable {
    let name: String
    let parameters: [(name: String, fallback: TemplateExpression?)]
    let body: [TemplateStatement]

    init(name: String, parameters: [(name: String, fallback: TemplateExpression?)], body: [TemplateStatement]) {
        self.name = name
        self.parameters = parameters
        self.body = body
    }
}

indirect enum TemplateStatement: Sendable {
    case text(String)
    case output(TemplateExpression)
    case conditional([(condition: TemplateExpression, body: [TemplateStatement])], otherwise: [TemplateStatement])
    case loop(TemplateLoopStatement)
    case assignment(TemplateTarget, TemplateExpression)
    case capture(TemplateTarget, body: [TemplateStatement], line: Int)
    case block([TemplateStatement])
    case macro(TemplateMacro)
    case breakLoop
    case continueLoop
}

struct TemplateLoopStatement: Sendable {
    let target: TemplateTarget
    let sequence: TemplateExpression
    let condition: TemplateExpression?
    let body: [TemplateStatement]
    let otherwise: [TemplateStatement]
}
