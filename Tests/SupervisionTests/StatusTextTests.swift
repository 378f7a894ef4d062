// Tandem — Apache-2.0

import EngineLink
import Testing

@testable import Supervision

@Suite struct StatusTextTests {
    private static let mebibyte: UInt64 = 1 << 20

    private static func status() -> SupervisorStatus {
        SupervisorStatus(
            version: "0.1.0", pid: 4242, uptime: 7_805_000, host: "127.0.0.1", port: 8000,
            runDirectory: "/run/user/0/tandem-0-4242",
            gateway: ChildStatus(state: .ready, pid: 4243, uptime: 7_800_000),
            engines: [
                EngineStatus(
                    index: 0, model: "m", processIndex: 0,
                    process: ChildStatus(state: .ready, pid: 4244, uptime: 125_000),
                    cores: [0, 1],
                    device: "cpu (avx512, int8, 2 threads)",
                    memory: MemoryStatus(now: 310 * mebibyte, highWater: 312 * mebibyte, plan: 900 * mebibyte)),
                EngineStatus(
                    index: 1, model: "m", processIndex: 1,
                    process: ChildStatus(
                        state: .failed, restarts: 10, deathsInARow: 10, lastExit: "was killed by SIGSEGV",
                        nextAttempt: 29_500), cores: [2, 3, 5], memory: MemoryStatus(plan: 900 * mebibyte)),
            ])
    }

    @Test func theTableIsAligned() {
        let expected = """
            tandem 0.1.0, process 4242, up 2h10m: http://127.0.0.1:8000
            run directory /run/user/0/tandem-0-4242

                      STATE    PID     UP  RESTARTS   MEMORY     PEAK     PLAN
            gateway   ready   4243  2h10m         0
            engine 0  ready   4244  2m05s         0  310 MiB  312 MiB  900 MiB
            engine 1  failed     -      -        10        -        -  900 MiB

                      MODEL  CORES  DEVICE
            engine 0  m      0-1    cpu (avx512, int8, 2 threads)
            engine 1  m      2-3,5  -

            engine 1: died 10 times in a row, counts as failed; next attempt in 29s; last
              end: was killed by SIGSEGV

            """
        #expect(StatusText(Self.status()).text == expected)
    }

    @Test func enginesOfOneProcessAreSaidToBe() {
        var status = Self.status()
        let expected = """

                      MODEL  PROCESS  CORES  DEVICE
            engine 0  m      0        0-1    cpu (avx512, int8, 2 threads)
            engine 1  m      0        2-3,5  -

            """
        #expect(!StatusText(status).text.contains("PROCESS"))
        status.engines[1].processIndex = 0
        #expect(StatusText(status).text.contains(expected))
    }

    @Test func theAddressSaysWhetherTLSIsSpoken() {
        var status = Self.status()
        status.isSecure = true
        #expect(StatusText(status).text.hasPrefix("tandem 0.1.0, process 4242, up 2h10m: https://127.0.0.1:8000\n"))
    }

    @Test func linesFitIntoEightyColumns() {
        var status = Self.status()
        for index in status.engines.indices {
            status.engines[index].process = ChildStatus(
                state: .starting, pid: 4_194_303, uptime: 86_400_000 * 99, restarts: 1000,
                lastExit: String(repeating: "word ", count: 40))
            status.engines[index].memory = MemoryStatus(
                now: 1001 * Self.mebibyte / 10, highWater: 1001 * Self.mebibyte / 10, plan: 9999 * Self.mebibyte / 10,
                isAbovePlan: true)
        }
        status.rollingRestart = RollingRestartStatus(
            state: .stopped, restarted: [0], current: 1, pending: [], detail: String(repeating: "word ", count: 40))
        for line in StatusText(status).text.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
    }

    @Test func coloursChangeNothingElse() {
        let plain = StatusText(Self.status()).text
        var coloured = StatusText(Self.status(), isColoured: true).text
        #expect(coloured.contains("\u{1B}[32mready\u{1B}[0m"))
        for code in ["0", "32", "33", "1;31"] { coloured.replace("\u{1B}[\(code)m", with: "") }
        #expect(coloured == plain)
    }

    @Test func whatNeedsWordsGetsThem() {
        var status = Self.status()
        status.engines[0].process.state = .drained
        status.engines[1].process = ChildStatus(state: .ending, pid: 5, uptime: 1)
        status.engines[0].memory.isAbovePlan = true
        status.rollingRestart = RollingRestartStatus(
            state: .running, restarted: [0], current: 1, pending: [2], detail: "is starting")
        status.sharing = SharingStatus(
            phase: "serving", daemonPid: 77, serverPids: [78], clients: 2,
            rungs: [SharingStatus.Rung(name: "restart-server", count: 1), SharingStatus.Rung(name: "other", count: 0)])
        let text = StatusText(status, width: 200).text
        for line in [
            "engine 0: idles and gets no requests until tandem admin resume 0",
            "engine 0: holds more memory than planned; see docs/administration.md",
            "engine 1: finishes what it has, then is started again",
            "rolling restart: 1 of 3 engines restarted; engine 1 is starting",
            "mps: serving, daemon 77, server 78, 2 clients", "mps recovery: restart-server 1",
        ] { #expect(text.contains(line + "\n"), "\(line) in \(text)") }
        status.isStopping = true
        #expect(StatusText(status).text.contains("the server is stopping\n"))
        status.rollingRestart?.state = .stopped
        status.rollingRestart?.detail = "engine 1 did not come back"
        #expect(
            StatusText(status, width: 200).text.contains(
                "rolling restart: stopped, 1 of 3 engines restarted: engine 1 did not come back\n"))
    }

    @Test func aSimulatedDeviceSaysSoAndHowLateItIs() {
        var status = Self.status()
        status.simulatedDevice = SimulatedDeviceStatus(
            name: "h100", sharing: "MPS", phase: "active", pid: 12, clients: 2, memoryBytes: 80 << 30,
            usedBytes: 3 << 30, steps: 9, lagMillionths: 4321)
        let line =
            "simulated h100: active, engines share it by MPS, process 12, 2 clients, 3 GiB of 80 GiB taken, "
            + "lag 0.4 %\n"
        #expect(StatusText(status, width: 200).text.hasSuffix(line))
        status.simulatedDevice?.isLate = true
        #expect(StatusText(status, width: 200).text.contains("simulated h100: error: this machine does not keep up"))
    }

    @Test func foreignTextCommandsNoTerminal() {
        var status = Self.status()
        status.engines[0].device = "a\u{1B}[2Jb\n"
        status.engines[0].model = "other\u{7}"
        status.engines[1].process.lastExit = "x\u{1B}]0;title\u{7}"
        let text = StatusText(status).text
        #expect(!text.contains("\u{1B}") && !text.contains("\u{7}"))
        #expect(text.contains("a?[2Jb?\n"))
        #expect(text.contains("MODEL"))
    }

    @Test func spansAndRangesAreShort() {
        #expect(
            [0, 59_999, 60_000, 3_599_999, 3_600_000, 86_400_000, 97_200_000].map { StatusText.span($0) } == [
                "0s", "59s", "1m00s", "59m59s", "1h00m", "1d00h", "1d03h",
            ])
        #expect(StatusText.span(.max).hasSuffix("h"))
        #expect(StatusText.ranges([]) == "all")
        #expect(StatusText.ranges([5]) == "5")
        #expect(StatusText.ranges([3, 1, 2, 7, 8, .max]) == "1-3,7-8,2147483647")
    }
}
