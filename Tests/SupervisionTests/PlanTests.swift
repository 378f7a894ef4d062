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

    private func shares(_ shares: [(Int, Int?)], cores: Int) -> CorePlan {
        CorePlan(
            usable: (0..<Int32(cores)).map { $0 },
            shares: shares.map { CorePlan.Share(engines: $0.0, threads: $0.1) })
    }

    @Test func modelsShareLikeTheirEngines() {
        let plan = shares([(2, nil), (1, nil)], cores: 7)
        #expect(plan.cores == [[0, 1, 2], [3, 4], [5, 6]])
        #expect(plan.threads == [2, 2, 2])
    }

    @Test func givenThreadsGetTheirCoresAndTheOthersTheRest() {
        let plan = shares([(2, nil), (1, 1)], cores: 8)
        #expect(plan.cores == [[0, 1, 2, 3], [4, 5, 6], [7]])
        #expect(plan.threads == [3, 3, 1])
        #expect(shares([(1, 3), (1, nil)], cores: 4).cores == [[0, 1, 2], [3]])
    }

    @Test func whatIsGivenForAllOrTooMuchDividesEvenly() {
        let all = shares([(1, 2), (1, 1)], cores: 8)
        #expect(all.cores.map(\.count) == [4, 4])
        #expect(all.threads == [2, 1])
        let much = shares([(1, 4), (1, nil)], cores: 4)
        #expect(much.cores == [[0, 1], [2, 3]])
        #expect(much.threads == [4, 2])
        let few = shares([(2, 2), (1, nil)], cores: 2)
        #expect(few.cores == [[0], [1], [0]])
        #expect(few.threads == [2, 2, 1])
    }

    @Test(arguments: 1...8, [nil, 1, 2, 5]) func coresOfSeveralModelsDoNotOverlap(cores: Int, threads: Int?) {
        let plan = shares([(1, threads), (2, nil), (1, 2)], cores: cores)
        #expect(plan.cores.count == 4)
        #expect(plan.cores.allSatisfy { !$0.isEmpty })
        if cores >= 4 { #expect(plan.cores.flatMap { $0 } == Array(0..<Int32(cores))) }
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
            [
                KeyValueWish(
                    engines: engines, requested: requested, sequenceBytes: MemoryPlan.product(perToken, 8192),
                    contextLength: 8192)
            ], availableBytes: available)[0]
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
        ) { try plan(nil, available: 10 * mebibyte) }
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

    /// 100 MiB of weights, two engines of 30 MiB beside them.
    private func plan(keyValues: UInt64, available: UInt64) -> MemoryPlan {
        MemoryPlan(
            models: [
                MemoryPlan.Model(
                    name: "m", engines: 2,
                    engine: MemoryPlan.Engine(
                        weights: 100 * mebibyte, workspaces: 25 * mebibyte, tables: 5 * mebibyte),
                    keyValueBytes: keyValues)
            ], availableBytes: available)
    }

    @Test func weightsCountOnceAndTheRestForEachEngine() {
        let plan = plan(keyValues: 200 * mebibyte, available: 2048 * mebibyte)
        let processes = 2 * MemoryPlan.engineProcessBytes + MemoryPlan.otherProcessBytes
        #expect(plan.fixedBytes == 160 * mebibyte + processes)
        #expect(plan.totalBytes == 560 * mebibyte + processes)
        #expect(plan.roomForKeyValues == (2048 - 128 - 160) * mebibyte - processes)
    }

    @Test func aPlanFitsUpToTheMarginAndNotBeyond() throws {
        var plan = plan(keyValues: 200 * mebibyte, available: 1 << 40)
        let total = plan.totalBytes
        plan.availableBytes = total + 64 * mebibyte
        try plan.check()
        plan.availableBytes -= 1
        let error = #expect(throws: SupervisionError.planDoesNotFit(plan)) { try plan.check() }
        let text = try #require(error).description
        for part in [
            "2 engines take 672 MiB", "weights 100 MiB", "KV caches 400 MiB", "735.9 MiB are available",
            "--kv-cache-memory", "--max-model-len", "--max-num-batched-tokens", "--engines", "--cpu-compute",
        ] { #expect(text.contains(part), "\(part) in \(text)") }
    }

    @Test func whatIsLeftForKeyValuesAlwaysFits() throws {
        for available in stride(from: UInt64(420), through: 4000, by: 97) {
            var plan = plan(keyValues: 0, available: available * mebibyte)
            plan.models[0].keyValueBytes = try self.plan(nil, available: plan.roomForKeyValues)
            try plan.check()
        }
    }

    @Test func hugePlansDoNotOverflow() {
        let plan = plan(keyValues: .max, available: .max)
        #expect(plan.totalBytes == .max)
        #expect(throws: SupervisionError.self) { try plan.check() }
    }

    @Test func theTableIsAligned() {
        let plan = plan(keyValues: 200 * mebibyte, available: 2048 * mebibyte)
        let text = plan.table(
            [MemoryPlan.Notes(mode: "int8", contextLength: 8192, blocks: 12800, blockTokens: 16, tokens: 204_800)])
        let expected = """
            Memory for 2 engines, sequences of up to 8192 tokens:

                          an engine   in sum
              weights       100 MiB  100 MiB  int8, one copy for all engines
              KV cache      200 MiB  400 MiB  12800 blocks of 16 tokens: 204800 tokens an engine
              workspaces     25 MiB   50 MiB  intermediate numbers of a step
              tables          5 MiB   10 MiB  KV blocks, rotary embedding
              processes      24 MiB  112 MiB  estimate, with the gateway
              total                  672 MiB  of 2 GiB available; 128 MiB are kept free


            """
        #expect(text == expected)
    }
}

