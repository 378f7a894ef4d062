// Tandem — Apache-2.0

import Requests
import Testing

@Suite struct StepSizesTests {
    @Test func sizesAreCountedUpToTheirBounds() {
        var sizes = StepSizes()
        for size in [0, 1, 2, 8, 9, 16384, 16385, 1_000_000] { sizes.add(tokens: size) }
        #expect(sizes.counts == [2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2])
        #expect(sizes.tokens == 1 + 2 + 8 + 9 + 16384 + 16385 + 1_000_000)
        #expect(StepSizes(counts: sizes.counts, tokens: sizes.tokens) == sizes)
    }

    @Test func otherBucketsAreRefused() {
        #expect(StepSizes(counts: [1, 2], tokens: 3) == nil)
        #expect(StepSizes(counts: Array(repeating: 0, count: StepSizes.bounds.count + 1), tokens: 0) == StepSizes())
    }
}
