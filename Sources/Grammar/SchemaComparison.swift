// Tandem — Apache-2.0

internal import JSON

extension SchemaReader {
    private static let comparisons = 20_000
    private static let comparedDepth = 8

    // MARK: - Strings

    /// The strings that meet all of a shape's conditions.
    mutating func automaton(_ shape: StringShape, place: String) throws(GrammarError) -> CharacterAutomaton {
        var result: CharacterAutomaton?
        for condition in shape.conditions {
            let next = try automaton(condition)
            result =
                try result.map { (found) throws(GrammarError) in
                    try charge(found.intersection(next, place: condition.place), condition.place)
                } ?? next
            if result?.isEmpty == true { return .nothing }
        }
        guard shape.minimum > 0 || shape.maximum != nil else { return result ?? .anything }
        let length = try length(shape.minimum, shape.maximum, place)
        guard let result else { return length }
        return try charge(result.intersection(length, place: place), place)
    }

    mutating func automaton(_ condition: StringShape.Condition) throws(GrammarError) -> CharacterAutomaton {
        if let known = automata[condition.withoutPlace] { return known }
        let isFormat = condition.kind == .format
        let pattern = isFormat ? StringFormats.patterns[condition.text] ?? condition.text : condition.text
        let expression: Expression
        do throws(GrammarError) {
            expression = try PatternParser.expression(pattern, isFormat ? .whole : .search)
        } catch {
            throw GrammarError(kind: error.kind, place: condition.place, reason: "\(error.place): \(error.reason)")
        }
        let automaton = try charge(CharacterAutomaton(expression, place: condition.place), condition.place)
        automata[condition.withoutPlace] = automaton
        return automaton
    }

    // MARK: - Properties

    /// What the value of a property must be, whatever else is in the object.
    mutating func schemas(of name: String, in object: ObjectShape) throws(GrammarError) -> SchemaSet {
        var result: SchemaSet = []
        for part in object.parts {
            var own = part.properties.filter { $0.name.utf8.elementsEqual(name.utf8) }.map(\.schema)
            for (condition, schema) in part.patterns where try automaton(condition).matches(name.unicodeScalars) {
                own.append(schema)
            }
            if own.isEmpty, let additional = part.additional { own = [additional] }
            result = result.joined(Set(own).sorted())
        }
        return result
    }

    // MARK: - Values

    /// Whether a value satisfies all schemas of a set.
    mutating func accepts(_ value: JSONValue, _ set: SchemaSet) throws(GrammarError) -> Bool {
        for shape in try shapes(of: set) where try accepts(value, shape, place: place(of: set)) { return true }
        return false
    }

    /// Whether a value satisfies a shape.
    mutating func accepts(_ value: JSONValue, _ shape: SchemaShape, place: String) throws(GrammarError) -> Bool {
        try countComparison(place)
        if let literals = shape.literals, !literals.contains(where: { $0.isSame(as: value) }) { return false }
        switch value {
        case .null: return shape.allowsNull
        case .bool(let value): return value ? shape.allowsTrue : shape.allowsFalse
        case .integer, .number:
            guard let number = shape.number else { return false }
            if number.isAny { return true }
            guard let decimal = DecimalNumber(value) else {
                throw GrammarError(
                    kind: .unsupported, place: place, reason: "a number beyond 10^30 cannot be compared")
            }
            guard number.contains(decimal), decimal.isWhole || (!number.isInteger && number.divisors.isEmpty) else {
                return false
            }
            guard !number.divisors.isEmpty else { return true }
            guard let whole = decimal.truncated else { return false }
            return number.divisors.allSatisfy { whole % Int64($0) == 0 }
        case .string(let text):
            guard let string = shape.string else { return false }
            let count = text.unicodeScalars.count
            guard count >= string.minimum, count <= string.maximum ?? count else { return false }
            for condition in string.conditions
            where try !automaton(condition).matches(text.unicodeScalars) { return false }
            return true
        case .array(let elements):
            guard let array = shape.array else { return false }
            guard elements.count >= array.minimum, elements.count <= array.maximum ?? elements.count else {
                return false
            }
            if array.uniquePlace != nil {
                for (index, element) in elements.enumerated()
                where elements[..<index].contains(where: { $0.isSame(as: element) }) { return false }
            }
            for (index, element) in elements.enumerated() where try !accepts(element, array.element(index)) {
                return false
            }
            return true
        case .object(let members):
            guard let object = shape.object else { return false }
            guard members.count >= object.minimum, members.count <= object.maximum ?? members.count,
                object.required.allSatisfy({ members[$0] != nil })
            else { return false }
            for (name, member) in members.entries where try !accepts(member, schemas(of: name, in: object)) {
                return false
            }
            return true
        }
    }

