// Tandem — Apache-2.0

import EngineLink
import Testing

@testable import EngineHost

@Suite struct ProcessProgressTests {
    private func beat(_ progress: UInt64, _ isWorking: Bool = true) -> Heartbeat {
        Heartbeat(progress: progress, isWorking: isWorking)
    }

    @Test func theProcessSpeaksOnceAllEnginesWereHeard() {
        var progress = ProcessProgress(engines: 3)
        #expect(progress.heard(0, beat(1)) == nil)
        #expect(progress.heard(0, beat(2)) == nil)
        #expect(progress.heard(2, beat(1)) == nil)
        #expect(progress.heard(1, beat(0, false)) == beat(1))
        // From here on it needs all of them again: a silent one makes the process silent.
        #expect(progress.heard(0, beat(3)) == nil)
        #expect(progress.heard(2, beat(2)) == nil)
        #expect(progress.heard(9, beat(2)) == nil)
    }

    @Test func oneThatStandsStillHoldsTheProcessBack() {
        var progress = ProcessProgress(engines: 2)
        func round(_ first: Heartbeat, _ second: Heartbeat) -> Heartbeat? {
            _ = progress.heard(0, first)
            return progress.heard(1, second)
        }
        #expect(round(beat(1000), beat(5)) == beat(1))
        // The first hangs: however far the second gets, beyond the first one's number too.
        for number in [6, 900, 1000, 2000] as [UInt64] { #expect(round(beat(1000), beat(number)) == beat(1)) }
        #expect(round(beat(1001), beat(2000)) == beat(2))
    }

    @Test func slowStepsAreProgress() {
        var progress = ProcessProgress(engines: 2)
        func round(_ first: UInt64, _ second: UInt64) -> UInt64? {
            _ = progress.heard(0, beat(first))
            return progress.heard(1, beat(second))?.progress
        }
        #expect(round(1, 1) == 1)
        // They get on in turn, never both between two signs of life.
        #expect(round(2, 1) == 1)
        #expect(round(2, 2) == 2)
        #expect(round(2, 3) == 2)
        #expect(round(3, 3) == 3)
    }

    @Test func anIdleEngineHoldsNobodyBack() {
        var progress = ProcessProgress(engines: 2)
        func round(_ first: Heartbeat, _ second: Heartbeat) -> Heartbeat? {
            _ = progress.heard(0, first)
            return progress.heard(1, second)
        }
        #expect(round(beat(4, false), beat(1)) == beat(1))
        #expect(round(beat(4, false), beat(2)) == beat(2))
        #expect(round(beat(4, false), beat(2, false)) == beat(3, false))
        // One that has just begun has the time of a step from now on.
        #expect(round(beat(4), beat(2, false)) == beat(3))
        #expect(round(beat(4), beat(2, false)) == beat(3))
        #expect(round(beat(5), beat(2, false)) == beat(4))
    }

    @Test func oneThatHasDrainedIsNotWaitedFor() {
        var progress = ProcessProgress(engines: 2)
        _ = progress.heard(0, beat(1))
        progress.ended(0)
        progress.ended(7)
        #expect(progress.heard(1, beat(1)) == beat(1))
        #expect(progress.heard(1, beat(2, false)) == beat(2, false))
    }
}
