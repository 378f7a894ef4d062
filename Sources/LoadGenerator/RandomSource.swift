// Tandem — Apache-2.0

import Glibc

/// Random numbers that a seed repeats (SplitMix64).
public struct RandomSource: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// - Parameter stream: numbers of one seed and different streams have nothing to do with each other.
    public init(seed: UInt64, stream: UInt64 = 0) {
        state = seed
        if stream != 0 { state = next() ^ (stream &* 0xD6E8_FEB8_6659_FD93) }
    }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        return bits ^ (bits >> 31)
    }

    /// Uniform above 0, up to 1.
    mutating func uniform() -> Double { Double((next() >> 11) + 1) * 0x1p-53 }

    /// Exponential with a mean of 1.
    mutating func exponential() -> Double { -log(uniform()) }

    /// Normal with a mean of 0 and a deviation of 1 (Box and Muller).
    mutating func normal() -> Double { sqrt(-2 * log(uniform())) * cos(2 * Double.pi * uniform()) }

    /// Gamma with a mean of 1, whose variance is 1 / `shape` (Marsaglia and Tsang, 2000).
    mutating func gamma(shape: Double) -> Double {
        // Below 1 the method needs a detour by a shape that is greater by 1.
        let boost = shape < 1 ? pow(uniform(), 1 / shape) : 1
        let raised = shape < 1 ? shape + 1 : shape
        let d = raised - 1 / 3
        let c = 1 / sqrt(9 * d)
        while true {
            let x = normal()
            let root = 1 + c * x
            guard root > 0 else { continue }
            let v = root * root * root
            if log(uniform()) < x * x / 2 + d - d * v + d * log(v) { return boost * d * v / shape }
        }
    }
}
