// Tandem — Apache-2.0

/// Pieces of JSON that all schemas share.
struct JSONGrammar {
    var rules = RuleSet()
    private var known: [String: Int] = [:]

    /// Any object, with any values in it.
    static func anyObject() -> RuleSet {
        var grammar = JSONGrammar()
        grammar.rules.root = grammar.object
        return grammar.rules
    }

    /// White space where JSON permits it, and no more of it than makes a text readable: one space, or one line break
    /// and the indentation behind it.
    var space: Expression {
        mutating get { .optional(.rule(whitespace)) }
    }

    /// An expression between brackets or braces. White space may follow the first of them; what precedes the last is up
    /// to the expression.
    mutating func enclosed(_ open: String, _ body: Expression, _ close: String) -> Expression {
        .sequence([.literal(open), space, body, .literal(close)])
    }

    var comma: Expression {
        mutating get { .sequence([.literal(","), space]) }
    }

    var colon: Expression {
        mutating get { .sequence([.literal(":"), space]) }
    }

    private var whitespace: Int {
        mutating get {
            rule("white space") { _ in
                .choice([
                    .literal(" "),
                    .sequence([
                        .literal("\n"),
                        .choice([
                            .repetition(.literal(" "), minimum: 0, maximum: 24),
                            .repetition(.literal("\t"), minimum: 1, maximum: 12),
                        ]),
                    ]),
                ])
            }
        }
    }

    /// Any value.
    var value: Int {
        mutating get {
            rule("value") { grammar in
                .choice([
                    .rule(grammar.object), .rule(grammar.array), .rule(grammar.string), .rule(grammar.number),
                    .literal("true"), .literal("false"), .literal("null"),
                ])
            }
        }
    }

    /// Any object.
    var object: Int {
        mutating get {
            rule("object") { grammar in
                let member = Expression.sequence([.rule(grammar.string), grammar.colon, .rule(grammar.value)])
                let more = Expression.repetition(.sequence([grammar.comma, member]), minimum: 0, maximum: nil)
                return grammar.enclosed("{", .optional(.sequence([member, more, grammar.space])), "}")
            }
        }
    }

    /// Any array.
    var array: Int {
        mutating get {
            rule("array") { grammar in
                let element = Expression.rule(grammar.value)
                let more = Expression.repetition(.sequence([grammar.comma, element]), minimum: 0, maximum: nil)
                return grammar.enclosed("[", .optional(.sequence([element, more, grammar.space])), "]")
            }
        }
    }

    /// Any string.
    var string: Int {
        mutating get {
            rule("string") { _ in
                .sequence([
                    .literal("\""), .repetition(JSONGrammar.character, minimum: 0, maximum: nil), .literal("\""),
                ])
            }
        }
    }

    /// A character of a string, by any of its spellings.
    var character: Int {
        mutating get { rule("character") { _ in JSONGrammar.character } }
    }

    private static let character: Expression = {
        let digit = Expression.characters(CodePointSet([0x30...0x39, 0x41...0x46, 0x61...0x66]))
        let d = Expression.characters(CodePointSet("dD"))
        return .choice([
            .characters(CodePointSet([0...0x1F, 0x22...0x22, 0x5C...0x5C]).inverted),
            .sequence([.literal("\\"), .characters(CodePointSet("\"\\/bfnrt"))]),
            .sequence([
                .literal("\\u"), .characters(CodePointSet("0123456789abcefABCEF")), digit, digit, digit,
            ]),
            .sequence([.literal("\\u"), d, .characters(CodePointSet("01234567")), digit, digit]),
            // Surrogates only in pairs.
            .sequence([
                .literal("\\u"), d, .characters(CodePointSet("89abAB")), digit, digit,
                .literal("\\u"), d, .characters(CodePointSet("cdefCDEF")), digit, digit,
            ]),
        ])
    }()

    /// Any number, with no more digits than double precision holds.
    var number: Int {
        mutating get {
            rule("number") { _ in
                .sequence([
                    .optional(.literal("-")), JSONGrammar.magnitude,
                    .optional(.sequence([.literal("."), JSONGrammar.digits(1, 15)])),
                    .optional(
                        .sequence([
                            .characters(CodePointSet("eE")), .optional(.characters(CodePointSet("+-"))),
                            JSONGrammar.digits(1, 2),
                        ])),
                ])
            }
        }
    }

    static func digits(_ minimum: Int, _ maximum: Int) -> Expression {
        .repetition(.characters(CodePointSet([0x30...0x39])), minimum: minimum, maximum: maximum)
    }

    private static let magnitude = Expression.choice([
        .literal("0"), .sequence([.characters(CodePointSet([0x31...0x39])), digits(0, 17)]),
    ])

    /// The rule of a name, made when it is first asked for.
    private mutating func rule(_ name: String, _ make: (inout JSONGrammar) -> Expression) -> Int {
        if let rule = known[name] { return rule }
        let rule = rules.reserve(name: name, place: "#")
        known[name] = rule
        let expression = make(&self)
        rules.expressions[rule] = expression
        return rule
    }
}
