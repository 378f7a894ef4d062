// Tandem — Apache-2.0

internal import JSON

/// Schemas that all must hold, by number, in order. Without members, anything holds.
typealias SchemaSet = [Int]

/// One way to satisfy a schema: what it asks of a value of each type. A schema is a list of such ways.
struct SchemaShape: Sendable {
    var allowsNull = true
    var allowsTrue = true
    var allowsFalse = true
    /// Nil where no value of the type is allowed; likewise below.
    var number: NumberShape? = NumberShape()
    var string: StringShape? = StringShape()
    var array: ArrayShape? = ArrayShape()
    var object: ObjectShape? = ObjectShape()
    /// If set, no other values are allowed.
    var literals: [JSONValue]?

    /// Whether no value of any type is allowed.
    var isEmpty: Bool {
        if let literals { return literals.isEmpty }
        return !allowsNull && !allowsTrue && !allowsFalse && number == nil && string == nil && array == nil
            && object == nil
    }

    /// What satisfies both.
    func intersection(_ other: SchemaShape) -> SchemaShape {
        var result = self
        result.allowsNull = allowsNull && other.allowsNull
        result.allowsTrue = allowsTrue && other.allowsTrue
        result.allowsFalse = allowsFalse && other.allowsFalse
        result.number = number.flatMap { left in other.number.map { left.intersection($0) } }
        result.string = string.flatMap { left in other.string.map { left.intersection($0) } }
        result.array = array.flatMap { left in other.array.map { left.intersection($0) } }
        result.object = object.flatMap { left in other.object.map { left.intersection($0) } }
        if let left = literals, let right = other.literals {
            let texts = Set(right.compactMap { value in value.string.map { Array($0.utf8) } })
            let others = right.filter { $0.string == nil }
            result.literals = left.filter { value in
                value.string.map { texts.contains(Array($0.utf8)) } ?? others.contains { value.isSame(as: $0) }
            }
        } else {
            result.literals = literals ?? other.literals
        }
        return result
    }

    /// Leaves only some types.
    mutating func restrict(to types: Set<String>) {
        allowsNull = allowsNull && types.contains("null")
        allowsTrue = allowsTrue && types.contains("boolean")
        allowsFalse = allowsFalse && types.contains("boolean")
        if !types.contains("number") {
            if types.contains("integer") { number?.isInteger = true } else { number = nil }
        }
        if !types.contains("string") { string = nil }
        if !types.contains("array") { array = nil }
        if !types.contains("object") { object = nil }
    }
}

struct NumberShape: Sendable {
    struct Bound: Sendable {
        var value: DecimalNumber
        var isExclusive: Bool
        var place: String
    }

    var isInteger = false
    var minimum: Bound?
    var maximum: Bound?
    /// Whole numbers that divide the value.
    var divisors: [Int] = []

    var isAny: Bool { !isInteger && minimum == nil && maximum == nil && divisors.isEmpty }

    func intersection(_ other: NumberShape) -> NumberShape {
        var result = self
        result.isInteger = isInteger || other.isInteger
        for bound in [other.minimum].compactMap(\.self) { result.raiseMinimum(to: bound) }
        for bound in [other.maximum].compactMap(\.self) { result.lowerMaximum(to: bound) }
        result.divisors = Set(divisors + other.divisors).sorted()
        return result
    }

    mutating func raiseMinimum(to bound: Bound) {
        guard let old = minimum else {
            minimum = bound
            return
        }
        if old.value < bound.value || (old.value == bound.value && bound.isExclusive) { minimum = bound }
    }

    mutating func lowerMaximum(to bound: Bound) {
        guard let old = maximum else {
            maximum = bound
            return
        }
        if bound.value < old.value || (old.value == bound.value && bound.isExclusive) { maximum = bound }
    }

    /// Whether a number lies between the bounds.
    func contains(_ value: DecimalNumber) -> Bool {
        if let minimum, value < minimum.value || (minimum.isExclusive && value == minimum.value) { return false }
        if let maximum, maximum.value < value || (maximum.isExclusive && value == maximum.value) { return false }
        return true
    }
}

struct StringShape: Sendable {
    /// A pattern or format.
    struct Condition: Hashable, Sendable {
        enum Kind { case pattern, format }

