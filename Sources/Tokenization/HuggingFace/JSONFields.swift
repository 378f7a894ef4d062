// Tandem — Apache-2.0

import JSON

/// A JSON value with the way to it, so that what is missing or of another type is refused by name.
struct JSONField {
    let file: String
    /// Such as `model.vocab`; empty for the whole file.
    let path: String
    /// nil if there is no such member.
    let value: JSONValue?

    init(file: String, path: String = "", value: JSONValue?) {
        self.file = file
        self.path = path
        self.value = value
    }

    func error(_ reason: String) -> TokenizationError { TokenizationError(file: file, field: path, reason: reason) }

    /// Absent or null.
    var isMissing: Bool { value?.isNull ?? true }

    /// A member; of what is no object, a missing one.
    subscript(_ key: String) -> JSONField {
        JSONField(file: file, path: path.isEmpty ? key : path + "." + key, value: value?.object?[key])
    }

    func object() throws(TokenizationError) -> JSONObject { try get("an object", \.object) }
    func string() throws(TokenizationError) -> String { try get("a string", \.string) }
    func bool() throws(TokenizationError) -> Bool { try get("a boolean", \.bool) }
    func integer() throws(TokenizationError) -> Int64 { try get("an integer", \.integer) }

    func elements() throws(TokenizationError) -> [JSONField] {
        let values = try get("an array", \.array)
        return values.enumerated().map { JSONField(file: file, path: "\(path)[\($0.offset)]", value: $0.element) }
    }

    /// nil if missing.
    func optionalBool() throws(TokenizationError) -> Bool? { isMissing ? nil : try bool() }
    func optionalString() throws(TokenizationError) -> String? { isMissing ? nil : try string() }

    /// Its members are objects with a `type`, as all parts of `tokenizer.json` have one.
    func type() throws(TokenizationError) -> String { try self["type"].string() }

    /// Refuses a member that is anything but missing, false, zero or empty.
    func refuse(_ key: String, _ reason: String = "is not supported") throws(TokenizationError) {
        let member = self[key]
        switch member.value {
        case nil, .null, .bool(false), .integer(0), .string(""), .number(0): return
        case .array(let elements) where elements.isEmpty: return
        default: throw member.error(reason)
        }
    }

    private func get<Value>(
        _ kind: String, _ read: (JSONValue) -> Value?
    ) throws(TokenizationError) -> Value {
        guard let value else { throw error("missing; \(kind) was expected") }
        guard let result = read(value) else { throw error("\(value.typeName), where \(kind) was expected") }
        return result
    }
}
