// Tandem — Apache-2.0

import CUDAKernels
import Testing

@Suite struct PrefillTilesTests {
    /// Every tile of every chunk once, and those that see most keys first.
    @Test func longestTilesComeFirst() {
        var tiles = PrefillTiles()
        // 300 tokens of a new prompt, 40 behind 500: tiles of 128 rows with two heads a token.
        tiles.add(row: 0, tokens: 300, past: 0, group: 2, tileRows: 128)
        tiles.add(row: 1, tokens: 40, past: 500, group: 2, tileRows: 128)
        tiles.sort()
        #expect(tiles.rows == [1, 0, 0, 0, 0, 0])
        #expect(tiles.starts == [0, 512, 384, 256, 128, 0])
    }

    @Test func equalTilesKeepTheOrderOfTheirChunks() {
        var tiles = PrefillTiles()
        for row in 0..<3 as Range<Int32> { tiles.add(row: row, tokens: 64, past: 0, group: 1, tileRows: 64) }
        tiles.sort()
        #expect(tiles.rows == [0, 1, 2])
        tiles.removeAll()
        tiles.sort()
        #expect(tiles.rows.isEmpty && tiles.starts.isEmpty)
    }

    @Test func kernelsOfWarpgroupsAreHoppersAlone() {
        for form in PrefillForm.allCases {
            for dimension in HeadDimension.allCases {
                let kernel = PrefillTiling(dimension, form).kernel
                #expect(kernel.exists(onComputeCapability: 9))
                let isOfWarpgroups = form == .warpgroups && dimension != .d256
                #expect(kernel.exists(onComputeCapability: 8) == !isOfWarpgroups)
                #expect(kernel.exists(onComputeCapability: 10) == !isOfWarpgroups)
            }
        }
    }
}
