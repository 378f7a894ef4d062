// Tandem — Apache-2.0

import Requests
import Testing

@testable import CUDAKernelChecks

/// The checks' own arithmetic agrees with what the engine has elsewhere.
@Suite struct ReferenceTests {
    @Test func randomNumbersAreThoseOfRequests() {
        for (seed, choice, position) in [(0, 0, 0), (7, 1, 12), (UInt64.max, 3, 100_000)] as [(UInt64, UInt32, Int32)] {
            #expect(
                KernelChecks.uniform(seed: seed, choice: choice, position: position)
                    == CounterRandom.uniform(seed: seed, choiceIndex: choice, position: Int(position)))
        }
    }
}
