// Tandem — Apache-2.0

internal import JSON

/// The keywords of one schema. Which were asked for is remembered, so that the others can be refused.
struct SchemaKeywords {
    let object: JSONObject
    let pointer: String
    private(set) var known: Set<String> = []
    private var types: Set<String>?

    /// What to do about some keywords that are not supported.
    static let advice: [String: String] = [
        "not": "`not` is not supported; say what is allowed instead",
        "if": "`if` is not supported; use `anyOf` with a `const` that tells the cases apart",
        "uniqueItems": "`uniqueItems` is not supported",
        "$id": "`$id` is understood at the root only",
        "$dynamicRef": "only `$ref` is followed",
        "propertyNames": "`propertyNames` is not supported; use `patternProperties`",
        "unevaluatedProperties": "`unevaluatedProperties` is not supported; use `additionalProperties`",
    ]

    private static let typeNames: Set<String> = ["null", "boolean", "number", "integer", "string", "array", "object"]
    private static let largestDivisor = 1000

    init(object: JSONObject, pointer: String) {
        self.object = object
        self.pointer = pointer
    }

    func place(_ keyword: String) -> String { SchemaReader.append(keyword, to: pointer) }

    /// Whether `type` allows a type.
    func allows(_ type: String) -> Bool { types?.contains(type) ?? true }

    // MARK: - Values

    mutating func value(_ keyword: String) -> JSONValue? {
        known.insert(keyword)
        return object[keyword]
    }

    private mutating func value<Value>(
        _ keyword: String, _ expected: String, _ read: (JSONValue) -> Value?
    ) throws(GrammarError) -> Value? {
        guard let value = value(keyword) else { return nil }
        guard let result = read(value) else {
            throw GrammarError(
                kind: .malformed, place: place(keyword),
                reason: "`\(keyword)` must be \(expected), and this is \(value.phrase)")
        }
        return result
    }

    mutating func string(_ keyword: String) throws(GrammarError) -> String? {
        try value(keyword, "a string") { $0.string }
    }

    mutating func bool(_ keyword: String) throws(GrammarError) -> Bool? {
        try value(keyword, "a boolean") { $0.bool }
    }

    mutating func object(_ keyword: String) throws(GrammarError) -> JSONObject? {
        try value(keyword, "an object") { $0.object }
    }

    mutating func strings(_ keyword: String) throws(GrammarError) -> [String]? {
        try value(keyword, "an array of strings") { value in
            guard let elements = value.array else { return nil }
            let strings = elements.compactMap(\.string)
            return strings.count == elements.count ? strings : nil
        }
    }

    mutating func schemas(_ keyword: String, mayBeEmpty: Bool = false) throws(GrammarError) -> [JSONValue]? {
        try value(keyword, mayBeEmpty ? "an array of schemas" : "an array of schemas, one at least") { value in
            value.array.flatMap { $0.isEmpty && !mayBeEmpty ? nil : $0 }
        }
    }

    /// A count; 1.0 is one, too.
    mutating func count(_ keyword: String) throws(GrammarError) -> Int? {
        let count = try value(keyword, "a whole number that is not negative") { value in
            let whole: Int? =
                switch value {
                case .integer(let value): Int(value)
                case .number(let value): Int(exactly: value)
                default: nil
                }
            return whole.flatMap { $0 < 0 ? nil : $0 }
        }
        if let count, count > GrammarLimits.repetitions {
            throw GrammarError(
                kind: .tooComplex, place: place(keyword),
                reason: "`\(keyword)` is greater than \(GrammarLimits.repetitions)")
        }
        return count
    }

    private mutating func bound(_ keyword: String, isExclusive: Bool) throws(GrammarError) -> NumberShape.Bound? {
        guard let value = try value(keyword, "a number", { $0.number == nil ? nil : $0 }) else { return nil }
        guard let decimal = DecimalNumber(value) else {
            throw GrammarError(kind: .unsupported, place: place(keyword), reason: "the bound has too many digits")
        }
        return NumberShape.Bound(value: decimal, isExclusive: isExclusive, place: place(keyword))
    }

    // MARK: - Types, literals, numbers and strings

    /// Reads all keywords that do not hold schemas.
    mutating func readScalars(into shape: inout SchemaShape) throws(GrammarError) {
        if let type = value("type") {
            let names = type.string.map { [$0] } ?? type.array?.map { $0.string ?? "" } ?? []
            guard !names.isEmpty, names.allSatisfy({ SchemaKeywords.typeNames.contains($0) }) else {
                throw GrammarError(
                    kind: .malformed, place: place("type"),
                    reason: "a type is one of \(SchemaKeywords.typeNames.sorted().joined(separator: ", "))")
            }
            types = Set(names)
        }
        try readNumbers(into: &shape)
        var string = StringShape()
        string.minimum = try count("minLength") ?? 0
        string.maximum = try count("maxLength")
        if let pattern = try self.string("pattern") {
            string.conditions.append(.init(kind: .pattern, text: pattern, place: place("pattern")))
        }
        // Formats are of strings; what others have says how a number is kept.
        if let format = try self.string("format"), types?.contains("string") ?? !Self.numberFormats.contains(format) {
            guard StringFormats.patterns[format] != nil else {
                throw GrammarError(
                    kind: .unsupported, place: place("format"),
                    reason: "the format `\(format)` is not supported; leave it out or use `pattern`")
            }
            string.conditions.append(.init(kind: .format, text: format, place: place("format")))
        }
        shape.string = string
        if let types { shape.restrict(to: types) }
        if let constant = value("const") { shape.literals = [constant] }
        if let values = try value("enum", "an array", { $0.array }) {
            guard values.count <= GrammarLimits.listedValues else {
                throw GrammarError(
                    kind: .tooComplex, place: place("enum"),
                    reason: "there are more than \(GrammarLimits.listedValues) values")
            }
            let old = shape.literals
            shape.literals = values.filter { value in old.map { $0.contains { $0.isSame(as: value) } } ?? true }
        }
    }

    /// Of OpenAPI.
    private static let numberFormats: Set<String> = [
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double", "decimal",
    ]

    private mutating func readNumbers(into shape: inout SchemaShape) throws(GrammarError) {
        var number = NumberShape()
        for (keyword, isExclusive) in [("minimum", false), ("exclusiveMinimum", true)] {
            if let bound = try bound(keyword, isExclusive: isExclusive) { number.raiseMinimum(to: bound) }
        }
        for (keyword, isExclusive) in [("maximum", false), ("exclusiveMaximum", true)] {
            if let bound = try bound(keyword, isExclusive: isExclusive) { number.lowerMaximum(to: bound) }
        }
        if let divisor = try value("multipleOf", "a number", { $0.number == nil ? nil : $0 }) {
            guard let whole = DecimalNumber(divisor), whole.isWhole, let value = whole.truncated,
                (1...Int64(SchemaKeywords.largestDivisor)).contains(value)
            else {
                throw GrammarError(
                    kind: .unsupported, place: place("multipleOf"),
                    reason: "`multipleOf` is supported for whole numbers from 1 to \(SchemaKeywords.largestDivisor)")
            }
            number.divisors = [Int(value)]
        }
        shape.number = number
    }
}
