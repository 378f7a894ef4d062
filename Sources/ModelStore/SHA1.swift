// Tandem — Apache-2.0

/// SHA-1 (FIPS 180-4) of bytes that arrive in pieces, for the names that git gives to files. It proves that a file came
/// over whole, not who made it.
struct SHA1 {
    private var state: [UInt32] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0]
    private var pending: [UInt8] = []
    private var byteCount: UInt64 = 0
    private var schedule = [UInt32](repeating: 0, count: 80)

    init() {}

    /// Begins the digest that git calls a file of `byteCount` bytes by; its content follows.
    init(gitFileOf byteCount: UInt64) {
        Array("blob \(byteCount)\0".utf8).withUnsafeBytes { update($0) }
    }

    /// Digests more bytes.
    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        byteCount &+= UInt64(bytes.count)
        var rest = bytes[...]
        if !pending.isEmpty {
            let missing = min(64 - pending.count, rest.count)
            pending.append(contentsOf: rest.prefix(missing))
            rest = rest.dropFirst(missing)
            guard pending.count == 64 else { return }
            let block = pending
            block.withUnsafeBytes { compress($0) }
            pending.removeAll(keepingCapacity: true)
        }
        while rest.count >= 64 {
            compress(UnsafeRawBufferPointer(rebasing: rest.prefix(64)))
            rest = rest.dropFirst(64)
        }
        pending.append(contentsOf: rest)
    }

    /// The digest of everything so far as 40 lower-case hexadecimal digits.
    func hexDigest() -> String {
        var copy = self
        var tail: [UInt8] = [0x80]
        tail += [UInt8](repeating: 0, count: (120 - (pending.count + 1)) % 64)
        let bitCount = byteCount &* 8
        for shift in stride(from: UInt64(56), through: 0, by: -8) {
            tail.append(UInt8(truncatingIfNeeded: bitCount >> shift))
        }
        tail.withUnsafeBytes { copy.update($0) }
        return hexadecimal(
            copy.state.flatMap { word in [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: word >> UInt32($0)) } })
    }

    /// One block of 64 bytes.
    private mutating func compress(_ block: UnsafeRawBufferPointer) {
        for index in 0..<16 {
            schedule[index] = UInt32(bigEndian: block.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self))
        }
        for index in 16..<80 {
            let mixed = schedule[index - 3] ^ schedule[index - 8] ^ schedule[index - 14] ^ schedule[index - 16]
            schedule[index] = Self.rotate(mixed, 1)
        }
        var (a, b, c, d, e) = (state[0], state[1], state[2], state[3], state[4])
        for index in 0..<80 {
            let function: UInt32
            let constant: UInt32
            switch index {
            case 0..<20: (function, constant) = ((b & c) | (~b & d), 0x5a82_7999)
            case 20..<40: (function, constant) = (b ^ c ^ d, 0x6ed9_eba1)
            case 40..<60: (function, constant) = ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc)
            default: (function, constant) = (b ^ c ^ d, 0xca62_c1d6)
            }
            let next = Self.rotate(a, 5) &+ function &+ e &+ constant &+ schedule[index]
            (e, d, c, b, a) = (d, c, Self.rotate(b, 30), a, next)
        }
        for (index, word) in [a, b, c, d, e].enumerated() { state[index] &+= word }
    }

    private static func rotate(_ value: UInt32, _ count: UInt32) -> UInt32 {
        (value << count) | (value >> (32 - count))
    }
}

/// Bytes as lower-case hexadecimal digits.
func hexadecimal(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}
