// Tandem — Apache-2.0

import InferenceEngine

/// Memory in which one thread sorts probabilities.
///
/// Unchecked: each compute thread has one of its own and touches no other; plain memory, so that sampling allocates
/// nothing.
final class SamplingScratch: @unchecked Sendable {
    /// Bins of probabilities by their upper bits.
    static let bins = 4096

    /// How many probabilities are in each bin, and their sum.
    let counts: UnsafeMutableBufferPointer<Int>
    let masses: UnsafeMutableBufferPointer<Double>
    /// Tokens of one bin.
    let edge: UnsafeMutableBufferPointer<Int32>
    private let memory: MappedMemory
    var byteCount: Int { memory.byteCount }

    init(vocabularySize: Int) throws(ExecutorError) {
        var arena = Arena()
        let countOffset = arena.reserve(Self.bins, of: Int.self)
        let massOffset = arena.reserve(Self.bins, of: Double.self)
        let edgeOffset = arena.reserve(vocabularySize, of: Int32.self)
        let memory = try MappedMemory(byteCount: arena.byteCount, purpose: "sampling")
        self.memory = memory
        func piece<Element>(_ offset: Int, _ count: Int, _: Element.Type) -> UnsafeMutableBufferPointer<Element> {
            UnsafeMutableBufferPointer(
                start: (memory.base + offset).assumingMemoryBound(to: Element.self), count: count)
        }
        counts = piece(countOffset, Self.bins, Int.self)
        masses = piece(massOffset, Self.bins, Double.self)
        edge = piece(edgeOffset, vocabularySize, Int32.self)
    }
}
