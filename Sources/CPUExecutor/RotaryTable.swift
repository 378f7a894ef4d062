// Tandem — Apache-2.0

import Glibc
import InferenceEngine
import LanguageModel

/// Cosines and sines of every position a step may name.
///
/// Unchecked: read-only once `init` has returned.
final class RotaryTable: @unchecked Sendable {
    private let memory: MappedMemory
    private let pairs: Int

    init(_ rope: RotaryDescription, factors: [Float], positions: Int) throws(ExecutorError) {
        pairs = rope.dimensions / 2
        memory = try MappedMemory(byteCount: positions * pairs * 8, purpose: "rotary tables")
        let table = memory.base.assumingMemoryBound(to: Float.self)
        let frequencies = rope.frequencies(factors: rope.hasFrequencyFactors ? factors : [])
        for position in 0..<positions {
            let row = table + position * pairs * 2
            for pair in 0..<pairs {
                // The angle is a single-precision product, as in the training code this must agree with.
                let angle = Double(Float(position) * frequencies[pair])
                row[pair] = Float(cos(angle))
                row[pairs + pair] = Float(sin(angle))
            }
        }
    }

    /// The position's cosines, `dimensions / 2` of them.
    func cosines(_ position: Int32) -> UnsafePointer<Float> {
        UnsafePointer(memory.base.assumingMemoryBound(to: Float.self) + Int(position) * pairs * 2)
    }

    /// The position's sines.
    func sines(_ position: Int32) -> UnsafePointer<Float> { cosines(position) + pairs }
}
