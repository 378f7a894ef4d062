// Tandem — Apache-2.0

import Testing

@testable import VirtualDevice

@Suite struct LagTests {
    @Test func lagIsTheSumOfDelaysOverTheSumOfDurations() {
        var meter = LagMeter()
        for step in 0..<100 {
            let due = UInt64(step) * 10_000_000
            meter.count(due: due, delivered: due + 200_000, duration: 10_000_000)
        }
        #expect(abs(meter.share(at: 999_000_000) - 0.02) < 1e-9)
        #expect(!meter.isLate(at: 999_000_000))
        #expect(abs(meter.totalShare - 0.02) < 1e-9)
        #expect(meter.steps == 100)
    }

    @Test func onlyTheLastSecondsCountAndEarlyIsNotLate() {
        var meter = LagMeter()
        for step in 0..<100 {
            meter.count(due: UInt64(step) * 1_000_000, delivered: UInt64(step) * 1_000_000 + 900_000, duration: 1e6)
        }
        #expect(meter.isLate(at: 200_000_000))
        #expect(meter.share(at: 10_000_000_000) == 0)
        for step in 0..<100 {
            let due = 10_000_000_000 + UInt64(step) * 1_000_000
            meter.count(due: due, delivered: due - 5, duration: 1e6)
        }
        #expect(meter.share(at: 10_500_000_000) == 0)
        #expect(meter.worst > 0.8)
    }

    @Test func fewStepsSayNothing() {
        var meter = LagMeter()
        for step in 0..<10 {
            meter.count(due: UInt64(step), delivered: UInt64(step) + 1_000_000, duration: 1000)
        }
        #expect(!meter.isLate(at: 2_000_000))
    }
}
