// Tandem — Apache-2.0

internal import JSON

/// Writes the rules of a JSON schema.
struct SchemaGrammar {
    private var reader: SchemaReader
    private var grammar = JSONGrammar()
    private var numbers: [SchemaSet: Int] = [:]
    /// Sets whose rules are not written yet.
    private var pending: [SchemaSet] = []

    private static let maximumPatterns = 4

    /// The rules of a schema.
    static func rules(_ text: String) throws(GrammarError) -> RuleSet {
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONParser.parse(Array(text.utf8), limits: JSONLimits(maximumDepth: GrammarLimits.nesting))
        } catch {
            throw GrammarError(kind: .malformed, place: "#", reason: "the schema is not JSON: \(error)")
        }
        var writer = SchemaGrammar(reader: SchemaReader(value))
        return try writer.rules(value)
    }

    private init(reader: SchemaReader) { self.reader = reader }

    private mutating func rules(_ value: JSONValue) throws(GrammarError) -> RuleSet {
        let root = rule([reader.location(value, "#")])
        while let set = pending.popLast() {
            guard let number = numbers[set] else { continue }
            let expression = try expression(set)
            grammar.rules.expressions[number] = expression
        }
        try reader.checkExclusiveBranches()
        grammar.rules.root = root
        return grammar.rules
    }

    // MARK: - Values

    /// The rule of what satisfies a set of schemas.
    private mutating func rule(_ set: SchemaSet) -> Int {
        if let known = numbers[set] { return known }
        let place = reader.place(of: set)
        let number = grammar.rules.reserve(name: place, place: place)
        numbers[set] = number
        pending.append(set)
        return number
    }

    /// What satisfies a set of schemas, in place if that is short.
    private mutating func value(_ set: SchemaSet) throws(GrammarError) -> Expression {
        let shapes = try reader.shapes(of: set)
        if shapes.contains(where: \.isAny) { return .rule(grammar.value) }
        let isShort =
            shapes.count <= 4
            && shapes.allSatisfy { shape in
                shape.literals == nil && shape.number?.isAny ?? true && shape.string?.isAny ?? true
                    && shape.array?.isAny ?? true && shape.object?.isAny ?? true
            }
        return isShort ? try expression(set) : .rule(rule(set))
    }

    private mutating func expression(_ set: SchemaSet) throws(GrammarError) -> Expression {
        var branches: [Expression] = []
        for shape in try reader.shapes(of: set) { branches += try expressions(shape, place: reader.place(of: set)) }
        return .choice(branches)
    }

    private mutating func expressions(_ shape: SchemaShape, place: String) throws(GrammarError) -> [Expression] {
        if shape.isAny { return [.rule(grammar.value)] }
        if let literals = shape.literals {
            var result: [Expression] = []
            var others = shape
            others.literals = nil
            for value in literals where try reader.accepts(value, others, place: place) {
                result.append(literal(value))
            }
            return result
        }
        var result: [Expression] = []
        if shape.allowsNull { result.append(.literal("null")) }
        if shape.allowsTrue { result.append(.literal("true")) }
        if shape.allowsFalse { result.append(.literal("false")) }
        if let number = shape.number {
            result.append(try NumberGrammar.expression(number, any: .rule(grammar.number), place: place))
        }
        if let string = shape.string { result.append(try expression(string, place: place)) }
        if let array = shape.array { result.append(try expression(array)) }
        if let object = shape.object { result.append(try expression(object, place: place)) }
        return result
    }

    /// One value, with white space where a generated value may have it.
    private mutating func literal(_ value: JSONValue) -> Expression {
        switch value {
        case .array(let elements):
            return brackets(
                "[",
                .list(
                    Expression.List(
                        prefix: elements.map { literal($0) }, rest: nil, separator: grammar.comma,
                        minimum: elements.count, maximum: elements.count)),
                mayBeEmpty: elements.isEmpty, mayHoldSome: !elements.isEmpty, "]")
        case .object(let object):
            let members = object.entries.map { name, value in
                Expression.sequence([key(name), grammar.colon, literal(value)])
            }
            return brackets(
                "{",
                .list(
                    Expression.List(
                        prefix: members, rest: nil, separator: grammar.comma, minimum: members.count,
                        maximum: members.count)),
                mayBeEmpty: members.isEmpty, mayHoldSome: !members.isEmpty, "}")
        default:
            var writer = JSONWriter()
            writer.value(value)
            return .literal(writer.bytes)
        }
    }

    private func key(_ name: String) -> Expression {
        var writer = JSONWriter()
        writer.string(name)
        return .literal(writer.bytes)
    }

    /// Brackets around what is not empty, and around nothing if that is allowed.
    private mutating func brackets(
        _ open: String, _ body: Expression, mayBeEmpty: Bool, mayHoldSome: Bool, _ close: String
    ) -> Expression {
        var branches: [Expression] = []
        if mayBeEmpty { branches.append(.empty) }
        if mayHoldSome { branches.append(.sequence([body, grammar.space])) }
        return grammar.enclosed(open, .choice(branches), close)
    }

    // MARK: - Strings and arrays

    private mutating func expression(_ string: StringShape, place: String) throws(GrammarError) -> Expression {
        if string.isAny { return .rule(grammar.string) }
        let content: Expression
        if string.conditions.isEmpty {
            if let maximum = string.maximum, maximum < string.minimum { return .never }
            content = .repetition(.rule(grammar.character), minimum: string.minimum, maximum: string.maximum)
        } else {
            let automaton = try reader.automaton(string, place: place)
            if automaton.isEmpty { return .never }
            content = .text(automaton, spelling: .json)
        }
        return .sequence([.literal("\""), content, .literal("\"")])
    }

    private mutating func expression(_ array: ArrayShape) throws(GrammarError) -> Expression {
        if array.isAny { return .rule(grammar.array) }
        var maximum = array.maximum
        let hasRest = try !reader.shapes(of: array.rest).isEmpty
        if !hasRest { maximum = min(maximum ?? .max, array.prefix.count) }
        if let maximum, maximum < array.minimum { return .never }
        if let place = array.uniquePlace, maximum.map({ $0 > 1 }) ?? true {
            throw GrammarError(
                kind: .unsupported, place: place,
                reason: "that elements differ cannot be enforced, unless `maxItems` is 1; leave `uniqueItems` out")
        }
        var prefix: [Expression] = []
        for set in array.prefix.prefix(maximum ?? array.prefix.count) { prefix.append(try value(set)) }
        let list = Expression.List(
            prefix: prefix, rest: hasRest ? try value(array.rest) : nil, separator: grammar.comma,
            minimum: max(1, array.minimum), maximum: maximum)
        return brackets(
            "[", .list(list), mayBeEmpty: array.minimum == 0, mayHoldSome: maximum.map { $0 > 0 } ?? true, "]")
    }

    // MARK: - Objects

    private mutating func expression(_ object: ObjectShape, place: String) throws(GrammarError) -> Expression {
        if object.isAny { return .rule(grammar.object) }
        let names = object.names
        let required = Set(object.required.map { Array($0.utf8) })
        var listed: [(expression: Expression, isRequired: Bool)] = []
        for name in names {
            let set = try reader.schemas(of: name, in: object)
            let isRequired = required.contains(Array(name.utf8))
            if try reader.shapes(of: set).isEmpty {
                if isRequired { return .never }
                continue
            }
            listed.append((.sequence([key(name), grammar.colon, try value(set)]), isRequired))
        }
        let extra = try additional(object, names, listed.count, place: place)
        if object.minimum > listed.count + (extra == nil ? 0 : 1) {
            if extra == nil { return .never }
            throw GrammarError(
                kind: .unsupported, place: SchemaReader.append("minProperties", to: place),
                reason: "of properties that are not listed, no more than one can be demanded")
        }
        if let maximum = object.maximum, maximum < object.minimum { return .never }
        let members = Expression.Members(
            listed: listed, extra: extra, separator: grammar.comma, minimum: object.minimum, maximum: object.maximum)
        let hasMembers = (!listed.isEmpty || extra != nil) && object.maximum != 0
        return brackets(
            "{", .members(members), mayBeEmpty: object.minimum == 0 && object.required.isEmpty,
            mayHoldSome: hasMembers, "}")
    }

    /// Members that are not listed; nil if there are none.
    private mutating func additional(
        _ object: ObjectShape, _ names: [String], _ listedCount: Int, place: String
    ) throws(GrammarError) -> Expression? {
        var patterns: [StringShape.Condition] = []
        for (condition, _) in object.parts.flatMap(\.patterns)
        where !patterns.contains(where: { $0.text.utf8.elementsEqual(condition.text.utf8) }) {
            patterns.append(condition)
        }
        guard patterns.count <= SchemaGrammar.maximumPatterns else {
            throw GrammarError(
                kind: .tooComplex, place: SchemaReader.append("patternProperties", to: place),
                reason: "there are more than \(SchemaGrammar.maximumPatterns) patterns")
        }
        // Schemas that list properties and are silent about others are meant to list all of them.
        let isClosed =
            !object.parts.isEmpty && object.parts.allSatisfy { $0.additional == nil } && object.minimum <= listedCount
        var unlisted = CharacterAutomaton.anything
        if !names.isEmpty {
            unlisted = try reader.charge(CharacterAutomaton(texts: names, place: place), place).complement
        }
        var branches: [Expression] = []
        for subset in 0..<(1 << patterns.count) {
            if subset == 0, isClosed { continue }
            var keys = unlisted
            var set: SchemaSet = []
            for (index, condition) in patterns.enumerated() {
                let automaton = try reader.automaton(condition)
                let other = subset >> index & 1 == 1 ? automaton : automaton.complement
                keys = try reader.charge(keys.intersection(other, place: condition.place), condition.place)
                if keys.isEmpty { break }
            }
            for part in object.parts {
                var own: [Int] = []
                for (condition, schema) in part.patterns {
                    let index = patterns.firstIndex { $0.text.utf8.elementsEqual(condition.text.utf8) } ?? 0
                    if subset >> index & 1 == 1 { own.append(schema) }
                }
                if own.isEmpty, let additional = part.additional { own = [additional] }
                set = set.joined(Set(own).sorted())
            }
            if keys.isEmpty { continue }
            if try reader.shapes(of: set).isEmpty { continue }
            let isAnyKey = names.isEmpty && patterns.isEmpty
            let key: Expression =
                isAnyKey
                ? .rule(grammar.string) : .sequence([.literal("\""), .text(keys, spelling: .json), .literal("\"")])
            branches.append(.sequence([key, grammar.colon, try value(set)]))
        }
        return branches.isEmpty ? nil : .choice(branches)
    }
}

extension SchemaShape {
    /// Whether every value is allowed.
    fileprivate var isAny: Bool {
        literals == nil && allowsNull && allowsTrue && allowsFalse && number?.isAny == true && string?.isAny == true
            && array?.isAny == true && object?.isAny == true
    }
}
