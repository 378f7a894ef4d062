// Tandem — Apache-2.0

internal import JSON

/// Reads the members of an object strictly: each is asked for by name and kind, and what nobody asked for is an error.
struct StudyFields {
    private let object: JSONObject
    private let path: String
    private var known: Set<String> = []

    init(_ value: JSONValue, path: String) throws(StudyError) {
        guard let object = value.object else {
            throw StudyError(subject: path, reason: "is no JSON object but \(value.typeName)")
        }
        self.object = object
        self.path = path
    }

    func wrong(_ key: String, _ reason: String) -> StudyError {
        StudyError(subject: path, reason: "\"\(key)\" \(reason)")
    }

    /// The value if it is there and not null.
    mutating func value(_ key: String) -> JSONValue? {
        known.insert(key)
        guard let value = object[key], !value.isNull else { return nil }
        return value
    }

    mutating func string(_ key: String) throws(StudyError) -> String {
        guard let text = try optionalString(key) else { throw wrong(key, "is missing") }
        return text
    }

    mutating func optionalString(_ key: String) throws(StudyError) -> String? {
        guard let value = value(key) else { return nil }
        guard let text = value.string else { throw wrong(key, "must be a string") }
        return text
    }

    mutating func number(_ key: String, _ range: ClosedRange<Double> = 0...1e18) throws(StudyError) -> Double {
        guard let number = try optionalNumber(key, range) else { throw wrong(key, "is missing") }
        return number
    }

    mutating func optionalNumber(
        _ key: String, _ range: ClosedRange<Double> = 0...1e18
    ) throws(StudyError) -> Double? {
        guard let value = value(key) else { return nil }
        guard let number = value.number, range.contains(number) else {
            throw wrong(key, "must be a number from \(Self.text(range.lowerBound)) to \(Self.text(range.upperBound))")
        }
        return number
    }

    mutating func integer(_ key: String, _ range: ClosedRange<Int>) throws(StudyError) -> Int {
        guard let number = try optionalInteger(key, range) else { throw wrong(key, "is missing") }
        return number
    }

    mutating func optionalInteger(_ key: String, _ range: ClosedRange<Int>) throws(StudyError) -> Int? {
        guard let value = value(key) else { return nil }
        guard let number = value.integer.flatMap({ Int(exactly: $0) }), range.contains(number) else {
            throw wrong(key, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    mutating func bool(_ key: String) throws(StudyError) -> Bool {
        guard let value = value(key) else { return false }
        guard let bool = value.bool else { throw wrong(key, "must be true or false") }
        return bool
    }

    mutating func choice<Value: RawRepresentable & CaseIterable>(
        _ key: String, _ type: Value.Type
    ) throws(StudyError) -> Value where Value.RawValue == String {
        let text = try string(key)
        guard let value = Value(rawValue: text) else {
            throw wrong(key, "is \"\(text.prefix(40))\"; it must be \(Self.names(type))")
        }
        return value
    }

    mutating func choices<Value: RawRepresentable & CaseIterable>(
        _ key: String, _ type: Value.Type, default missing: [Value]
    ) throws(StudyError) -> [Value] where Value.RawValue == String {
        guard value(key) != nil else { return missing }
        var found: [Value] = []
        for text in try strings(key) {
            guard let value = Value(rawValue: text) else {
                throw wrong(key, "names \"\(text.prefix(40))\"; there are \(Self.names(type))")
            }
            found.append(value)
        }
        return found
    }

    /// Empty if it is missing.
    mutating func strings(_ key: String) throws(StudyError) -> [String] {
        var found: [String] = []
        for value in try array(key) {
            guard let text = value.string else { throw wrong(key, "must be an array of strings") }
            found.append(text)
        }
        return found
    }

    mutating func integers(_ key: String, _ range: ClosedRange<Int>) throws(StudyError) -> [Int] {
        var found: [Int] = []
        for value in try array(key) {
            guard let number = value.integer.flatMap({ Int(exactly: $0) }), range.contains(number) else {
                throw wrong(
                    key, "must be an array of whole numbers from \(range.lowerBound) to \(range.upperBound)")
            }
            found.append(number)
        }
        return found
    }

    mutating func numbers(_ key: String, _ range: ClosedRange<Double>) throws(StudyError) -> [Double] {
        var found: [Double] = []
        for value in try array(key) {
            guard let number = value.number, range.contains(number) else {
                throw wrong(
                    key,
                    "must be an array of numbers from \(Self.text(range.lowerBound)) to \(Self.text(range.upperBound))")
            }
            found.append(number)
        }
        return found
    }

    /// Empty if it is missing.
    mutating func array(_ key: String) throws(StudyError) -> [JSONValue] {
        guard let value = value(key) else { return [] }
        guard let array = value.array else { throw wrong(key, "must be an array") }
        return array
    }

    /// The object's strings by name; empty if it is missing.
    mutating func texts(_ key: String) throws(StudyError) -> [String: String] {
        guard let value = value(key) else { return [:] }
        guard let object = value.object else { throw wrong(key, "must be an object") }
        var found: [String: String] = [:]
        for (name, value) in object.entries {
            guard let text = value.string else { throw wrong(key, "must hold strings; \"\(name)\" is none") }
            found[name] = text
        }
        return found
    }

    /// The member as an object of its own; null if it is missing.
    mutating func fields(_ key: String) throws(StudyError) -> StudyFields? {
        guard let value = value(key) else { return nil }
        return try StudyFields(value, path: "\(path), \"\(key)\"")
    }

    /// - Throws: if the object has members that were not asked for.
    func end() throws(StudyError) {
        if let other = object.entries.first(where: { !known.contains($0.key) })?.key {
            throw StudyError(
                subject: path,
                reason: "\"\(other.prefix(40))\" is unknown; known here: \(known.sorted().joined(separator: ", "))")
        }
    }

    private static func names<Value: RawRepresentable & CaseIterable>(
        _ type: Value.Type
    ) -> String where Value.RawValue == String {
        type.allCases.map(\.rawValue).joined(separator: ", ")
    }

    private static func text(_ number: Double) -> String {
        number == number.rounded() && abs(number) < 1e9 ? String(Int(number)) : "\(number)"
    }
}
