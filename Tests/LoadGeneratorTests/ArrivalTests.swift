// Tandem — Apache-2.0

import Testing

@testable import LoadGenerator

@Suite struct ArrivalTests {
    private func gaps(_ process: ArrivalProcess, count: Int, seed: UInt64 = 7) throws -> Statistics {
        var random = RandomSource(seed: seed)
        let schedule = process.schedule(requests: count, seconds: nil, random: &random)
        #expect(schedule.count == count && schedule == schedule.sorted())
        let before = [0] + schedule.dropLast()
        return try #require(Statistics(zip(schedule, before).map { Double($0 - $1) / 1e9 }))
    }

    @Test func constantIsEven() {
        var random = RandomSource(seed: 1)
        let schedule = ArrivalProcess.constant(rate: 4).schedule(requests: nil, seconds: 1.1, random: &random)
        #expect(schedule == [0, 250_000_000, 500_000_000, 750_000_000, 1_000_000_000])
    }

    @Test func poissonHasExponentialGaps() throws {
        let gaps = try gaps(.poisson(rate: 50), count: 20_000)
        #expect(abs(gaps.mean - 0.02) < 0.0006 && abs(gaps.deviation - 0.02) < 0.001)
        #expect(abs(gaps.median - 0.02 * 0.6931) < 0.0006)
    }

    @Test(arguments: [0.25, 0.5, 1, 4])
    func burstsKeepTheRate(shape: Double) throws {
        let gaps = try gaps(.bursty(rate: 10, burstiness: shape), count: 40_000)
        #expect(abs(gaps.mean - 0.1) < 0.004)
        #expect(abs(gaps.deviation / gaps.mean - (1 / shape).squareRoot()) < 0.06)
    }

    @Test func rampRises() {
        var random = RandomSource(seed: 3)
        let schedule = ArrivalProcess.ramp(from: 0, to: 400, seconds: 20).schedule(
            requests: nil, seconds: nil, random: &random)
        // Half of 400 × 20, and of those a quarter in the first half.
        #expect(abs(schedule.count - 4000) < 250)
        let early = schedule.count { $0 < 10_000_000_000 }
        #expect(abs(early - schedule.count / 4) < 150)
        #expect(schedule.allSatisfy { $0 < 20_000_000_000 } && schedule == schedule.sorted())
    }

    @Test func rampFalls() {
        var random = RandomSource(seed: 3)
        let schedule = ArrivalProcess.ramp(from: 400, to: 0, seconds: 20).schedule(
            requests: nil, seconds: nil, random: &random)
        #expect(abs(schedule.count - 4000) < 250)
        #expect(abs(schedule.count { $0 < 10_000_000_000 } - schedule.count * 3 / 4) < 150)
    }

    @Test func momentsOfARamp() {
        #expect(ArrivalProcess.moment(ofExpected: 10, first: 5, slope: 0) == 2)
        #expect(ArrivalProcess.moment(ofExpected: 8, first: 0, slope: 4) == 2)
        #expect(ArrivalProcess.moment(ofExpected: 100, first: 1, slope: -1) == .infinity)
    }

    @Test func traceIsSortedAndCut() {
        var random = RandomSource(seed: 1)
        let trace = ArrivalProcess.trace([2, 0, 1, 3])
        #expect(trace.schedule(requests: 3, seconds: nil, random: &random) == [0, 1_000_000_000, 2_000_000_000])
        #expect(trace.schedule(requests: nil, seconds: 2, random: &random) == [0, 1_000_000_000])
    }

    @Test func seedsRepeat() {
        let schedule = { (seed: UInt64) in
            var random = RandomSource(seed: seed)
            return ArrivalProcess.poisson(rate: 5).schedule(requests: 10, seconds: nil, random: &random)
        }
        #expect(schedule(4) == schedule(4) && schedule(4) != schedule(5))
    }

    @Test func withoutABoundNothingIsDue() {
        var random = RandomSource(seed: 1)
        #expect(ArrivalProcess.poisson(rate: 5).schedule(requests: nil, seconds: nil, random: &random).isEmpty)
    }
}
