// Tandem — Apache-2.0

internal import Glibc

/// How values are written.
public enum ValueFormat: Sendable, Equatable {
    /// As it is, large ones with a suffix: `0.25`, `1,024`, `12.5k`.
    case number
    /// Shares as percent: `0.12` is `12 %`.
    case percent
    /// The same with its sign.
    case signedPercent
    /// Whole numbers of tokens, in units of 1024 where that divides: `512`, `2k`.
    case tokens

    /// - Parameters:
    ///   - step: a difference that must be visible; null for three digits.
    ///   - greatest: the greatest of the values that stand together, whose unit all have; null for the value's own.
    public func text(_ value: Double, step: Double? = nil, greatest: Double? = nil) -> String {
        guard value.isFinite else { return "–" }
        switch self {
        case .number: return DecimalText.short(value, step: step, greatest: greatest)
        case .tokens:
            let whole = value.rounded()
            guard abs(whole) < 1e15 else { return DecimalText.short(value, step: step) }
            if whole >= 1024, whole.truncatingRemainder(dividingBy: 1024) == 0 {
                return DecimalText.fixed(whole / 1024, 0) + "k"
            }
            return DecimalText.fixed(whole, 0)
        case .percent, .signedPercent:
            let points = value * 100
            let decimals = step.map { DecimalText.decimals(for: $0 * 100) } ?? 0
            let text = DecimalText.fixed(points, decimals)
            let isZero = DecimalText.isZero(text)
            let sign = self == .signedPercent && points > 0 && !isZero ? "+" : ""
            return sign + (isZero ? DecimalText.fixed(0, decimals) : text) + "\u{A0}%"
        }
    }
}

/// Decimal numbers as text, with a minus sign instead of a hyphen.
enum DecimalText {
    /// With so many decimals, 0 to 9.
    static func fixed(_ value: Double, _ decimals: Int) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return value.isFinite ? "\(value)" : "–" }
        let decimals = min(max(decimals, 0), abs(value) < 1e6 ? 9 : 0)
        let scale = pow(10, Double(decimals))
        let scaled = (abs(value) * scale).rounded()
        let (whole, fraction) = UInt64(scaled).quotientAndRemainder(dividingBy: UInt64(scale))
        var text = grouped(whole)
        if decimals > 0 {
            let digits = String(fraction)
            text += "." + String(repeating: "0", count: decimals - digits.count) + digits
        }
        return (value < 0 && scaled > 0 ? "\u{2212}" : "") + text
    }

    /// The same with a plus sign, where it is more than nothing.
    static func signed(_ value: Double, _ decimals: Int) -> String {
        let text = fixed(value, decimals)
        return (value > 0 && !isZero(text) ? "+" : "") + text
    }

    /// Three digits, or as many as a step needs; thousands and millions with a suffix.
    static func short(_ value: Double, step: Double?, greatest: Double? = nil) -> String {
        if value == 0 { return "0" }
        let (unit, suffix): (Double, String) =
            switch max(abs(value), greatest ?? 0) {
            case 1e12...: (1e12, "T")
            case 1e9...: (1e9, "G")
            case 1e6...: (1e6, "M")
            case 1e4...: (1e3, "k")
            default: (1, "")
            }
        let scaled = value / unit
        if let step { return trimmed(fixed(scaled, decimals(for: step / unit))) + suffix }
        let magnitude = abs(scaled)
        let decimals = magnitude >= 99.95 || magnitude == 0 ? 0 : magnitude >= 9.995 ? 1 : magnitude >= 0.9995 ? 2 : 3
        return (suffix.isEmpty ? fixed(scaled, decimals) : trimmed(fixed(scaled, decimals))) + suffix
    }

    /// Decimals that tell multiples of a step apart.
    static func decimals(for step: Double) -> Int {
        guard step > 0, step.isFinite else { return 0 }
        var decimals = 0
        var scaled = step
        while decimals < 6, abs(scaled - scaled.rounded()) > 1e-6 * max(scaled, 1) {
            decimals += 1
            scaled *= 10
        }
        return decimals
    }

    /// The place of a value's last digit of three, for numbers that shall be written as short as they are.
    static func lastDigit(of value: Double) -> Double {
        guard value.isFinite, value != 0 else { return 1 }
        var step = pow(10, log10(abs(value)).rounded(.down))
        for _ in 0..<2 where abs(value / step - (value / step).rounded()) > 1e-6 { step /= 10 }
        return step
    }

    static func isZero(_ text: String) -> Bool { !text.contains { ("1"..."9").contains($0) } }

    private static func trimmed(_ text: String) -> String {
        guard text.contains(".") else { return text }
        var text = text
        while text.hasSuffix("0") { text.removeLast() }
        if text.hasSuffix(".") { text.removeLast() }
        return text
    }

    private static func grouped(_ value: UInt64) -> String {
        let digits = String(value)
        guard digits.count > 3 else { return digits }
        var text = ""
        for (position, digit) in digits.enumerated() {
            if position > 0, (digits.count - position) % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return text
    }
}
