// Tandem — Apache-2.0

internal import JSON

extension JSONWriter {
    mutating func member(_ key: String, _ value: String) {
        self.key(key)
        string(value)
    }

    mutating func member(_ key: String, _ value: some FixedWidthInteger) {
        self.key(key)
        integer(value)
    }

    mutating func member(_ key: String, _ value: Bool) {
        self.key(key)
        bool(value)
    }

    /// Nothing for null.
    mutating func member(_ key: String, _ value: Double?) {
        guard let value else { return }
        self.key(key)
        number(value)
    }

    mutating func strings(_ key: String, _ values: [String]) {
        self.key(key)
        beginArray()
        for value in values { string(value) }
        endArray()
    }

    mutating func integers(_ key: String, _ values: [Int]) {
        self.key(key)
        beginArray()
        for value in values { integer(value) }
        endArray()
    }

    mutating func texts(_ key: String, _ values: [String: String]) {
        self.key(key)
        beginObject()
        for (name, value) in values.sorted(by: { $0.key < $1.key }) { member(name, value) }
        endObject()
    }
}
