// Tandem — Apache-2.0

/// Numbers between bounds, digit by digit.
struct NumberGrammar {
    private struct Digits {
        var low: [UInt8]
        var high: [UInt8]
    }

    /// Digits that a number without bound has at most before its point.
    private static let freeDigits = 18
    /// Digits in which double precision tells all decimal numbers apart.
    private static let exactDigits = 15

    /// What a shape allows.
    ///
    /// - Parameter any: any number.
    static func expression(
        _ shape: NumberShape, any: Expression, place: String
    ) throws(GrammarError) -> Expression {
        if shape.isAny { return any }
        let isWhole = shape.isInteger || !shape.divisors.isEmpty
        let body = isWhole ? try integers(shape) : try decimals(shape)
        guard !shape.divisors.isEmpty else { return body }
        var automaton = try CharacterAutomaton(body, place: place)
        for divisor in shape.divisors {
            automaton = try automaton.intersection(CharacterAutomaton(multiplesOf: divisor), place: place)
        }
        return .text(automaton, spelling: .plain)
    }

    // MARK: - Integers

    private static func integers(_ shape: NumberShape) throws(GrammarError) -> Expression {
        let free: Int64 = 999_999_999_999_999_999
        var low = -free
        var high = free
        if let bound = shape.minimum {
            guard let value = bound.value.truncated, value.magnitude < Int64.max else { throw tooLarge(bound) }
            // Truncation goes up below zero, and down above it.
            let isBelow = !bound.value.isNegative && !bound.value.isWhole
            low = isBelow || (bound.isExclusive && bound.value.isWhole) ? value + 1 : value
            if low > free / 10 { high = .max }
        }
        if let bound = shape.maximum {
            guard let value = bound.value.truncated, value.magnitude < Int64.max else { throw tooLarge(bound) }
            let isAbove = bound.value.isNegative && !bound.value.isWhole
            high = isAbove || (bound.isExclusive && bound.value.isWhole) ? value - 1 : value
            if shape.minimum == nil, high < -free / 10 { low = .min + 1 }
        }
        guard low <= high else { return .never }
        var branches: [Expression] = []
        if high >= 0 { branches.append(magnitudes(UInt64(max(0, low)), UInt64(high))) }
        if low < 0 {
            let smallest = high < 0 ? high.magnitude : 1
            branches.append(.sequence([.literal("-"), magnitudes(smallest, low.magnitude)]))
        }
        return .choice(branches)
    }

    private static func tooLarge(_ bound: NumberShape.Bound) -> GrammarError {
        GrammarError(
            kind: .unsupported, place: bound.place,
            reason: "a bound of an integer must fit into 63 bits, and one of a number into \(exactDigits) digits")
    }

    /// The numbers from one to another, without leading zeros.
    private static func magnitudes(_ low: UInt64, _ high: UInt64) -> Expression {
        let last = String(high).utf8.map { $0 - 0x30 }
        let first = String(low).utf8.map { $0 - 0x30 }
        guard first.count <= last.count else { return .never }
        // Up to this length, nothing is too great.
        let free = last.allSatisfy { $0 == 9 } ? last.count : last.count - 1
        let bounded = [first.count] + (last.count > max(first.count, free) ? [last.count] : [])
        var branches = bounded.map { count in
            let digits = Digits(
                low: count == first.count ? first : [1] + Array(repeating: 0, count: count - 1),
                high: count == last.count ? last : Array(repeating: 9, count: count))
            return between(digits, 0, true, count > free) { _, _ in .empty }
        }
        if first.count < free {
            branches.append(.sequence([leading, JSONGrammar.digits(first.count, free - 1)]))
        }
        return .choice(branches)
    }

    private static let leading = Expression.characters(CodePointSet([0x31...0x39]))

    /// The digits from an index on, between bounds of equal length.
    ///
    /// - Parameters:
    ///   - isLow: whether the digits before are those of the lower bound.
    ///   - isHigh: whether they are those of the upper one.
    ///   - rest: what follows the last digit.
    private static func between(
        _ digits: Digits, _ index: Int, _ isLow: Bool, _ isHigh: Bool, _ rest: (Bool, Bool) -> Expression
    ) -> Expression {
        guard index < digits.low.count else { return rest(isLow, isHigh) }
        if !isLow, !isHigh {
            let count = digits.low.count - index
            return .sequence([JSONGrammar.digits(count, count), rest(false, false)])
        }
        return choice(isLow ? digits.low[index] : 0, isHigh ? digits.high[index] : 9, isLow, isHigh) { low, high in
            between(digits, index + 1, low, high, rest)
        }
    }

