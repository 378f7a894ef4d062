// Tandem — Apache-2.0
import CPUKernels
import Foundation
import Testing

private let lengths = [1, 2, 15, 16, 17, 63, 64, 65, 1000, 1023, 1025, 5000]

@Suite struct SamplingTests {
    @Test(arguments: InstructionSet.available, lengths)
    func findsTheLowestLargest(set: InstructionSet, count: Int) {
        for seed in 1...5 as ClosedRange<UInt64> {
            var numbers = Numbers(seed)
            // Few distinct values, so that ties are the rule.
            let x = (0..<count).map { _ in Float(numbers.bits() % 7) - 3 }
            let largest = x.max()!
            #expect(set.kernels.max(x, count) == largest)
            #expect(set.kernels.argmax(x, count) == x.firstIndex(of: largest))
        }
    }

    @Test(arguments: InstructionSet.available)
    func neverSelectsNaN(set: InstructionSet) {
        var x = [Float](repeating: -.infinity, count: 100)
        x[40] = .nan
        x[41] = -5
        x[99] = .nan
        #expect(set.kernels.argmax(x, 100) == 41 && set.kernels.max(x, 100) == -5)
        let nothing = [Float](repeating: .nan, count: 33)
        #expect(set.kernels.argmax(nothing, 33) == 0 && set.kernels.max(nothing, 33) == -.infinity)
        let masked = [Float](repeating: -.infinity, count: 33)
        #expect(set.kernels.argmax(masked, 33) == 0)
        #expect(set.kernels.log_sum_exp(masked, 33, 1) == -.infinity)
    }

    @Test(arguments: InstructionSet.available, lengths)
    func selectsTheTop(set: InstructionSet, count: Int) {
        for (seed, distinct) in [(1, 7), (2, 1_000_000), (3, 40)] as [(UInt64, UInt32)] {
            var numbers = Numbers(seed)
            var x = (0..<count).map { _ in Float(numbers.bits() % distinct) }
            if count > 20 { x[20] = .nan }
            if count > 21 { x[21] = -.infinity }
            let sorted = x.indices.filter { !x[$0].isNaN }.sorted { (x[$0], $1) > (x[$1], $0) }
            for k in [1, 5, 20, 64] {
                var indices = [Int32](repeating: -1, count: 64)
                var values = [Float](repeating: -1, count: 64)
                let found = set.kernels.top_k(x, count, k, &indices, &values)
                #expect(found == min(k, sorted.count))
                #expect(indices.prefix(found).map(Int.init) == Array(sorted.prefix(k)))
                #expect(Array(values.prefix(found)) == sorted.prefix(k).map { x[$0] })
            }
        }
    }

    @Test(arguments: InstructionSet.available)
    func topKClampsK(set: InstructionSet) {
        let x = (0..<200).map(Float.init)
        var indices = [Int32](repeating: -1, count: 65)
        var values = [Float](repeating: -1, count: 65)
        #expect(set.kernels.top_k(x, 200, 0, &indices, &values) == 0)
        #expect(set.kernels.top_k(x, 200, 200, &indices, &values) == 64)
        #expect(indices[64] == -1 && values[64] == -1)
    }

    @Test(arguments: InstructionSet.available, lengths)
    func normalizesProbabilities(set: InstructionSet, count: Int) {
        var numbers = Numbers(4)
        var x = numbers.floats(count, 20)
        if count > 3 { x[3] = -.infinity }
        for inverse in [0.5, 1, 3] as [Float] {
            let scaled = x.map { Double($0) * Double(inverse) }
            let largest = scaled.max()!
            let sum = scaled.reduce(0) { $0 + exp($1 - largest) }
            let logSum = set.kernels.log_sum_exp(x, count, inverse)
            #expect(abs(Double(logSum) - (largest + log(sum))) < 5e-6 * max(1, abs(largest)))
            var out = [Float](repeating: .nan, count: count)
            set.kernels.softmax_row(x, count, inverse, &out)
            for i in 0..<count {
                let expected = exp(scaled[i] - largest) / sum
                #expect(abs(Double(out[i]) - expected) <= 1e-5 * expected + 1e-30)
            }
            var inPlace = x
            inPlace.withUnsafeMutableBufferPointer {
                set.kernels.softmax_row($0.baseAddress!, count, inverse, $0.baseAddress!)
            }
            #expect(inPlace == out)
        }
    }

    @Test func dispatchPrefersTheBest() {
        #expect(String(cString: tandem_kernels_best().pointee.name) == InstructionSet.available.last?.rawValue)
        for set in InstructionSet.available { #expect(String(cString: set.kernels.name) == set.rawValue) }
        tandem_relax()
    }
}
