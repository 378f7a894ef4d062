// Tandem — Apache-2.0

import Requests

/// The bytes of every token, in one array, and a hash table from bytes to the token that merging may yield.
struct TokenTable: Sendable {
    private(set) var bytes: [UInt8] = []
    /// Token `i` is `bytes[starts[i] ..< starts[i + 1]]`.
    private var starts: [Int] = [0]
    /// (half of the hash << 32 | token), so that most comparisons look at no bytes. Open addressing with linear probing;
    /// the length is a power of two.
    private var slots: [UInt64]

    /// Marks a free slot. As an entry it would be of the token -1, which is none.
    private static let free = UInt64.max

    init(capacity: Int) {
        var length = 16
        while length < capacity * 2 { length *= 2 }
        slots = [UInt64](repeating: Self.free, count: length)
        starts.reserveCapacity(capacity + 1)
        bytes.reserveCapacity(capacity * 8)
    }

    var count: Int { starts.count - 1 }

    func range(of token: Int) -> Range<Int> { starts[token]..<starts[token + 1] }

    /// Appends a token that is `text` itself.
    mutating func append(literal text: String) {
        var text = text
        text.withUTF8 { bytes.append(contentsOf: $0) }
        starts.append(bytes.count)
    }

    /// Appends the bytes of the byte-level text `text`, or `text` itself where it is not of that alphabet.
    ///
    /// - Returns: true if the token's bytes were decoded.
    mutating func append(byteLevel text: String) -> Bool {
        var text = text
        let decoded = text.withUTF8 { utf8 in
            if ByteAlphabet.decode(utf8, into: &bytes) { return true }
            bytes.append(contentsOf: utf8)
            return false
        }
        starts.append(bytes.count)
        return decoded
    }

    /// Appends `text` with spaces for U+2581.
    mutating func append(spaced text: String) {
        var text = text
        text.withUTF8 { SpaceMark.replace(in: $0, into: &bytes) }
        starts.append(bytes.count)
    }

    /// Appends a token of one byte.
    mutating func append(byte: UInt8) {
        bytes.append(byte)
        starts.append(bytes.count)
    }

    /// Makes `token` findable by its bytes, unless it has none.
    ///
    /// - Returns: the token that already has these bytes, if there is one; then nothing changes.
    mutating func index(_ token: Int) -> TokenID? {
        let range = range(of: token)
        if range.isEmpty { return nil }
        let (slot, tag) = slot(of: bytes[range])
        if slots[slot] != Self.free { return Self.token(slots[slot]) }
        slots[slot] = tag << 32 | UInt64(token)
        return nil
    }

    /// The token whose bytes are `text`.
    func find(_ text: ArraySlice<UInt8>) -> TokenID? {
        let entry = slots[slot(of: text).slot]
        return entry == Self.free ? nil : Self.token(entry)
    }

    @inline(__always)
    private static func token(_ entry: UInt64) -> TokenID { TokenID(truncatingIfNeeded: entry) }

    /// The slot that holds the token with these bytes, or else the free one where it would go.
    private func slot(of text: ArraySlice<UInt8>) -> (slot: Int, tag: UInt64) {
        let mask = slots.count - 1
        // FNV-1a, and a multiplication's high bits: the words are short.
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in text { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        hash = hash &* 0x9E37_79B9_7F4A_7C15
        let tag = (hash >> 16) & 0xFFFF_FFFF
        var slot = Int(truncatingIfNeeded: hash >> 40) & mask
        while slots[slot] != Self.free,
            slots[slot] >> 32 != tag || !isEqual(Int(Self.token(slots[slot])), text)
        {
            slot = (slot + 1) & mask
        }
        return (slot, tag)
    }

    private func isEqual(_ token: Int, _ text: ArraySlice<UInt8>) -> Bool {
        let range = range(of: token)
        guard range.count == text.count else { return false }
        var index = range.lowerBound
        for byte in text {
            if bytes[index] != byte { return false }
            index += 1
        }
        return true
    }
}

/// U+2581, which SentencePiece writes for a space. Here a space stands for both, in texts and tokens alike: the two are
/// the same token everywhere, and decoding wants the space.
enum SpaceMark {
    /// In UTF-8.
    static let utf8: [UInt8] = [0xE2, 0x96, 0x81]
    static let space = UInt8(ascii: " ")

    /// Appends `text` with spaces for U+2581.
    static func replace(in text: UnsafeBufferPointer<UInt8>, into result: inout [UInt8]) {
        var index = 0
        while index < text.count {
            if isMark(text, at: index) {
                result.append(space)
                index += 3
            } else {
                result.append(text[index])
                index += 1
            }
        }
    }

    @inline(__always)
    static func isMark(_ text: UnsafeBufferPointer<UInt8>, at index: Int) -> Bool {
        text[index] == 0xE2 && index + 2 < text.count && text[index + 1] == 0x96 && text[index + 2] == 0x81
    }
}
