// Tandem — Apache-2.0

import InferenceEngine
import Testing

@Suite struct TokenBudgetTests {
    /// A device that takes `base` and `perToken` nanoseconds, run at the budget's limit.
    private func run(_ budget: inout TokenBudget, base: UInt64, perToken: UInt64, steps: Int) -> [Int] {
        (0..<steps).map { _ in
            budget.stepTook(nanoseconds: base + perToken * UInt64(budget.limit), tokens: budget.limit)
            return budget.limit
        }
    }

    @Test func findsWhatFitsTheTarget() {
        var budget = TokenBudget(targetNanoseconds: 250_000, range: 16...2048)
        #expect(budget.limit == 2048)
        // (250 - 50) µs at 0.5 µs a token.
        let limits = run(&budget, base: 50_000, perToken: 500, steps: 20)
        #expect((390...400).contains(budget.limit))
        for (before, after) in zip([2048] + limits, limits) {
            #expect(after >= before / 2 && after <= before * 3 / 2 + 1)
        }
        // The device becomes five times as fast, then four times as slow as at first.
        _ = run(&budget, base: 10_000, perToken: 100, steps: 20)
        #expect(budget.limit == 2048)
        _ = run(&budget, base: 50_000, perToken: 2000, steps: 20)
        #expect((95...100).contains(budget.limit))
    }

    @Test func staysInItsRange() {
        var budget = TokenBudget(targetNanoseconds: 1000, range: 16...64)
        _ = run(&budget, base: 1_000_000, perToken: 1000, steps: 10)
        #expect(budget.limit == 16)
        _ = run(&budget, base: 1, perToken: 0, steps: 10)
        #expect(budget.limit == 64)
        budget.stepTook(nanoseconds: 0, tokens: 5)
        budget.stepTook(nanoseconds: .max, tokens: 0)
        #expect(budget.limit == 64)
        budget.stepTook(nanoseconds: .max, tokens: .max)
        budget.stepTook(nanoseconds: 1, tokens: .max)
        #expect((16...64).contains(budget.limit))
    }

    @Test func shortStepsInTimeChangeNothing() {
        var budget = TokenBudget(targetNanoseconds: 250_000, range: 16...2048)
        _ = run(&budget, base: 50_000, perToken: 500, steps: 20)
        let limit = budget.limit
        for _ in 0..<100 { budget.stepTook(nanoseconds: 52_000, tokens: 4) }
        #expect(budget.limit == limit)
        // One step that something else held up costs half, and is made good in two.
        budget.stepTook(nanoseconds: 900_000, tokens: 4)
        #expect(budget.limit == limit / 2)
        _ = run(&budget, base: 50_000, perToken: 500, steps: 5)
        #expect(budget.limit > limit * 9 / 10)
    }
}
