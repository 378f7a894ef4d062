// Tandem — Apache-2.0

import Glibc
import InferenceEngine
import LanguageModel

/// Cosines and sines of the positions that steps name, computed as contexts grow: a model may permit hundreds of
/// thousands of positions of which few are ever reached.
///
/// Unchecked: ``extend(to:)`` is called by the coordinator alone, before a step's threads start; they only read.
final class RotaryTable: @unchecked Sendable {
    private let memory: MappedMemory
    var byteCount: Int { memory.byteCount }
    private let pairs: Int
    private let frequencies: [Float]
    private let positions: Int
    /// Positions from 0 on that are computed.
    private(set) var filled = 0

    /// Positions computed at once.
    private static let run = 1024

    /// - Parameter rounding: changes the frequencies; see ``StepInspection``.
    init(
        _ rope: RotaryDescription, factors: [Float], positions: Int, rounding: ((Float) -> Float)? = nil
    ) throws(ExecutorError) {
        pairs = rope.dimensions / 2
        self.positions = positions
        let (byteCount, overflow) = positions.multipliedReportingOverflow(by: pairs * 8)
        guard !overflow else {
            throw ExecutorError(kind: .outOfMemory, message: "rotary tables of \(positions) positions are too large")
        }
        memory = try MappedMemory(byteCount: byteCount, purpose: "rotary tables")
        let frequencies = rope.frequencies(factors: rope.hasFrequencyFactors ? factors : [])
        self.frequencies = rounding.map { frequencies.map($0) } ?? frequencies
    }

    /// Makes the positions below `end` ready to be read.
    func extend(to end: Int) {
        guard end > filled else { return }
        let table = memory.base.assumingMemoryBound(to: Float.self)
        let last = min(positions, (end + Self.run - 1) / Self.run * Self.run)
        for position in filled..<last {
            let row = table + position * pairs * 2
            for pair in 0..<pairs {
                // The angle is a single-precision product, as in the training code this must agree with.
                let angle = Double(Float(position) * frequencies[pair])
                row[pair] = Float(cos(angle))
                row[pairs + pair] = Float(sin(angle))
            }
        }
        filled = last
    }

    /// The position's cosines, `dimensions / 2` of them.
    func cosines(_ position: Int32) -> UnsafePointer<Float> {
        UnsafePointer(memory.base.assumingMemoryBound(to: Float.self) + Int(position) * pairs * 2)
    }

    /// The position's sines.
    func sines(_ position: Int32) -> UnsafePointer<Float> { cosines(position) + pairs }
}
