// Tandem — Apache-2.0

import TestSupport

/// Changes to a file that know nothing of it but that it has numbers and lengths.
enum BinaryMutation {
    /// Where programs go wrong.
    private static let boundaries: [UInt64] = [
        0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 31, 32, 33, 64, 100, 127, 128, 255, 256, 1024, 1025, 32767, 32768,
        65535, 65536, 1 << 20, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF, 1 << 32, 1 << 40,
        0x0FFF_FFFF_FFFF_FFFF, 0x1FFF_FFFF_FFFF_FFFF, 0x2000_0000_0000_0000, 0x3FFF_FFFF_FFFF_FFFF,
        0x4000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0xFFFF_FFFF_FFFF_FFE0,
        0xFFFF_FFFF_FFFF_FFFE, 0xFFFF_FFFF_FFFF_FFFF, 0x7F80_0000, 0x7FC0_0000, 0x7C00, 0x7FF0_0000_0000_0000,
    ]

    static func mutate(_ input: inout [UInt8], _ other: [UInt8], _ generator: inout SeededGenerator) {
        guard !input.isEmpty else {
            input = other
            return
        }
        switch generator.next() % 16 {
        case 0, 1: input[place(input, &generator)] ^= 1 << UInt8(generator.next() % 8)
        case 2: input[place(input, &generator)] = UInt8(truncatingIfNeeded: generator.next())
        case 3, 4, 5: overwrite(&input, &generator)
        case 6, 7, 8: changeLength(&input, &generator)
        case 9: input.removeSubrange(place(input, &generator)...)
        case 10:
            let byte = UInt8(truncatingIfNeeded: generator.next())
            let count = Int.random(in: 1...32, using: &generator)
            input.insert(contentsOf: repeatElement(byte, count: count), at: place(input, &generator))
        case 11: input.insert(contentsOf: input[input.randomRange(&generator)], at: place(input, &generator))
        case 12: input.removeSubrange(input.randomRange(&generator))
        case 13:
            // The beginning of one file, the end of another.
            guard !other.isEmpty else { return }
            input = Array(input[..<place(input, &generator)] + other[place(other, &generator)...])
        case 14: copy(other, over: &input, &generator)
        default: copy(input, over: &input, &generator)
        }
    }

    /// The beginning of a file says what the rest is.
    private static func place(_ input: [UInt8], _ generator: inout SeededGenerator) -> Int {
        let first = Int.random(in: input.indices, using: &generator)
        return generator.next() % 4 == 0 ? first : min(first, Int.random(in: input.indices, using: &generator))
    }

    private static func overwrite(_ input: inout [UInt8], _ generator: inout SeededGenerator) {
        let width = 1 << Int(generator.next() % 4)
        var start = place(input, &generator)
        if generator.next() % 2 == 0 { start -= start % width }
        let value = boundaries.randomElement(using: &generator) ?? 0
        write(generator.next() % 4 == 0 ? 0 &- value : value, width, at: start, &input)
    }

    /// Looks for what may be a length, count or offset, 4 or 8 bytes wide, and changes it.
    private static func changeLength(_ input: inout [UInt8], _ generator: inout SeededGenerator) {
        let width = generator.next() % 3 == 0 ? 4 : 8
        guard input.count >= width else { return }
        let begin = min(place(input, &generator), input.count - width)
        for start in begin...min(begin + 64, input.count - width) {
            let value = input[start..<start + width].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            guard value > 0, value <= UInt64(input.count) else { continue }
            let changed: UInt64
            switch generator.next() % 4 {
            case 0: changed = value &+ UInt64(generator.next() % 3) &- 1
            case 1: changed = UInt64.random(in: 0...UInt64(2 * input.count), using: &generator)
            case 2: changed = value &* (boundaries.randomElement(using: &generator) ?? 0)
            default: changed = boundaries.randomElement(using: &generator) ?? 0
            }
            write(changed, width, at: start, &input)
            return
        }
    }

    private static func write(_ value: UInt64, _ width: Int, at start: Int, _ input: inout [UInt8]) {
        for index in 0..<width where start + index < input.count {
            input[start + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
        }
    }

    private static func copy(_ source: [UInt8], over input: inout [UInt8], _ generator: inout SeededGenerator) {
        let piece = source[source.randomRange(&generator)]
        let start = place(input, &generator)
        let end = min(input.count, start + piece.count)
        input.replaceSubrange(start..<end, with: piece.prefix(end - start))
    }
}
