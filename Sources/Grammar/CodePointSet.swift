// Tandem — Apache-2.0

/// A set of Unicode scalars, as ranges in order that neither overlap nor touch. Surrogates are never in it.
struct CodePointSet: Hashable, Sendable {
    private(set) var ranges: [ClosedRange<UInt32>]

    static let none = CodePointSet([])
    static let all = CodePointSet([0...0x10FFFF])

    /// A set of ranges in any order; what is not a scalar is left out.
    init(_ unordered: [ClosedRange<UInt32>]) {
        var pieces: [ClosedRange<UInt32>] = []
        for range in unordered {
            if range.lowerBound < 0xD800 { pieces.append(range.lowerBound...min(range.upperBound, 0xD7FF)) }
            if range.upperBound > 0xDFFF, range.lowerBound <= 0x10FFFF {
                pieces.append(max(range.lowerBound, 0xE000)...min(range.upperBound, 0x10FFFF))
            }
        }
        pieces.sort { $0.lowerBound < $1.lowerBound }
        ranges = []
        for range in pieces {
            if let last = ranges.last, range.lowerBound <= last.upperBound + 1 {
                ranges[ranges.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                ranges.append(range)
            }
        }
    }

    init(_ scalars: some Sequence<Unicode.Scalar>) { self.init(scalars.map { $0.value...$0.value }) }

    init(_ scalar: UInt32) { self.init([scalar...scalar]) }

    init(_ characters: String) { self.init(characters.unicodeScalars) }

    var isEmpty: Bool { ranges.isEmpty }

    func contains(_ scalar: UInt32) -> Bool {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound < scalar { low = middle + 1 } else { high = middle }
        }
        return low < ranges.count && ranges[low].contains(scalar)
    }

    func union(_ other: CodePointSet) -> CodePointSet { CodePointSet(ranges + other.ranges) }

    var inverted: CodePointSet {
        var gaps: [ClosedRange<UInt32>] = []
        var next: UInt32 = 0
        for range in ranges {
            if range.lowerBound > next { gaps.append(next...range.lowerBound - 1) }
            next = range.upperBound + 1
        }
        if next <= 0x10FFFF { gaps.append(next...0x10FFFF) }
        return CodePointSet(gaps)
    }

    func intersection(_ other: CodePointSet) -> CodePointSet {
        var result: [ClosedRange<UInt32>] = []
        var left = 0
        var right = 0
        while left < ranges.count, right < other.ranges.count {
            let low = max(ranges[left].lowerBound, other.ranges[right].lowerBound)
            let high = min(ranges[left].upperBound, other.ranges[right].upperBound)
            if low <= high { result.append(low...high) }
            if ranges[left].upperBound < other.ranges[right].upperBound { left += 1 } else { right += 1 }
        }
        return CodePointSet(result)
    }

    func subtracting(_ other: CodePointSet) -> CodePointSet { intersection(other.inverted) }

    /// With both cases of every ASCII letter in it.
    var foldingASCII: CodePointSet {
        let lower = intersection(CodePointSet([0x41...0x5A])).ranges.map { $0.lowerBound + 32...$0.upperBound + 32 }
        let upper = intersection(CodePointSet([0x61...0x7A])).ranges.map { $0.lowerBound - 32...$0.upperBound - 32 }
        return CodePointSet(ranges + lower + upper)
    }

    /// The UTF-8 of all members: each sequence stands for all choices of one byte from each of its ranges.
    func byteSequences() -> [[ClosedRange<UInt8>]] {
        var result: [[ClosedRange<UInt8>]] = []
        for range in ranges {
            for (low, high) in [(0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x1_0000, 0x10_FFFF)] as [(UInt32, UInt32)]
            {
                let piece = range.clamped(to: low...high)
                // Clamping moves a range that lies outside to the nearest end.
                guard range.overlaps(low...high) else { continue }
                CodePointSet.split(piece.lowerBound, piece.upperBound, &result)
            }
        }
        return result
    }

    /// Splits a range of scalars with equally long UTF-8 until every piece is a product of ranges of bytes.
    private static func split(_ low: UInt32, _ high: UInt32, _ result: inout [[ClosedRange<UInt8>]]) {
        let length = low < 0x80 ? 1 : low < 0x800 ? 2 : low < 0x1_0000 ? 3 : 4
        for tail in 1..<max(length, 2) where length > 1 {
            let mask = UInt32(1) << UInt32(6 * tail) - 1
            guard low & ~mask != high & ~mask else { continue }
            if low & mask != 0 {
                split(low, low | mask, &result)
                return split((low | mask) + 1, high, &result)
            }
            if high & mask != mask {
                split(low, (high & ~mask) - 1, &result)
                return split(high & ~mask, high, &result)
            }
        }
        result.append(zip(utf8(low, length), utf8(high, length)).map { $0...$1 })
    }

    private static func utf8(_ scalar: UInt32, _ length: Int) -> [UInt8] {
        guard length > 1 else { return [UInt8(scalar)] }
        let lead: [UInt8] = [0, 0, 0xC0, 0xE0, 0xF0]
        var bytes = [lead[length] | UInt8(truncatingIfNeeded: scalar >> UInt32(6 * (length - 1)))]
        for tail in stride(from: length - 2, through: 0, by: -1) {
            bytes.append(0x80 | UInt8(truncatingIfNeeded: scalar >> UInt32(6 * tail)) & 0x3F)
        }
        return bytes
    }
}
