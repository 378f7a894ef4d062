// Tandem — Apache-2.0

/// The blocks of one sequence in one KV group, a run without gaps: entry `i` covers the positions
/// `i * blockSize ..< (i + 1) * blockSize`. Entries before ``first`` were given back, or never were held, because they
/// lie behind the group's window.
struct BlockTable: Sendable {
    /// The first entry that is held.
    private(set) var first = 0
    /// The blocks of the entries `first ..< end`.
    private(set) var ids: [KVBlockID] = []
    /// The executor was told the entries before this one.
    var announced = 0

    /// The entry after the last one.
    var end: Int { first + ids.count }

    /// The block of an entry, if it is held.
    subscript(entry: Int) -> KVBlockID? { (first..<end).contains(entry) ? ids[entry - first] : nil }

    /// The entries that the executor was not told, and where they start.
    var unannounced: (first: Int, ids: ArraySlice<KVBlockID>) {
        let start = max(first, min(announced, end))
        return (start, ids[(start - first)...])
    }

    /// Lets an empty table begin with a later entry than 0.
    mutating func begin(at entry: Int) {
        precondition(ids.isEmpty, "a block table can only begin while it is empty")
        first = entry
    }

    mutating func reserveCapacity(_ count: Int) { ids.reserveCapacity(count) }

    mutating func append(_ id: KVBlockID) { ids.append(id) }

    /// Gives up to `count` leading entries up.
    mutating func dropFirst(_ count: Int) {
        let count = min(count, ids.count)
        ids.removeFirst(count)
        first += count
    }

    mutating func removeAll() {
        ids.removeAll(keepingCapacity: true)
        first = 0
        announced = 0
    }
}
