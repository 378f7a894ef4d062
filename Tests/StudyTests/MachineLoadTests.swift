// Tandem — Apache-2.0

import Glibc
import Testing

@testable import Study

@Suite struct MachineLoadTests {
    @Test func `busy time is all but waiting`() {
        let text = "cpu  10 20 30 1000 500 1 2 3 7 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n"

        #expect(MachineLoad.busyTicks(Array(text.utf8)) == 66)
        #expect(MachineLoad.busyTicks(Array("cpu 1 2".utf8)) == nil)
        #expect(MachineLoad.busyTicks(Array("cpu a b c d e f g h i j".utf8)) == nil)
        #expect(MachineLoad.busyTicks([]) == nil)
    }

    @Test func `a process may be called anything`() {
        let text = "42 (a) (b c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100\n"

        #expect(MachineLoad.usedTicks(Array(text.utf8)) == 300)
        #expect(MachineLoad.usedTicks(Array("42 (a".utf8)) == nil)
        #expect(MachineLoad.usedTicks(Array("42 (a) S 1".utf8)) == nil)
    }

    @Test func `what is not one's own worked for others`() throws {
        let now = ContinuousClock.now
        let before = MachineLoad(all: 100, own: 40, at: now)

        let busy = MachineLoad(all: 106, own: 43, at: now + .seconds(2))
        #expect(abs(busy.otherCores(since: before) - 1.5) < 1e-9)
        #expect(MachineLoad(all: 101, own: 42, at: now + .seconds(1)).otherCores(since: before) == 0)
        #expect(before.otherCores(since: before) == 0)
        let read = try #require(MachineLoad(processes: [getpid()]))
        #expect(read.all >= read.own)
    }
}
