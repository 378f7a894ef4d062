// Tandem — Apache-2.0

/// The members of a JSON object, in the order in which they were written.
///
/// Keys are the same if their code points are, as in JSON, and not if Unicode merely holds them for equivalent, as
/// `String` does. Objects are equal if they have equal values for the same keys, in any order.
public struct JSONObject: Sendable, Equatable {
    /// A key compared and hashed by its UTF-8.
    private struct Key: Hashable, Sendable {
        let text: String

        static func == (left: Key, right: Key) -> Bool { left.text.utf8.elementsEqual(right.text.utf8) }

        func hash(into hasher: inout Hasher) {
            var text = text
            text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        }
    }

    /// The members in order.
    public private(set) var entries: [(key: String, value: JSONValue)] = []

    /// Positions of the keys, once there are too many members to look at each.
    private var index: [Key: Int]?

    private static let largestUnindexedCount = 12

    /// Creates an object without members.
    public init() {}

    /// The number of members.
    public var count: Int { entries.count }

    /// The value of a key. Setting a new key appends a member; setting nil removes one.
    public subscript(_ key: String) -> JSONValue? {
        get { position(of: key).map { entries[$0].value } }
        set {
            switch (position(of: key), newValue) {
            case (let position?, let value?): entries[position].value = value
            case (let position?, nil):
                entries.remove(at: position)
                index = nil
                buildIndexIfLarge()
            case (nil, let value?): append(key, value)
            case (nil, nil): break
            }
        }
    }

    /// Appends a member; false, and nothing is done, if the key is there already.
    mutating func insert(_ key: String, _ value: JSONValue) -> Bool {
        guard position(of: key) == nil else { return false }
        append(key, value)
        return true
    }

    /// Whether both have equal values for the same keys.
    public static func == (left: JSONObject, right: JSONObject) -> Bool {
        left.count == right.count && left.entries.allSatisfy { right[$0.key] == $0.value }
    }

    private func position(of key: String) -> Int? {
        if let index { return index[Key(text: key)] }
        return entries.firstIndex { $0.key.utf8.elementsEqual(key.utf8) }
    }

    private mutating func append(_ key: String, _ value: JSONValue) {
        entries.append((key, value))
        if index != nil {
            index?[Key(text: key)] = entries.count - 1
        } else {
            buildIndexIfLarge()
        }
    }

    private mutating func buildIndexIfLarge() {
        guard entries.count > JSONObject.largestUnindexedCount else { return }
        var index: [Key: Int] = [:]
        for (position, entry) in entries.enumerated() { index[Key(text: entry.key)] = position }
        self.index = index
    }
}