    // MARK: - One of several

    /// Refuses `oneOf` whose branches are not known to exclude one another.
    mutating func checkExclusiveBranches() throws(GrammarError) {
        while let (branches, place) = exclusiveBranches.popLast() {
            for (index, branch) in branches.enumerated() {
                for (other, second) in branches[..<index].enumerated() {
                    for left in second {
                        for right in branch where try !areApart(left, right, place, 0) {
                            throw GrammarError(
                                kind: .unsupported, place: place,
                                reason: "a value may satisfy both branch \(other) and branch \(index); tell them apart "
                                    + "by type or by a required property with a `const`, or use `anyOf`")
                        }
                    }
                }
            }
        }
    }

    /// Whether it is certain that no value satisfies both shapes.
    private mutating func areApart(
        _ left: SchemaShape, _ right: SchemaShape, _ place: String, _ depth: Int
    ) throws(GrammarError) -> Bool {
        guard depth < SchemaReader.comparedDepth else { return false }
        try countComparison(place)
        for (literals, shape, own) in [(left.literals, right, left), (right.literals, left, right)] {
            guard let literals else { continue }
            for value in literals where try accepts(value, own, place: place) {
                if try accepts(value, shape, place: place) { return false }
            }
            return true
        }
        if left.allowsNull && right.allowsNull || left.allowsTrue && right.allowsTrue
            || left.allowsFalse && right.allowsFalse
        {
            return false
        }
        if let a = left.number, let b = right.number {
            let both = a.intersection(b)
            guard let low = both.minimum, let high = both.maximum else { return false }
            guard high.value < low.value || (low.value == high.value && (low.isExclusive || high.isExclusive)) else {
                return false
            }
        }
        if let a = left.string, let b = right.string,
            try !automaton(a.intersection(b), place: place).isEmpty
        {
            return false
        }
        if let a = left.array, let b = right.array, try !areApart(a, b, place, depth) { return false }
        if let a = left.object, let b = right.object, try !areApart(a, b, place, depth) { return false }
        return true
    }

    private mutating func areApart(
        _ left: ArrayShape, _ right: ArrayShape, _ place: String, _ depth: Int
    ) throws(GrammarError) -> Bool {
        let minimum = max(left.minimum, right.minimum)
        let maximum = [left.maximum, right.maximum].compactMap(\.self).min()
        if let maximum, maximum < minimum { return true }
        for index in 0..<min(minimum, 16)
        where try areApart(left.element(index), right.element(index), place, depth + 1) { return true }
        return false
    }

    private mutating func areApart(
        _ left: ObjectShape, _ right: ObjectShape, _ place: String, _ depth: Int
    ) throws(GrammarError) -> Bool {
        let minimum = max(left.minimum, right.minimum)
        let maximum = [left.maximum, right.maximum].compactMap(\.self).min()
        if let maximum, maximum < minimum { return true }
        for name in left.intersection(right).required {
            let sets = (try schemas(of: name, in: left), try schemas(of: name, in: right))
            if try areApart(sets.0, sets.1, place, depth + 1) { return true }
        }
        return false
    }

    private mutating func areApart(
        _ left: SchemaSet, _ right: SchemaSet, _ place: String, _ depth: Int
    ) throws(GrammarError) -> Bool {
        for first in try shapes(of: left) {
            for second in try shapes(of: right) where try !areApart(first, second, place, depth) { return false }
        }
        return true
    }

    private mutating func countComparison(_ place: String) throws(GrammarError) {
        comparisonCount += 1
        guard comparisonCount <= SchemaReader.comparisons else {
            throw GrammarError(
                kind: .tooComplex, place: place,
                reason: "values and branches would have to be compared more than \(SchemaReader.comparisons) times")
        }
    }
}
