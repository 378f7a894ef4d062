// Tandem — Apache-2.0

import Glibc
import LanguageModel
import Testing

@testable import CPUExecutor

@Suite struct RotaryTableTests {
    static let rope = RotaryDescription(base: 10000, dimensions: 32, fileLayout: .interleaved)

    /// A file may claim a context of hundreds of millions of tokens; only positions that are reached cost anything.
    @Test func aLongContextCostsNothingUntilItIsReached() throws {
        let table = try RotaryTable(Self.rope, factors: [], positions: 1 << 22)
        #expect(table.filled == 0)
        table.extend(to: 1)
        #expect(table.filled == 1024)
        table.extend(to: 1024)
        #expect(table.filled == 1024)
    }

    @Test func growsToTheLastPositionAndNoFurther() throws {
        let table = try RotaryTable(Self.rope, factors: [], positions: 2500)
        let frequencies = Self.rope.frequencies()
        for end in [3, 1025, 2500] {
            table.extend(to: end)
            #expect(table.filled == min(2500, (end + 1023) / 1024 * 1024))
            for position in [0, 1, end - 1] {
                for pair in 0..<16 {
                    let angle = Double(Float(position) * frequencies[pair])
                    #expect(table.cosines(Int32(position))[pair] == Float(cos(angle)))
                    #expect(table.sines(Int32(position))[pair] == Float(sin(angle)))
                }
            }
        }
    }
}