@Suite struct MemoryPlanOfModelsTests {
    private let mebibyte: UInt64 = 1 << 20

    private func wish(_ engines: Int, _ requested: UInt64?, sequence: UInt64, length: Int = 8192) -> KeyValueWish {
        KeyValueWish(
            engines: engines, requested: requested.map { $0 * mebibyte }, sequenceBytes: sequence * mebibyte,
            contextLength: length)
    }

    private func shares(_ wishes: [KeyValueWish], available: UInt64) throws(SupervisionError) -> [UInt64] {
        try MemoryPlan.keyValueBytes(wishes, availableBytes: available * mebibyte).map { $0 / mebibyte }
    }

    @Test func enginesOfAllModelsShareAFifthEvenly() throws {
        #expect(try shares([wish(2, nil, sequence: 8), wish(1, nil, sequence: 4)], available: 3000) == [200, 200])
    }

    @Test func whatIsAskedForIsTakenFirst() throws {
        #expect(try shares([wish(2, 500, sequence: 8), wish(1, nil, sequence: 4)], available: 2000) == [500, 200])
        // More than there is: the plan as a whole refuses that.
        #expect(try shares([wish(1, 5000, sequence: 8)], available: 2000) == [5000])
        #expect(throws: SupervisionError.self) {
            try shares([wish(1, 5000, sequence: 8), wish(1, nil, sequence: 4)], available: 2000)
        }
    }

    @Test func aLongSequenceGetsRoomAndTheOthersWhatIsLeft() throws {
        #expect(try shares([wish(1, nil, sequence: 500), wish(1, nil, sequence: 4)], available: 1000) == [500, 100])
        // With a tenth for the second there would be too little for both.
        #expect(try shares([wish(1, nil, sequence: 950), wish(1, nil, sequence: 4)], available: 1000) == [950, 4])
        #expect(
            throws: SupervisionError.notEnoughMemory(
                neededBytes: 998 * mebibyte, availableBytes: 500 * mebibyte, contextLength: 7)
        ) { try shares([wish(1, nil, sequence: 4), wish(1, nil, sequence: 998, length: 7)], available: 1000) }
    }

    @Test func aRequestThatIsTooSmallIsRefused() {
        #expect(
            throws: SupervisionError.keyValueMemoryTooSmall(
                givenBytes: 3 * mebibyte, neededBytes: 4 * mebibyte, contextLength: 8192)
        ) { try shares([wish(1, nil, sequence: 4), wish(1, 3, sequence: 4)], available: 1000) }
    }

    private func plan(available: UInt64) -> MemoryPlan {
        func engine(_ weights: UInt64) -> MemoryPlan.Engine {
            MemoryPlan.Engine(weights: weights * mebibyte, workspaces: 25 * mebibyte, tables: 5 * mebibyte)
        }
        return MemoryPlan(
            models: [
                MemoryPlan.Model(
                    name: "small-model", engines: 2, engine: engine(100), keyValueBytes: 200 * mebibyte),
                MemoryPlan.Model(name: "coder", engines: 1, engine: engine(500), keyValueBytes: 300 * mebibyte),
            ], availableBytes: available)
    }

    @Test func allModelsCount() {
        let plan = plan(available: 2048 * mebibyte)
        let processes =
            3 * MemoryPlan.engineProcessBytes + MemoryPlan.otherProcessBytes + MemoryPlan.furtherModelBytes
        #expect(plan.fixedBytes == 690 * mebibyte + processes)
        #expect(plan.totalBytes == 1390 * mebibyte + processes)
    }

    @Test func aPlanThatDoesNotFitIsRefusedWithAllModels() throws {
        var plan = plan(available: 1 << 40)
        plan.availableBytes = plan.totalBytes + 128 * mebibyte
        try plan.check()
        plan.availableBytes = plan.totalBytes
        let error = #expect(throws: SupervisionError.planDoesNotFit(plan)) { try plan.check() }
        let text = try #require(error).description
        for part in ["3 engines of 2 models take 1.5 GiB", "weights 600 MiB", "KV caches 700 MiB"] {
            #expect(text.contains(part), "\(part) in \(text)")
        }
    }

    @Test func theTableShowsEveryModel() {
        let text = plan(available: 2048 * mebibyte).table([
            MemoryPlan.Notes(mode: "int8", contextLength: 8192, blocks: 12800, blockTokens: 16, tokens: 204_800),
            MemoryPlan.Notes(mode: "bf16", contextLength: 4096, blocks: 100, blockTokens: 16, tokens: 1600),
        ])
        let expected = """
            Memory for 3 engines of 2 models:

                            an engine   in sum
              small-model                       2 engines, sequences of up to 8192 tokens
                weights       100 MiB  100 MiB  int8, one copy for all engines
                KV cache      200 MiB  400 MiB  12800 blocks of 16 tokens: 204800 tokens an engine
                workspaces     25 MiB   50 MiB  intermediate numbers of a step
                tables          5 MiB   10 MiB  KV blocks, rotary embedding
              coder                             1 engine, sequences of up to 4096 tokens
                weights       500 MiB  500 MiB  bf16, one copy for all engines
                KV cache      300 MiB  300 MiB  100 blocks of 16 tokens: 1600 tokens an engine
                workspaces     25 MiB   25 MiB  intermediate numbers of a step
                tables          5 MiB    5 MiB  KV blocks, rotary embedding
              processes        24 MiB  160 MiB  estimate, with the gateway
              total                    1.5 GiB  of 2 GiB available; 128 MiB are kept free


            """
        #expect(text == expected)
    }
}

