// Tandem — Apache-2.0

internal import JSON

/// A number by its decimal digits, so that bounds are compared exactly.
struct DecimalNumber: Sendable, Comparable {
    var isNegative: Bool
    /// Digits before the point, without leading zeros; empty for numbers below one.
    var whole: [UInt8]
    /// Digits behind it, without trailing zeros.
    var fraction: [UInt8]

    static let zero = DecimalNumber(isNegative: false, whole: [], fraction: [])

    private init(isNegative: Bool, whole: [UInt8], fraction: [UInt8]) {
        self.whole = Array(whole.drop { $0 == 0 })
        var fraction = fraction
        while fraction.last == 0 { fraction.removeLast() }
        self.fraction = fraction
        self.isNegative = isNegative && !(self.whole.isEmpty && fraction.isEmpty)
    }

    init(_ value: Int64) {
        let digits = String(value.magnitude).utf8.map { $0 - 0x30 }
        self.init(isNegative: value < 0, whole: digits, fraction: [])
    }

    /// A number in double precision, by the fewest digits that give it back; nil beyond 10^30 and below 10^-30.
    init?(_ value: Double) {
        var digits: [UInt8] = []
        var pointAt: Int?
        var exponent = 0
        let parts = value.magnitude.description.split(separator: "e")
        guard let mantissa = parts.first, value.isFinite else { return nil }
        if parts.count > 1 { exponent = Int(parts[1]) ?? 0 }
        guard abs(exponent) <= 30 else { return nil }
        for character in mantissa.utf8 {
            if character == UInt8(ascii: ".") { pointAt = digits.count } else { digits.append(character - 0x30) }
        }
        let point = (pointAt ?? digits.count) + exponent
        if point < 0 { digits.insert(contentsOf: Array(repeating: 0, count: -point), at: 0) }
        if point > digits.count { digits += Array(repeating: 0, count: point - digits.count) }
        let split = max(0, point)
        self.init(isNegative: value < 0, whole: Array(digits[..<split]), fraction: Array(digits[split...]))
    }

    init?(_ value: JSONValue) {
        switch value {
        case .integer(let value): self.init(value)
        case .number(let value): self.init(value)
        default: return nil
        }
    }

    var isWhole: Bool { fraction.isEmpty }

    var magnitude: DecimalNumber { DecimalNumber(isNegative: false, whole: whole, fraction: fraction) }

    var negated: DecimalNumber { DecimalNumber(isNegative: !isNegative, whole: whole, fraction: fraction) }

    /// The whole number next to this one in the direction of zero; nil if it does not fit.
    var truncated: Int64? {
        var value: Int64 = 0
        for digit in whole {
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.subtractingReportingOverflow(Int64(digit))
            guard !overflow, !carry else { return nil }
            value = sum
        }
        if isNegative { return value }
        return value == .min ? nil : -value
    }

    static func < (left: DecimalNumber, right: DecimalNumber) -> Bool {
        if left.isNegative != right.isNegative { return left.isNegative }
        let (small, large) = left.isNegative ? (right, left) : (left, right)
        if small.whole.count != large.whole.count { return small.whole.count < large.whole.count }
        if small.whole != large.whole { return small.whole.lexicographicallyPrecedes(large.whole) }
        return small.fraction.lexicographicallyPrecedes(large.fraction)
    }
}
