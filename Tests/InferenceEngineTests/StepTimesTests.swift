// Tandem — Apache-2.0

import Requests
import Synchronization
import Testing

@testable import InferenceEngine

@Suite struct StepTimerTests {
    /// A clock that is set by hand.
    private final class ManualClock: Sendable {
        let time = Atomic<UInt64>(0)

        var now: @Sendable () -> UInt64 {
            { self.time.load(ordering: .relaxed) }
        }

        func advance(_ nanoseconds: UInt64) { time.wrappingAdd(nanoseconds, ordering: .relaxed) }
    }

    @Test func phasesGetTheTimeUntilTheNextOne() {
        let clock = ManualClock()
        var timer = StepTimer(now: clock.now)
        clock.advance(100)
        for phase in [StepPhase.schedule, .prepare, .wait, .sample, .report, .idle] {
            timer.enter(phase)
            clock.advance(UInt64(phase.rawValue + 1))
        }
        timer.update()
        let times = timer.times
        #expect(times.idle == 100 + UInt64(StepPhase.idle.rawValue + 1))
        for phase in [StepPhase.schedule, .prepare, .wait, .sample, .report] {
            #expect(times[phase] == UInt64(phase.rawValue + 1))
        }
        #expect(StepPhase.allCases.reduce(0) { $0 + times[$1] } == clock.now())
        #expect(times.host == times.schedule + times.prepare + times.sample + times.report)
    }

    @Test func theDeviceIsBusyBesideTheHost() {
        let clock = ManualClock()
        var timer = StepTimer(now: clock.now)
        timer.enter(.schedule)
        clock.advance(10)
        timer.enter(.prepare)
        timer.setDevice(busy: true)
        clock.advance(5)
        timer.enter(.wait)
        clock.advance(50)
        timer.enter(.sample)
        timer.setDevice(busy: false)
        clock.advance(7)
        timer.enter(.idle)
        clock.advance(1000)
        timer.update()
        #expect(timer.times.device == 55)
        #expect(timer.times.gap == 17)
        #expect(timer.times.device + timer.times.gap + timer.times.idle == clock.now())
    }

    @Test func theDeviceIsCountedWhileItIsBusy() {
        let clock = ManualClock()
        var timer = StepTimer(now: clock.now)
        timer.enter(.wait)
        timer.setDevice(busy: true)
        clock.advance(20)
        timer.update()
        #expect(timer.times.device == 20)
        clock.advance(3)
        timer.update()
        #expect(timer.times.device == 23)
    }

    @Test func stallsAreAddedUp() {
        let stalls = HostStalls(perStep: 1, perSequence: 10, perRequest: 100, perPromptToken: 1000)
        #expect(stalls.step(sequences: 7) == 71)
        #expect(stalls.admission(promptTokens: 3) == 3100)
        #expect(HostStalls().step(sequences: 7) == 0)
    }
}
