// Tandem — Apache-2.0

import Testing

@testable import Supervision

@Suite struct CorePlanTests {
    @Test func enginesGetDisjointCores() {
        let plan = CorePlan(usable: [0, 1, 4, 5, 6], engines: 2, threads: nil)
        #expect(plan.cores == [[0, 1, 4], [5, 6]])
        #expect(plan.threads == [2, 2])
    }

    @Test func moreEnginesThanCoresShareInTurn() {
        let plan = CorePlan(usable: [2, 3], engines: 5, threads: nil)
        #expect(plan.cores == [[2], [3], [2], [3], [2]])
        #expect(plan.threads == [1, 1, 1, 1, 1])
    }

    @Test func threadsCanBeGiven() {
        #expect(CorePlan(usable: [0, 1, 2, 3], engines: 2, threads: 1).threads == [1, 1])
        #expect(CorePlan(usable: [0], engines: 2, threads: 3).threads == [3, 3])
    }

    @Test func unknownCoresPinNothing() {
        let plan = CorePlan(usable: [], engines: 2, threads: nil)
        #expect(plan.cores == [[], []])
        #expect(plan.threads == [1, 1])
    }

    @Test(arguments: 1...9, 1...9) func everyCoreIsUsedOnce(cores: Int, engines: Int) {
        let usable = (0..<Int32(cores)).map { $0 * 2 }
        let plan = CorePlan(usable: usable, engines: engines, threads: nil)
        #expect(plan.cores.count == engines)
        #expect(plan.cores.allSatisfy { !$0.isEmpty })
        if cores >= engines { #expect(plan.cores.flatMap { $0 } == usable) }
    }

    @Test func thisMachineHasCores() {
        #expect(!CorePlan.usableCores().isEmpty)
    }
}

@Suite struct MemoryPlanTests {
    private let mebibyte: UInt64 = 1 << 20

    private func plan(_ requested: UInt64?, available: UInt64, engines: Int = 2, perToken: UInt64 = 1024)
        throws(SupervisionError) -> UInt64
    {
        try MemoryPlan.keyValueBytes(
            requested: requested, availableBytes: available, engines: engines, bytesPerToken: perToken,
            contextLength: 8192)
    }

    @Test func aFifthIsSharedUpToTheMaximum() throws {
        #expect(try plan(nil, available: 1000 * mebibyte) == 100 * mebibyte)
        #expect(try plan(nil, available: 1005 * mebibyte) == 100 * mebibyte)
        #expect(try plan(nil, available: 1 << 40) == 1 << 30)
    }

    @Test func oneFullSequenceFitsInAnyCase() throws {
        // 8 MiB are needed, a fifth would be 4.
        #expect(try plan(nil, available: 40 * mebibyte) == 8 * mebibyte)
        #expect(
            throws: SupervisionError.notEnoughMemory(
                neededBytes: 8 * mebibyte, availableBytes: 5 * mebibyte, contextLength: 8192)
        ) { try plan(nil, available: 20 * mebibyte) }
    }

    @Test func aRequestIsTakenOrRefusedWithBothNumbers() throws {
        #expect(try plan(9 * mebibyte, available: 0) == 9 * mebibyte)
        let error = SupervisionError.keyValueMemoryTooSmall(
            givenBytes: 7 * mebibyte, neededBytes: 8 * mebibyte, contextLength: 8192)
        #expect(throws: error) { try plan(7 * mebibyte, available: 1 << 40) }
        #expect(error.description.contains("7 MiB"))
        #expect(error.description.contains("8 MiB"))
    }

    @Test func hugeNumbersDoNotOverflow() {
        #expect(throws: SupervisionError.self) { try plan(nil, available: .max, perToken: .max) }
    }

    @Test func availableMemoryIsRead() {
        #expect(MemoryPlan.availableBytes(meminfo: "MemTotal: 5 kB\nMemAvailable:    2048 kB\n") == 2 * mebibyte)
        #expect(MemoryPlan.availableBytes(meminfo: "MemTotal: 5 kB\n") == nil)
        #expect(MemoryPlan.availableBytes() > 0)
    }
}

@Suite struct AnnouncementTests {
    private func announcement(host: String = "127.0.0.1", model: String = "m-1", key: Bool = false) -> Announcement {
        Announcement(
            modelName: model, engines: 2, device: "cpu", host: host, port: 8000, requiresKey: key,
            timeToReady: .milliseconds(1057))
    }

    @Test func saysWhatIsServedAndHowToTry() {
        let text = announcement().text
        #expect(text.hasPrefix("m-1 is served by 2 engines, each cpu; ready in 1.06 s.\n"))
        #expect(
            text.contains(
                #"curl -N http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" -d "#
                    + #"'{"model": "m-1", "messages""#))
        #expect(text.contains(#""stream": true}'"#))
        #expect(!text.contains("Authorization"))
    }

    @Test(arguments: [
        ("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000"), ("::1", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
    ])
    func wildcardsBecomeReachable(host: String, url: String) {
        #expect(announcement(host: host).url == url)
    }

    @Test func keysAreAskedForAndOddNamesAreLeftOut() {
        let text = announcement(model: "it's", key: true).text
        #expect(text.contains("Bearer $TANDEM_API_KEY"))
        #expect(text.contains(#"-d '{"messages""#))
    }
}
