// Tandem — Apache-2.0

import Testing

@testable import Supervision

@Suite struct RestartPolicyTests {
    @Test func waitsDoubleUpToTheMaximum() {
        var policy = RestartPolicy(settings: .engine)
        let delays = (0..<9).map { _ in policy.died(after: .seconds(1)).delay }
        #expect(
            delays == [
                .milliseconds(100), .milliseconds(200), .milliseconds(400), .milliseconds(800), .milliseconds(1600),
                .milliseconds(3200), .milliseconds(6400), .seconds(10), .seconds(10),
            ])
    }

    @Test func tooManyDeathsCountAsFailedAndAreStillRetried() {
        var policy = RestartPolicy(settings: .engine)
        for _ in 0..<9 { #expect(!policy.died(after: .zero).isFailed) }
        for _ in 0..<20 { #expect(policy.died(after: .zero) == .init(delay: .seconds(30), isFailed: true)) }
        // Having served for long makes it an ordinary child again.
        #expect(policy.died(after: .seconds(5)) == .init(delay: .milliseconds(100), isFailed: false))
        #expect(policy.deathsInARow == 1)
    }

    @Test func gatewayStartsAgainAtOnce() {
        var policy = RestartPolicy(settings: .gateway)
        #expect(policy.died(after: .seconds(4)).delay == .zero)
        #expect(policy.died(after: .seconds(4)).delay == .milliseconds(100))
        #expect(policy.died(after: .seconds(6)).delay == .zero)
    }
}
