// Tandem — Apache-2.0

import JSON

/// Typed look-ups in a request body; a field that is `null` counts as absent, one of the wrong type or out of range is
/// a 400 that names it.
struct RequestFields {
    let object: JSONObject
    /// What stands before the names of fields that are inside another: `stream_options.`.
    private let prefix: String

    /// - Throws: 400 if the body is not a JSON object.
    init(body: JSONValue) throws(APIError) {
        guard case .object(let object) = body else {
            throw .invalid(nil, "the request body must be a JSON object")
        }
        self.init(object)
    }

    init(_ object: JSONObject, inside path: String? = nil) {
        self.object = object
        prefix = path.map { $0 + "." } ?? ""
    }

    /// A field's name with those of the fields that it is inside.
    func path(_ name: String) -> String { prefix + name }

    func value(_ name: String) -> JSONValue? {
        switch object[name] {
        case nil, .null: nil
        case .some(let value): value
        }
    }

    func string(_ name: String) throws(APIError) -> String? {
        guard let value = value(name) else { return nil }
        guard case .string(let string) = value else { throw wrongType(name, "a string", value) }
        return string
    }

    func bool(_ name: String) throws(APIError) -> Bool? {
        guard let value = value(name) else { return nil }
        guard case .bool(let bool) = value else { throw wrongType(name, "true or false", value) }
        return bool
    }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(APIError) -> Int? {
        guard let value = value(name) else { return nil }
        guard let integer = Self.integer(value) else {
            if case .number = value {
                throw invalid(name, "must be an integer\(Self.text(range))")
            }
            throw wrongType(name, "an integer", value)
        }
        guard let small = Int(exactly: integer), range.contains(small) else {
            throw invalid(name, "is \(integer) but must be an integer\(Self.text(range))")
        }
        return small
    }

    func number(_ name: String, in range: ClosedRange<Double>) throws(APIError) -> Double? {
        guard let value = value(name) else { return nil }
        let number: Double
        switch value {
        case .integer(let integer): number = Double(integer)
        case .number(let double): number = double
        default: throw wrongType(name, "a number", value)
        }
        guard range.contains(number) else {
            throw invalid(name, "is \(number) but must be between \(range.lowerBound) and \(range.upperBound)")
        }
        return number
    }

    func array(_ name: String) throws(APIError) -> [JSONValue]? {
        guard let value = value(name) else { return nil }
        guard case .array(let array) = value else { throw wrongType(name, "an array", value) }
        return array
    }

    func nested(_ name: String) throws(APIError) -> RequestFields? {
        guard let value = value(name) else { return nil }
        guard case .object(let object) = value else { throw wrongType(name, "an object", value) }
        return RequestFields(object, inside: path(name))
    }

    /// A list of strings, none of them empty; one string alone is a list, too, if `orOne` is true.
    func strings(_ name: String, atMost limit: Int, orOne: Bool = false) throws(APIError) -> [String]? {
        guard let value = value(name) else { return nil }
        let expected = orOne ? "a string or an array of strings" : "an array of strings"
        let values: [JSONValue]
        switch value {
        case .string where orOne: values = [value]
        case .array(let array): values = array
        default: throw wrongType(name, expected, value)
        }
        guard values.count <= limit else {
            throw invalid(name, "has \(values.count) strings but may have at most \(limit)")
        }
        var strings: [String] = []
        strings.reserveCapacity(values.count)
        for value in values {
            guard case .string(let string) = value else { throw invalid(name, "must be \(expected)") }
            guard !string.isEmpty else { throw invalid(name, "must not contain an empty string") }
            strings.append(string)
        }
        return strings
    }

    /// An integer that was written as one: `3`, not `3.0`.
    static func integer(_ value: JSONValue) -> Int64? {
        if case .integer(let integer) = value { return integer }
        return nil
    }

    func wrongType(_ name: String, _ expected: String, _ value: JSONValue) -> APIError {
        invalid(name, "must be \(expected), not \(Self.describe(value))")
    }

    /// 400: `what` is said of the field.
    func invalid(_ name: String, _ what: String) -> APIError {
        .invalid(path(name), "`\(path(name))` \(what)")
    }

    /// 400: the field is understood and what it asks for cannot be done.
    func unsupported(_ name: String, _ what: String) -> APIError { .unsupported(path(name), what) }

    static func describe(_ value: JSONValue) -> String {
        switch value {
        case .null: "null"
        case .bool: "a boolean"
        case .integer, .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }

    private static func text(_ range: ClosedRange<Int>) -> String {
        range.upperBound == .max
            ? " of at least \(range.lowerBound)" : " from \(range.lowerBound) to \(range.upperBound)"
    }
}