    /// One digit of a range and what follows it, by whether it is still that of a bound.
    private static func choice(
        _ low: UInt8, _ high: UInt8, _ isLow: Bool, _ isHigh: Bool, _ rest: (Bool, Bool) -> Expression
    ) -> Expression {
        guard low <= high else { return .never }
        var branches: [Expression] = []
        func add(_ first: UInt8, _ last: UInt8, _ low: Bool, _ high: Bool) {
            guard first <= last else { return }
            let set = CodePointSet([UInt32(first) + 0x30...UInt32(last) + 0x30])
            branches.append(.sequence([.characters(set), rest(low, high)]))
        }
        if isLow, isHigh, low == high {
            add(low, low, true, true)
        } else {
            if isLow { add(low, low, true, false) }
            if isHigh { add(high, high, false, true) }
            let first = Int(low) + (isLow ? 1 : 0)
            let last = Int(high) - (isHigh ? 1 : 0)
            if first <= last { add(UInt8(first), UInt8(last), false, false) }
        }
        return .choice(branches)
    }

    // MARK: - Decimal numbers

    private static func decimals(_ shape: NumberShape) throws(GrammarError) -> Expression {
        for bound in [shape.minimum, shape.maximum].compactMap(\.self)
        where max(1, bound.value.whole.count) + bound.value.fraction.count > exactDigits { throw tooLarge(bound) }
        if let low = shape.minimum, let high = shape.maximum, high.value < low.value { return .never }
        let zero = NumberShape.Bound(value: .zero, isExclusive: false, place: "")
        var branches: [Expression] = []
        if shape.maximum.map({ !$0.value.isNegative }) ?? true {
            let low = shape.minimum.flatMap { $0.value.isNegative ? nil : $0 } ?? zero
            branches.append(decimalMagnitudes(low, shape.maximum))
        }
        if shape.minimum.map({ $0.value < .zero }) ?? true {
            var low = NumberShape.Bound(value: .zero, isExclusive: true, place: "")
            if let maximum = shape.maximum, maximum.value < .zero {
                low = maximum
                low.value = maximum.value.negated
            }
            var high = shape.minimum
            if let minimum = shape.minimum { high?.value = minimum.value.negated }
            branches.append(.sequence([.literal("-"), decimalMagnitudes(low, high)]))
        }
        return .choice(branches)
    }

    private static func decimalMagnitudes(_ low: NumberShape.Bound, _ high: NumberShape.Bound?) -> Expression {
        let first = low.value.whole.isEmpty ? [0] : low.value.whole
        let last = high.map { $0.value.whole.isEmpty ? [0] : $0.value.whole }
        let wholeCount = max(first.count, last?.count ?? 0)
        let fractionCount = exactDigits - wholeCount
        guard first.count <= last?.count ?? exactDigits else { return .never }
        let bounded = [first.count] + (last.map { $0.count > first.count ? [$0.count] : [] } ?? [])
        var branches = bounded.map { count in
            let hasLow = count == first.count
            let hasHigh = count == last?.count
            let digits = Digits(
                low: hasLow ? first : [1] + Array(repeating: 0, count: count - 1),
                high: hasHigh ? last ?? [] : Array(repeating: 9, count: count))
            return between(digits, 0, true, true) { isLow, isHigh in
                let fraction = Fraction(low: low, high: high, count: fractionCount)
                return fraction.expression(0, hasLow && isLow, hasHigh && isHigh)
            }
        }
        let longest = last.map { $0.count - 1 } ?? exactDigits
        if first.count < longest {
            let fraction = Fraction(low: low, high: high, count: fractionCount).expression(0, false, false)
            branches.append(.sequence([leading, JSONGrammar.digits(first.count, longest - 1), fraction]))
        }
        return .choice(branches)
    }

    /// What stands behind the digits of the whole part.
    private struct Fraction {
        var low: NumberShape.Bound
        var high: NumberShape.Bound?
        var count: Int

        func expression(_ index: Int, _ isLow: Bool, _ isHigh: Bool) -> Expression {
            if !isLow, !isHigh {
                if index == 0 {
                    guard count > 0 else { return .empty }
                    return .optional(.sequence([.literal("."), JSONGrammar.digits(1, count)]))
                }
                return JSONGrammar.digits(0, count - index)
            }
            var branches: [Expression] = []
            if mayEnd(index, isLow, isHigh) { branches.append(.empty) }
            if index < count {
                let highDigits = high?.value.fraction ?? []
                let lowDigit = isLow && index < low.value.fraction.count ? low.value.fraction[index] : 0
                let highDigit = isHigh ? (index < highDigits.count ? highDigits[index] : 0) : 9
                let next = NumberGrammar.choice(lowDigit, highDigit, isLow, isHigh) {
                    self.expression(index + 1, $0, $1)
                }
                branches.append(index == 0 ? .sequence([.literal("."), next]) : next)
            }
            return .choice(branches)
        }

        /// Whether the number may end before a digit of its fraction.
        private func mayEnd(_ index: Int, _ isLow: Bool, _ isHigh: Bool) -> Bool {
            if isLow, low.value.fraction.count > index || low.isExclusive { return false }
            if isHigh, let high, high.value.fraction.count <= index, high.isExclusive { return false }
            return true
        }
    }
}
