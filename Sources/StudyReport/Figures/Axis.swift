// Tandem — Apache-2.0

internal import Glibc

/// An axis of a chart.
public struct Axis: Sendable, Equatable {
    public enum Scale: String, Sendable, Equatable {
        case linear
        /// Ticks at powers of two.
        case binaryLogarithmic
        /// Ticks at 1, 2 and 5 times powers of ten.
        case logarithmic
    }

    public var label: String
    public var scale: Scale
    public var format: ValueFormat
    /// Whether zero is shown, on a linear axis.
    public var includesZero: Bool
    /// Values outside are not shown; null for all that there are.
    public var limits: ClosedRange<Double>?

    public init(
        label: String, scale: Scale = .linear, format: ValueFormat = .number, includesZero: Bool = true,
        limits: ClosedRange<Double>? = nil
    ) {
        self.label = label
        self.scale = scale
        self.format = format
        self.includesZero = includesZero
        self.limits = limits
    }
}

/// An axis laid along pixels.
struct Projection: Equatable {
    let scale: Axis.Scale
    /// Ends, in values.
    let low: Double
    let high: Double
    /// Ends, in pixels; for vertical axes the start is the greater one.
    let start: Double
    let end: Double
    let ticks: [Double]

    /// - Parameters:
    ///   - values: what must be visible; those that the axis cannot show are passed over.
    ///   - most: how many ticks there is room for.
    ///   - endsOnTicks: whether a linear axis goes on to the next ticks, and others a little beyond their values.
    init(_ axis: Axis, values: [Double], from start: Double, to end: Double, most: Int, endsOnTicks: Bool = true) {
        let known = values.filter { value in
            Projection.canShow(value, axis.scale) && (axis.limits?.contains(value) ?? true)
        }
        scale = axis.scale
        let most = max(2, most)
        switch axis.scale {
        case .linear:
            var least = known.min() ?? 0
            var greatest = known.max() ?? 1
            if axis.includesZero {
                least = min(least, 0)
                greatest = max(greatest, 0)
            }
            if greatest - least < max(abs(least), abs(greatest)) * 1e-9 || greatest == least {
                let spread = greatest == 0 ? 1 : abs(greatest) * 0.1
                greatest += spread
                if !axis.includesZero || least < 0 { least -= spread }
            }
            let step = Projection.niceStep((greatest - least) / Double(most))
            if endsOnTicks {
                least = min(least, (least / step + 1e-9).rounded(.down) * step)
                greatest = max(greatest, (greatest / step - 1e-9).rounded(.up) * step)
            }
            low = least
            high = greatest
            let first = (least / step - 1e-9).rounded(.up)
            ticks = stride(from: first, through: max(first, (greatest / step + 1e-9).rounded(.down)), by: 1)
                .map { $0 * step }
        case .binaryLogarithmic, .logarithmic:
            var least = known.min() ?? 1
            var greatest = known.max() ?? 10
            if greatest <= least * (1 + 1e-9) {
                least /= 1.5
                greatest *= 1.5
            }
            if endsOnTicks {
                let margin = pow(greatest / least, 0.04)
                least /= margin
                greatest *= margin
            }
            low = least
            high = greatest
            ticks =
                axis.scale == .logarithmic
                ? Projection.decimalTicks(least...greatest, most: most) : Projection.binaryTicks(known, most: most)
        }
        self.start = start
        self.end = end
    }

    static func canShow(_ value: Double, _ scale: Axis.Scale) -> Bool {
        value.isFinite && abs(value) < 1e15 && (scale == .linear || value > 1e-15)
    }

    /// The pixel of a value; null for what the axis cannot show. Values beyond the ends are kept at them.
    func position(_ value: Double) -> Double? {
        guard Projection.canShow(value, scale) else { return nil }
        let share =
            switch scale {
            case .linear: (value - low) / (high - low)
            case .binaryLogarithmic, .logarithmic: log(value / low) / log(high / low)
            }
        guard share.isFinite else { return nil }
        return start + min(max(share, 0), 1) * (end - start)
    }

    /// The distance of the closest ticks.
    var tickStep: Double { zip(ticks, ticks.dropFirst()).map { $1 - $0 }.min() ?? 1 }

    /// A tick's label: with the decimals that tell ticks apart, and the unit of the greatest.
    func label(_ tick: Double, _ format: ValueFormat) -> String {
        switch scale {
        case .linear: format.text(tick, step: tickStep, greatest: ticks.map(abs).max())
        case .binaryLogarithmic, .logarithmic: format.text(tick, step: DecimalText.lastDigit(of: tick))
        }
    }

    /// The least of 1, 2, 2.5 and 5 times a power of ten that is not below a value.
    static func niceStep(_ value: Double) -> Double {
        guard value > 0, value.isFinite else { return 1 }
        let magnitude = pow(10, log10(value).rounded(.down))
        for factor in [1, 2, 2.5, 5] where factor * magnitude >= value * (1 - 1e-9) { return factor * magnitude }
        return 10 * magnitude
    }

    /// The values themselves if they are few, otherwise powers of two.
    private static func binaryTicks(_ values: [Double], most: Int) -> [Double] {
        let distinct = Array(Set(values)).sorted()
        if distinct.count <= most { return distinct }
        guard let least = distinct.first, let greatest = distinct.last else { return [] }
        let (first, last) = (log2(least).rounded(.up), log2(greatest).rounded(.down))
        guard last >= first else { return [least, greatest] }
        let step = max(1, ((last - first) / Double(most - 1)).rounded(.up))
        return stride(from: first, through: last, by: step).map { exp2($0) }
    }

    private static func decimalTicks(_ range: ClosedRange<Double>, most: Int) -> [Double] {
        let first = log10(range.lowerBound).rounded(.down)
        let last = log10(range.upperBound).rounded(.up)
        // Within less than a decade even steps tell more than powers.
        if range.upperBound < range.lowerBound * 8 {
            let step = niceStep((range.upperBound - range.lowerBound) / Double(most))
            let begin = (range.lowerBound / step - 1e-9).rounded(.up)
            let end = (range.upperBound / step + 1e-9).rounded(.down)
            return stride(from: begin, through: max(begin, end), by: 1).map { $0 * step }
        }
        let visible = range.lowerBound * (1 - 1e-9)...range.upperBound * (1 + 1e-9)
        for factors: [Double] in [[1, 2, 5], [1, 3], [1]] {
            var ticks: [Double] = []
            for exponent in stride(from: first, through: last, by: 1) {
                for factor in factors { ticks.append(factor * pow(10, exponent)) }
            }
            ticks = ticks.filter { visible.contains($0) }
            if (2...most).contains(ticks.count) { return ticks }
        }
        let step = max(1, ((last - first) / Double(most)).rounded(.up))
        let powers = stride(from: first, through: last, by: step).map { pow(10, $0) }
            .filter { range.contains($0) }
        return powers.count > 1 ? powers : [range.lowerBound, range.upperBound]
    }
}