        /// Without its place.
        struct Text: Hashable, Sendable {
            var kind: Kind
            var text: String
        }

        var kind: Kind
        var text: String
        var place: String

        var withoutPlace: Text { Text(kind: kind, text: text) }
    }

    /// In characters (Unicode scalars).
    var minimum = 0
    var maximum: Int?
    var conditions: [Condition] = []

    var isAny: Bool { minimum == 0 && maximum == nil && conditions.isEmpty }

    func intersection(_ other: StringShape) -> StringShape {
        StringShape(
            minimum: max(minimum, other.minimum), maximum: [maximum, other.maximum].compactMap(\.self).min(),
            conditions: conditions
                + other.conditions.filter { new in !conditions.contains { $0.withoutPlace == new.withoutPlace } })
    }
}

struct ArrayShape: Sendable {
    var prefix: [SchemaSet] = []
    /// What elements behind the prefix must be.
    var rest: SchemaSet = []
    var minimum = 0
    var maximum: Int?
    /// Where elements were required to differ.
    var uniquePlace: String?

    var isAny: Bool { prefix.isEmpty && rest.isEmpty && minimum == 0 && maximum == nil && uniquePlace == nil }

    func element(_ index: Int) -> SchemaSet { index < prefix.count ? prefix[index] : rest }

    func intersection(_ other: ArrayShape) -> ArrayShape {
        ArrayShape(
            prefix: (0..<max(prefix.count, other.prefix.count)).map { element($0).joined(other.element($0)) },
            rest: rest.joined(other.rest), minimum: max(minimum, other.minimum),
            maximum: [maximum, other.maximum].compactMap(\.self).min(), uniquePlace: uniquePlace ?? other.uniquePlace)
    }
}

struct ObjectShape: Sendable {
    /// What one schema says of properties.
    struct Part: Sendable {
        /// The schema.
        var schema: Int
        var properties: [(name: String, schema: Int)] = []
        var patterns: [(condition: StringShape.Condition, schema: Int)] = []
        /// What properties must be that are in neither; nil if the schema is silent.
        var additional: Int?
    }

    var parts: [Part] = []
    var required: [String] = []
    var minimum = 0
    var maximum: Int?

    var isAny: Bool { parts.isEmpty && required.isEmpty && minimum == 0 && maximum == nil }

    func intersection(_ other: ObjectShape) -> ObjectShape {
        var seen: Set<[UInt8]> = []
        return ObjectShape(
            parts: parts + other.parts.filter { part in !parts.contains { $0.schema == part.schema } },
            required: (required + other.required).filter { seen.insert(Array($0.utf8)).inserted },
            minimum: max(minimum, other.minimum), maximum: [maximum, other.maximum].compactMap(\.self).min())
    }

    /// All names that are listed, in the order of the schemas.
    var names: [String] {
        var seen: Set<[UInt8]> = []
        return (parts.flatMap { $0.properties.map(\.name) } + required).filter {
            seen.insert(Array($0.utf8)).inserted
        }
    }
}

extension [Int] {
    /// A set with the members of both.
    func joined(_ other: [Int]) -> [Int] {
        if isEmpty { return other }
        return other.isEmpty ? self : Set(self + other).sorted()
    }
}

extension [String] {
    /// Whether one has the same code points; `String` holds more for equal.
    func containsText(_ text: String) -> Bool { contains { $0.utf8.elementsEqual(text.utf8) } }
}

extension JSONValue {
    /// Equality as schemas see it: 1 and 1.0 are the same.
    func isSame(as other: JSONValue) -> Bool {
        switch (self, other) {
        case (.integer(let left), .number(let right)), (.number(let right), .integer(let left)):
            return Int64(exactly: right) == left
        case (.string(let left), .string(let right)): return left.utf8.elementsEqual(right.utf8)
        case (.array(let left), .array(let right)):
            return left.count == right.count && zip(left, right).allSatisfy { $0.isSame(as: $1) }
        case (.object(let left), .object(let right)):
            return left.count == right.count
                && left.entries.allSatisfy { entry in right[entry.key].map { entry.value.isSame(as: $0) } ?? false }
        default: return self == other
        }
    }
}