@Suite struct MemoryAvailableTests {
    private let mebibyte: UInt64 = 1 << 20
    private let meminfo = "MemTotal: 5 kB\nMemAvailable:    2097152 kB\n"

    private func bytes(_ files: [String: String]) -> UInt64 {
        MemoryAvailable.bytes { files[$0] }
    }

    @Test func theKernelsNumberHoldsWithoutALimit() {
        #expect(bytes(["/proc/meminfo": meminfo]) == 2048 * mebibyte)
        #expect(bytes(["/proc/meminfo": "MemTotal: 5 kB\n"]) == 0)
        #expect(bytes(["/proc/meminfo": meminfo, "/sys/fs/cgroup/memory.max": "max\n"]) == 2048 * mebibyte)
        #expect(MemoryAvailable.bytes() > 0)
    }

    @Test func theTightestGroupHolds() {
        let files = [
            "/proc/meminfo": meminfo, "/proc/self/cgroup": "0::/a/b\n",
            "/sys/fs/cgroup/a/b/memory.max": "max", "/sys/fs/cgroup/a/b/memory.current": "1048576",
            "/sys/fs/cgroup/a/memory.max": "\(300 * mebibyte)", "/sys/fs/cgroup/a/memory.current": "\(250 * mebibyte)",
            "/sys/fs/cgroup/a/memory.stat": "anon 5\ninactive_file \(20 * mebibyte)\n",
        ]
        #expect(bytes(files) == 70 * mebibyte)
    }

    @Test func groupsOfTheFirstVersionCountToo() {
        let files = [
            "/proc/meminfo": meminfo, "/proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n",
            "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "\(100 * mebibyte)",
            "/sys/fs/cgroup/memory/x/memory.usage_in_bytes": "\(130 * mebibyte)",
        ]
        #expect(bytes(files) == 0)
    }
}

@Suite struct AnnouncementTests {
    private func announcement(host: String = "127.0.0.1", model: String = "m-1", key: Bool = false) -> Announcement {
        Announcement(
            models: [Announcement.Model(name: model, engines: 2, device: "cpu")], host: host, port: 8000,
            requiresKey: key,
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

    @Test func withTLSTheHintTrustsTheCertificate() {
        var announcement = announcement()
        announcement.isSecure = true
        announcement.certificate = "/etc/tandem/server.pem"
        #expect(announcement.url == "https://127.0.0.1:8000")
        #expect(
            announcement.text.contains(
                "curl -N --cacert /etc/tandem/server.pem https://127.0.0.1:8000/v1/chat/completions "))
        // A name that a shell would take apart is left out.
        announcement.certificate = "/a b;c"
        #expect(announcement.text.contains("curl -N https://127.0.0.1:8000/"))
    }

    @Test func severalModelsAreListed() {
        let announcement = Announcement(
            models: [
                Announcement.Model(name: "small", engines: 2, device: "cpu x"),
                Announcement.Model(name: "a-coder", engines: 1, device: "cpu y"),
            ], host: "127.0.0.1", port: 8000, requiresKey: false, timeToReady: .seconds(2))
        let text = announcement.text
        #expect(
            text.hasPrefix(
                """
                2 models are served; ready in 2.00 s.

                  small    2 engines, each cpu x
                  a-coder  1 engine, each cpu y

                  endpoint  http://127.0.0.1:8000/v1  (OpenAI-compatible)
                  try it    curl -N http://127.0.0.1:8000/v1/chat/completions
                """))
        #expect(text.contains(#"'{"model": "small", "messages""#))
    }

    @Test func aModelThatDoesNotStartIsNamed() {
        let text = Announcement(
            models: [
                Announcement.Model(name: "broken", engines: 2, device: nil),
                Announcement.Model(name: "b", engines: 1, device: "cpu"),
            ], host: "h", port: 1, requiresKey: false, timeToReady: .seconds(2)
        ).text
        #expect(text.hasPrefix("1 of 2 models are served; ready"))
        #expect(text.contains("\n  broken  no engine of 2 serves, see above; they are tried again\n"))
        #expect(text.contains(#"'{"model": "b", "messages""#))
    }
}
