// Tandem — Apache-2.0

import Study
import Testing

@Suite struct StudyStatisticsTests {
    @Test func `a gain is the ratio of means and lies in its interval`() throws {
        let gain = try #require(StudyStatistics.gain(of: [150, 160, 140], over: [100, 100, 100]))

        #expect(abs(gain.value - 0.5) < 1e-12)
        #expect(gain.low >= 0.4 - 1e-9 && gain.low < 0.5)
        #expect(gain.high <= 0.6 + 1e-9 && gain.high > 0.5)
        #expect(gain.count == 3)
        #expect(StudyStatistics.gain(of: [150, 160, 140], over: [100, 100, 100]) == gain)
    }

    @Test func `equal repetitions leave no interval, and none no gain`() {
        #expect(StudyStatistics.gain(of: [2, 2], over: [1, 1]) == Estimate(value: 1, low: 1, high: 1, count: 2))
        #expect(StudyStatistics.gain(of: [], over: []) == nil)
        #expect(StudyStatistics.gain(of: [1], over: [0]) == nil)
    }

    @Test func `pairs vary together`() throws {
        // Whatever slowed a repetition slowed both arms: the gain is sure.
        let gain = try #require(StudyStatistics.gain(of: [20, 40, 80], over: [10, 20, 40]))

        #expect(abs(gain.low - 1) < 1e-12 && abs(gain.high - 1) < 1e-12)
    }

    @Test func `times added never exceed the weighted mean`() {
        #expect(ExpectedGain.weightedMean(share: 0.5, attention: 1, feedForward: 0) == 0.5)
        #expect(abs(ExpectedGain.timesAdded(share: 0.5, attention: 1, feedForward: 0) - 1.0 / 3) < 1e-12)
        for share in stride(from: 0.0, through: 1, by: 0.25) {
            for attention in [-0.5, 0, 0.3, 2] {
                for feedForward in [-0.2, 0, 0.7] {
                    let mean = ExpectedGain.weightedMean(share: share, attention: attention, feedForward: feedForward)
                    let added = ExpectedGain.timesAdded(share: share, attention: attention, feedForward: feedForward)
                    #expect(added <= mean + 1e-12)
                }
            }
        }
    }

    @Test func `expected gains come with the share of attention`() throws {
        let expected = try #require(
            StudyStatistics.expectedGain(
                attention: ([200, 200], [100, 100]), feedForward: ([100, 100], [100, 100]),
                attentionSeconds: [3, 3], feedForwardSeconds: [1, 1]))

        #expect(expected.attentionShare.value == 0.75)
        #expect(abs(expected.weightedMean.value - 0.75) < 1e-12)
        #expect(abs(expected.timesAdded.value - (1 / (0.75 / 2 + 0.25) - 1)) < 1e-12)
    }

    @Test func `a crossover lies between two contexts on the logarithm's scale`() {
        let points = [(context: 128.0, value: 0.5), (512, 0.2), (2048, 0.0)]

        #expect(StudyStatistics.crossover(points, below: 0.6) == .below)
        #expect(StudyStatistics.crossover(points, below: -0.1) == .above)
        guard case .at(let context) = StudyStatistics.crossover(points.reversed(), below: 0.1) else {
            Issue.record("no crossover")
            return
        }
        #expect(abs(context - 1024) < 1e-6)
        #expect(StudyStatistics.crossover([], below: 0) == nil)
    }

    @Test func `a line over the logarithm is found`() throws {
        let fit = try #require(
            StudyStatistics.logLinearFit([(context: 128, value: 0.5), (256, 0.4), (512, 0.3), (1024, 0.2)]))

        #expect(abs(fit.slopePerDoubling + 0.1) < 1e-12)
        #expect(abs(fit.determination - 1) < 1e-12)
        #expect(StudyStatistics.logLinearFit([(context: 1, value: 1), (2, 2)]) == nil)
    }

    @Test func `throughput at a latency lies between the loads around it`() {
        let sweep = [(throughput: 100.0, latency: 1.0), (200, 2), (300, 6), (310, 60)]

        #expect(StudyStatistics.throughput(within: 4, sweep) == 250)
        #expect(StudyStatistics.throughput(within: 100, sweep) == 310)
        #expect(StudyStatistics.throughput(within: 0.5, sweep).isNaN)
        #expect(StudyStatistics.throughput(within: 1, []).isNaN)
    }
}
