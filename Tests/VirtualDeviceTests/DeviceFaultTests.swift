// Tandem — Apache-2.0

import Testing

@testable import VirtualDevice

@Suite struct DeviceFaultTests {
    @Test func underMPSAFatalFaultIsEverybodysUntilAllAreGone() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        try fixture.connect(2)
        fixture.submit(1, from: 1)
        #expect(try fixture.control("fault fatal 2") == #"{"ok":true}"#)
        #expect(fixture.failures.map(\.connection) == [1, 2])
        #expect(fixture.failures.allSatisfy { $0.failure.code == 700 && $0.failure.concernsAll })
        fixture.run(seconds: 0.1)
        #expect(fixture.done.isEmpty)
        // Nobody is let in while one of the old ones lives.
        try fixture.connect(3)
        #expect(fixture.failures.last?.failure.code == 807)
        fixture.disconnect(1)
        try fixture.connect(4)
        #expect(fixture.failures.last?.failure.code == 807)
        #expect(try fixture.control("status").contains(#""state":"fault""#))
        fixture.disconnect(2)
        try fixture.connect(5)
        #expect(fixture.welcomed == [1, 2, 5])
        fixture.submit(1, from: 5)
        fixture.run(seconds: 0.1)
        #expect(fixture.done.map(\.connection) == [5])
    }

    @Test func withoutMPSAFatalFaultIsItsEnginesOwn() throws {
        var fixture = try DeviceFixture(usesMPS: false)
        try fixture.connect(1)
        try fixture.connect(2)
        fixture.submit(1, from: 1)
        fixture.submit(1, from: 2)
        _ = try fixture.control("fault fatal 2")
        #expect(fixture.failures.map(\.connection) == [2])
        #expect(fixture.failures.first?.failure.concernsAll == false)
        fixture.run(seconds: 0.1)
        #expect(fixture.done.map(\.connection) == [1])
        try fixture.connect(3)
        #expect(fixture.welcomed == [1, 2, 3])
    }

    @Test func aHungClientGetsNothingUntilItIsCleared() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        try fixture.connect(2)
        fixture.submit(1, from: 1)
        fixture.submit(1, from: 2)
        _ = try fixture.control("fault hang 1")
        fixture.submit(2, from: 1)
        fixture.run(seconds: 10)
        #expect(fixture.done.map(\.connection) == [2])
        _ = try fixture.control("clear")
        fixture.run(seconds: 1)
        #expect(fixture.done.map(\.connection) == [2, 1, 1])
        #expect(fixture.done.map(\.step) == [1, 1, 2])
        #expect(!fixture.state.report(at: fixture.now).isLate)
    }

    @Test func aHungEngineIsDroppedAndAHungDeviceDropsNobody() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        _ = try fixture.control("fault hang 1")
        fixture.submit(1, from: 1)
        fixture.take(fixture.state.ordered(.drop(engine: 1), at: fixture.now))
        #expect(fixture.notices == [.dropped(engine: 1)])
        #expect(fixture.failures.first?.failure.code == 810)
        _ = try fixture.control("fault hang")
        fixture.take(fixture.state.ordered(.drop(engine: 1), at: fixture.now))
        #expect(fixture.notices == [.dropped(engine: 1)])
        // Newcomers are let in, and hang, too.
        try fixture.connect(2)
        fixture.submit(1, from: 2)
        fixture.run(seconds: 10)
        #expect(fixture.done.isEmpty)
        #expect(try fixture.control("status").contains(#""state":"hangs""#))
    }

    @Test func outOfMemoryEndsTheNextStep() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        try fixture.connect(2)
        _ = try fixture.control("fault oom 1")
        fixture.submit(1, from: 1)
        fixture.submit(1, from: 2)
        fixture.run(seconds: 0.1)
        #expect(fixture.done.map(\.connection) == [2])
        #expect(fixture.failures.map(\.connection) == [1])
        #expect(fixture.failures.first?.failure.code == 2)
        #expect(fixture.failures.first?.failure.concernsAll == false)
    }

    @Test func slowStepsTakeSoManyTimesAsLong() throws {
        func time(_ lines: [String]) throws -> Double {
            var fixture = try DeviceFixture()
            try fixture.connect(1)
            for line in lines { _ = try fixture.control(line) }
            let start = fixture.now
            fixture.submit(1, from: 1)
            fixture.run(seconds: 1)
            return Double(try #require(fixture.done.first).due - start)
        }
        let usual = try time([])
        #expect(abs(try time(["fault slow 3"]) / usual - 3) < 0.001)
        #expect(abs(try time(["fault slow 3 1", "clear"]) / usual - 1) < 0.001)
        #expect(try time(["share 1 25"]) > 1.2 * usual)
    }

    @Test func commandsAreReadStrictly() throws {
        let good: [(String, ControlCommand)] = [
            ("status", .status), ("  clients\r", .clients), ("clear", .clear),
            ("fault fatal", .inject(.fatal, engine: nil)), ("fault\thang 3", .inject(.hang, engine: 3)),
            ("fault oom 0", .inject(.outOfMemory, engine: 0)), ("fault slow 2.5 1", .inject(.slow(2.5), engine: 1)),
            ("share 1 50", .share(engine: 1, percent: 50)),
        ]
        for (line, command) in good { #expect(try ControlCommand(line.utf8) == command) }
        let bad = [
            "", " ", "STATUS", "status now", "fault", "fault burn", "fault slow", "fault slow nan", "fault slow 1e9",
            "fault slow -1", "fault fatal x", "fault fatal 1 2", "share 1", "share 1 0", "share 1 101", "share -1 5",
            "share 1 50 3", "\u{0}", "fault hang 99999999999",
        ]
        for line in bad { #expect(throws: DeviceProtocolError.self) { try ControlCommand(line.utf8) } }
        #expect(throws: DeviceProtocolError.self) { try ControlCommand([0xFF, 0xFE, 0x20, 0x80]) }
        var fixture = try DeviceFixture()
        #expect(try fixture.control("fault hang 9") == #"{"error":"there is no client of engine 9"}"#)
    }

    /// Whatever is thrown at it, the device keeps its books.
    @Test(arguments: 0..<30)
    func randomWalks(seed: UInt64) throws {
        var random = Walk(state: seed &* 977 + 5)
        var fixture = try DeviceFixture(usesMPS: seed % 2 == 0)
        var open: [Int: UInt64] = [:]
        var next = 1
        let lines = [
            "status", "clients", "fault hang 1", "fault fatal", "fault oom 2", "clear", "fault slow 2", "share 0 30",
            "fault hang", "fault fatal 1",
        ]
        for _ in 0..<200 {
            switch random.next(7) {
            case 0 where open.count < 6:
                try fixture.connect(next, engine: UInt32(next % 4), keyValueBytes: 1 << 28)
                open[next] = 0
                next += 1
            case 1, 2, 3:
                let place = random.next(max(1, open.count))
                guard let connection = open.keys.sorted().dropFirst(place).first else { break }
                guard !fixture.closed.contains(connection) else { break }
                open[connection, default: 0] += 1
                fixture.submit(
                    open[connection] ?? 0, StepWork(decoding: Double(random.next(300)), context: 200),
                    from: connection)
            case 4:
                if let connection = open.keys.sorted().first, random.next(3) == 0 {
                    fixture.disconnect(connection)
                    open[connection] = nil
                }
            case 5: _ = try fixture.control(lines[random.next(lines.count)])
            default: fixture.run(seconds: Double(random.next(20)) / 1000)
            }
            for closed in fixture.closed { open[closed] = nil }
            let report = fixture.state.report(at: fixture.now)
            #expect(report.usedBytes <= report.memoryBytes)
            #expect(Int(report.clients) <= open.count)
        }
        for connection in open.keys { fixture.disconnect(connection) }
        _ = try fixture.control("clear")
        let report = fixture.state.report(at: fixture.now)
        #expect(report.clients == 0)
        #expect(report.usedBytes == 0)
        #expect(!report.isFaulted)
        // And it serves again.
        let before = fixture.done.count
        try fixture.connect(next)
        fixture.submit(1, from: next)
        fixture.run(seconds: 1)
        #expect(fixture.done.count == before + 1)
        // Steps of a client are done in order, none twice.
        for connection in Set(fixture.done.map(\.connection)) {
            let steps = fixture.done.filter { $0.connection == connection }.map(\.step)
            #expect(steps == steps.sorted() && Set(steps).count == steps.count)
        }
    }
}

/// Random numbers from a seed.
struct Walk {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func next(_ count: Int) -> Int { Int(next() % UInt64(count)) }
}
