// Tandem — Apache-2.0

import Requests

/// Chooses a token from one row of probabilities: the pure part of sampling.
///
/// The filters are those of vLLM in this order: temperature (already in the probabilities), top-k, top-p over what
/// top-k kept and renormalised, min-p relative to the largest probability after temperature. Tokens of equal
/// probability rank by id, the lower first. What is kept is a threshold, so nothing is sorted but the tokens near it,
/// and the draw walks the kept tokens in order of id (inverse of the cumulative distribution).
enum RowSampler {
    /// Below this a temperature counts as 0: dividing by less only overflows.
    static let smallestTemperature: Float = 1e-5

    /// Tokens with a probability above `probability` take part, and of those equal to it the ids up to `token`.
    struct Threshold: Equatable {
        var probability: Float
        var token: Int
    }

    /// Whether a row is decided by its largest logit alone.
    static func isGreedy(_ sampling: SamplingParameters) -> Bool {
        !(sampling.temperature >= smallestTemperature)
    }

    /// Draws one token.
    ///
    /// - Parameters:
    ///   - probabilities: not negative; they need not sum to 1 exactly.
    ///   - sampling: filters, seed and choice.
    ///   - position: index in the sequence of the token that is drawn.
    ///   - scratch: of the calling thread.
    /// - Returns: the token, or `nil` if no probability is positive.
    static func draw(
        _ probabilities: UnsafeBufferPointer<Float>, sampling: SamplingParameters, position: Int,
        scratch: SamplingScratch
    ) -> Int? {
        guard let threshold = threshold(probabilities, sampling: sampling, scratch: scratch) else { return nil }
        let uniform = CounterRandom.uniform(
            seed: sampling.seed, choiceIndex: sampling.choiceIndex, position: position)
        return draw(probabilities, threshold: threshold, uniform: uniform)
    }

    /// The last step alone: the kept token where the cumulative probability passes `uniform` times the kept mass.
    static func draw(
        _ probabilities: UnsafeBufferPointer<Float>, threshold: Threshold, uniform: Double
    ) -> Int? {
        // Partial sums of 256 tokens let the second pass skip all but one of them.
        let run = 256
        var total = 0.0
        for start in stride(from: 0, to: probabilities.count, by: run) {
            total += mass(probabilities, start..<min(start + run, probabilities.count), threshold)
        }
        guard total > 0, total.isFinite else { return nil }
        let goal = uniform * total
        var sum = 0.0
        var lastRun: Range<Int>?
        for start in stride(from: 0, to: probabilities.count, by: run) {
            let range = start..<min(start + run, probabilities.count)
            let part = mass(probabilities, range, threshold)
            guard part > 0 else { continue }
            lastRun = range
            if sum + part > goal {
                var within = sum
                for token in range where keeps(probabilities[token], token, threshold) {
                    within += Double(probabilities[token])
                    if within > goal, probabilities[token] > 0 { return token }
                }
            }
            sum += part
        }
        // Rounding can leave the goal at or above the sum; the last kept token is meant then.
        return lastRun?.last { probabilities[$0] > 0 && keeps(probabilities[$0], $0, threshold) }
    }

    /// What the filters keep.
    ///
    /// - Returns: `nil` if no probability is positive and finite.
    static func threshold(
        _ probabilities: UnsafeBufferPointer<Float>, sampling: SamplingParameters, scratch: SamplingScratch
    ) -> Threshold? {
        var largest: Float = 0
        for value in probabilities where value > largest { largest = value }
        guard largest > 0, largest.isFinite else { return nil }
        var threshold = Threshold(probability: 0, token: .max)
        if sampling.topK > 0, Int(sampling.topK) < probabilities.count {
            threshold = cut(probabilities, within: threshold, count: Int(sampling.topK), mass: nil, scratch)
        }
        if sampling.topP < 1 {
            threshold = cut(
                probabilities, within: threshold, count: nil, mass: Double(sampling.topP), scratch)
        }
        if sampling.minP > 0 {
            // Everything at least this likely; the largest always is.
            let least = min(sampling.minP, 1) * largest
            if least > threshold.probability {
                threshold = Threshold(probability: least, token: .max)
            }
        }
        return threshold
    }

