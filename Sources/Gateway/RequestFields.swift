// Tandem — Apache-2.0

import JSON

/// Typed look-ups in a request body; a field that is `null` counts as absent, one of the wrong type or out of range is
/// a 400 that names it.
struct RequestFields {
    let object: JSONObject

    /// - Throws: 400 if the body is not a JSON object.
    init(body: JSONValue) throws(APIError) {
        guard case .object(let object) = body else {
            throw .invalid(nil, "the request body must be a JSON object")
        }
        self.object = object
    }

    init(_ object: JSONObject) {
        self.object = object
    }

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
                throw .invalid(name, "`\(name)` must be an integer\(Self.text(range))")
            }
            throw wrongType(name, "an integer", value)
        }
        guard let small = Int(exactly: integer), range.contains(small) else {
            throw .invalid(name, "`\(name)` is \(integer) but must be an integer\(Self.text(range))")
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
            throw .invalid(
                name, "`\(name)` is \(number) but must be between \(range.lowerBound) and \(range.upperBound)")
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
        return RequestFields(object)
    }

    /// An integer that was written as one: `3`, not `3.0`.
    static func integer(_ value: JSONValue) -> Int64? {
        if case .integer(let integer) = value { return integer }
        return nil
    }

    func wrongType(_ name: String, _ expected: String, _ value: JSONValue) -> APIError {
        .invalid(name, "`\(name)` must be \(expected), not \(Self.describe(value))")
    }

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
