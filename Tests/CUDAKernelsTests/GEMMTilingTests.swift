// Tandem — Apache-2.0

import CUDAKernels
import Testing

@Suite struct GEMMTilingTests {
    /// Tiles for the products of Qwen2.5-0.5B on an H100.
    @Test func tilesFitTheRows() {
        func chosen(_ rows: Int, _ columns: Int) -> GEMMTiling {
            .chosen(rows: rows, columns: columns, multiprocessors: 132)
        }
        #expect(chosen(1, 896) == .small)
        #expect(chosen(256, 896) == .small)
        #expect(chosen(256, 1152) == .small)
        #expect(chosen(256, 9728) == .large)
        #expect(chosen(1024, 896) == .tall)
        #expect(chosen(8192, 9728) == .large)
    }

    @Test func tilesOfNothingAreChosenToo() {
        #expect(GEMMTiling.allCases.contains(.chosen(rows: 0, columns: 0, multiprocessors: 0)))
    }
}