    /// Keeps the likeliest tokens of those within a threshold: so many, or until they reach a share of the mass.
    private static func cut(
        _ probabilities: UnsafeBufferPointer<Float>, within: Threshold, count: Int?, mass share: Double?,
        _ scratch: SamplingScratch
    ) -> Threshold {
        // Positive floats order as their bits do: the upper 12 bits after the sign (exponent and 4 of the mantissa) are
        // a bin.
        let bins = SamplingScratch.bins
        let (counts, masses) = (scratch.counts, scratch.masses)
        counts.update(repeating: 0)
        masses.update(repeating: 0)
        for token in probabilities.indices {
            let value = probabilities[token]
            guard value > 0, keeps(value, token, within) else { continue }
            let bin = Int(value.bitPattern >> 19)
            counts[bin] += 1
            masses[bin] += Double(value)
        }
        let total = masses.reduce(0, +)
        let goal = (share ?? 1) * total
        let most = count ?? .max
        var kept = 0
        var sum = 0.0
        var bin = bins - 1
        while bin > 0, kept + counts[bin] < most, share == nil || sum + masses[bin] < goal {
            kept += counts[bin]
            sum += masses[bin]
            bin -= 1
        }
        var edgeCount = 0
        for token in probabilities.indices {
            let value = probabilities[token]
            if value > 0, Int(value.bitPattern >> 19) == bin, keeps(value, token, within) {
                scratch.edge[edgeCount] = Int32(token)
                edgeCount += 1
            }
        }
        let edge = UnsafeMutableBufferPointer(rebasing: scratch.edge[..<edgeCount])
        sort(edge, by: probabilities)
        for token in edge {
            let value = probabilities[Int(token)]
            kept += 1
            sum += Double(value)
            if kept >= most || (share != nil && sum >= goal) {
                return Threshold(probability: value, token: Int(token))
            }
        }
        return within
    }

    /// Sorts tokens by falling probability, equal ones by id. A heap sort: the standard library's takes memory.
    private static func sort(_ tokens: UnsafeMutableBufferPointer<Int32>, by probabilities: UnsafeBufferPointer<Float>)
    {
        func precedes(_ first: Int32, _ second: Int32) -> Bool {
            let (left, right) = (probabilities[Int(first)], probabilities[Int(second)])
            return left != right ? left > right : first < second
        }
        /// Lets the token at `start` sink below those that follow it, so that the last in order is on top.
        func sink(_ start: Int, _ end: Int) {
            var parent = start
            while 2 * parent + 1 < end {
                var child = 2 * parent + 1
                if child + 1 < end, precedes(tokens[child], tokens[child + 1]) { child += 1 }
                guard precedes(tokens[parent], tokens[child]) else { return }
                tokens.swapAt(parent, child)
                parent = child
            }
        }
        for start in stride(from: tokens.count / 2 - 1, through: 0, by: -1) { sink(start, tokens.count) }
        for end in stride(from: tokens.count - 1, to: 0, by: -1) {
            tokens.swapAt(0, end)
            sink(0, end)
        }
    }

    @inline(__always)
    private static func keeps(_ value: Float, _ token: Int, _ threshold: Threshold) -> Bool {
        value > threshold.probability || (value == threshold.probability && token <= threshold.token)
    }

    @inline(__always)
    private static func mass(
        _ probabilities: UnsafeBufferPointer<Float>, _ range: Range<Int>, _ threshold: Threshold
    ) -> Double {
        var sum = 0.0
        for token in range where keeps(probabilities[token], token, threshold) {
            sum += Double(probabilities[token])
        }
        return sum
    }
}
