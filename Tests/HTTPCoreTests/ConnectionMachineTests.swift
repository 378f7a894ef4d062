// Tandem — Apache-2.0

import NIOCore
import Testing

@testable import HTTPCore

/// Drives a machine with strings and a clock of its own.
private struct Driver {
    var machine: ConnectionMachine
    var now = NIODeadline.uptimeNanoseconds(1_000_000_000)

    init(_ limits: HTTPLimits = HTTPLimits()) {
        machine = ConnectionMachine(limits: limits, now: now)
    }

    /// Gives bytes and tells what comes of it.
    mutating func send(_ text: String) -> String {
        machine.receive(ByteBuffer(string: text), now: now)
        return next()
    }

    mutating func next() -> String {
        switch machine.next(now: now) {
        case .wait: "wait"
        case .sendContinue: "continue"
        case .request(let head, let body): "\(head.method.rawValue) \(head.path) \(String(buffer: body))"
        case .reject(let rejection, _): "\(rejection.status.code)"
        }
    }

    mutating func expire(after seconds: Int64) -> String {
        now = now + .seconds(seconds)
        switch machine.expire(now: now) {
        case .nothing: return "nothing"
        case .close: return "close"
        case .reject(let rejection, _): return "\(rejection.status.code)"
        case .stalled: return "stalled"
        }
    }
}

@Suite struct ConnectionMachineTests {
    private static let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    @Test func clientThatSendsNothingIsClosed() {
        var driver = Driver()
        #expect(driver.expire(after: 9) == "nothing")
        #expect(driver.expire(after: 1) == "close")
    }

    /// An answer that ended may still be on its way: a client that reads it slowly, or a loop with much to do.
    @Test func anAnswerIsSentWholeBeforeTheConnectionCountsAsIdle() {
        var driver = Driver()
        #expect(driver.send(Self.get) == "GET / ")
        driver.machine.outboundQueued(100, now: driver.now)
        let staysOpen = driver.machine.responseEnded(keepAlive: true, now: driver.now)
        #expect(staysOpen)
        #expect(driver.next() == "wait")
        // The time of a client that takes nothing is another one's affair.
        for _ in 0..<9 {
            #expect(driver.expire(after: 20) == "nothing")
            driver.machine.outboundWritten(10, now: driver.now)
        }
        #expect(driver.expire(after: 20) == "nothing")
        driver.machine.outboundWritten(10, now: driver.now)
        #expect(driver.expire(after: 74) == "nothing")
        #expect(driver.expire(after: 1) == "close")
    }

    @Test func slowHeadTimesOutThoughBytesArrive() {
        var driver = Driver()
        #expect(driver.send("G") == "wait")
        for byte in "ET / HTT" {
            #expect(driver.expire(after: 1) == "nothing")
            #expect(driver.send(String(byte)) == "wait")
        }
        #expect(driver.expire(after: 1) == "nothing")
        #expect(driver.expire(after: 1) == "408")
        // What follows is dropped until the connection is cut.
        #expect(driver.send(Self.get) == "wait")
        #expect(driver.expire(after: 1) == "nothing")
        #expect(driver.expire(after: 1) == "close")
    }

    @Test func bodyTimesOutBySilence() {
        var driver = Driver()
        #expect(driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n") == "wait")
        for _ in 0..<9 {
            #expect(driver.expire(after: 29) == "nothing")
            #expect(driver.send(String(repeating: "a", count: 30 * 500)) == "wait")
        }
        #expect(driver.expire(after: 29) == "nothing")
        #expect(driver.expire(after: 1) == "408")
    }

    @Test func bodyThatTricklesTimesOut() {
        var driver = Driver()
        #expect(driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n") == "wait")
        // 1400 bytes in 28 s are less than 500 a second, but not yet too late.
        for _ in 0..<28 {
            #expect(driver.expire(after: 1) == "nothing")
            #expect(driver.send(String(repeating: "a", count: 50)) == "wait")
        }
        // 30 s, and 2 s for what has come.
        #expect(driver.expire(after: 3) == "nothing")
        #expect(driver.send("a") == "wait")
        #expect(driver.expire(after: 1) == "408")
    }

    @Test func chunkedBodyTimesOutBySilence() {
        var driver = Driver()
        let chunk = "3A98\r\n" + String(repeating: "a", count: 15_000) + "\r\n"
        #expect(driver.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk) == "wait")
        #expect(driver.expire(after: 29) == "nothing")
        #expect(driver.send("5\r\nhello\r\n") == "wait")
        #expect(driver.expire(after: 29) == "nothing")
        #expect(driver.expire(after: 1) == "408")
    }

    @Test func requestInHandHasNoTimeoutAndIdleConnectionHas() {
        var driver = Driver()
        #expect(driver.send(Self.get) == "GET / ")
        #expect(driver.machine.deadline == nil)
        #expect(driver.expire(after: 100_000) == "nothing")
        let staysOpen = driver.machine.responseEnded(keepAlive: true, now: driver.now)
        #expect(staysOpen)
        #expect(driver.expire(after: 74) == "nothing")
        #expect(driver.send(Self.get) == "GET / ")
        _ = driver.machine.responseEnded(keepAlive: true, now: driver.now)
        #expect(driver.expire(after: 75) == "close")
    }

    @Test func clientThatTakesNothingStalls() {
        var driver = Driver()
        _ = driver.send(Self.get)
        driver.machine.outboundQueued(100, now: driver.now)
        #expect(driver.expire(after: 59) == "nothing")
        driver.machine.outboundWritten(50, now: driver.now)
        #expect(driver.expire(after: 59) == "nothing")
        driver.machine.outboundWritten(50, now: driver.now)
        #expect(driver.expire(after: 1000) == "nothing")
        driver.machine.outboundQueued(100, now: driver.now)
        #expect(driver.expire(after: 59) == "nothing")
        driver.machine.outboundQueued(100, now: driver.now)
        #expect(driver.expire(after: 1) == "stalled")
    }

    @Test func lingeringBeginsWhenTheAnswerIsTaken() {
        var driver = Driver()
        #expect(driver.send("bad\r\n\r\n") == "400")
        driver.machine.outboundQueued(10, now: driver.now)
        #expect(driver.expire(after: 59) == "nothing")
        #expect(driver.expire(after: 1) == "stalled")
        driver.machine.outboundWritten(10, now: driver.now)
        #expect(driver.expire(after: 0) == "close")
    }

    @Test func requestsInEveryFragmentationAreTheSame() {
        let text =
            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "2;x=y\r\nhe\r\n03\r\nllo\r\n0\r\nTrailer: t\r\n\r\n"
            + "\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /c HTTP/1.1\r\nhost:x\r\n\r\n"
        for size in 1...text.utf8.count {
            var driver = Driver()
            var seen: [String] = []
            var rest = text[...]
            while !rest.isEmpty {
                var step = driver.send(String(rest.prefix(size)))
                rest = rest.dropFirst(size)
                while step != "wait" {
                    seen.append(step)
                    _ = driver.machine.responseEnded(keepAlive: true, now: driver.now)
                    step = driver.next()
                }
            }
            #expect(seen == ["POST /a hello", "POST /b abc", "GET /c "], "pieces of \(size)")
        }
    }

    @Test func bodyTooLargeIsRefusedBeforeItIsRead() {
        var limits = HTTPLimits()
        limits.maximumBodyBytes = 10
        var driver = Driver(limits)
        #expect(
            driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n") == "413")
        driver = Driver(limits)
        #expect(
            driver.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789") == "POST / 0123456789")
        driver = Driver(limits)
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        #expect(driver.send(head + "6\r\n012345\r\n4\r\n6789\r\n") == "wait")
        #expect(driver.send("1\r\n") == "413")
        driver = Driver(limits)
        #expect(driver.send(head + "B\r\n") == "413")
    }

    @Test func expectationIsMetOnlyBeforeTheBody() {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
        var driver = Driver()
        #expect(driver.send(head) == "continue")
        #expect(driver.next() == "wait")
        #expect(driver.send("ok") == "POST / ok")
        driver = Driver()
        #expect(driver.send(head + "o") == "wait")
    }

    @Test func headLimitsHold() {
        var limits = HTTPLimits()
        limits.maximumHeadBytes = 200
        limits.maximumTargetBytes = 20
        limits.maximumHeaderFields = 3
        func status(_ text: String) -> String {
            var driver = Driver(limits)
            return driver.send(text)
        }
        #expect(status("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nC: d\r\n\r\n") == "GET / ")
        #expect(status("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nC: d\r\nE: f\r\n\r\n") == "431")
        #expect(status("GET /\(String(repeating: "a", count: 20)) HTTP/1.1\r\nHost: x\r\n\r\n") == "414")
        // Not even complete.
        #expect(status("GET / HTTP/1.1\r\nHost: x\r\nA: \(String(repeating: "a", count: 200))") == "431")
    }

    @Test func readingPausesBehindARequestInHand() {
        var driver = Driver()
        _ = driver.send(Self.get)
        #expect(driver.machine.wantsRead)
        _ = driver.send(String(repeating: "a", count: ConnectionMachine.maximumPipelinedBytes))
        #expect(!driver.machine.wantsRead)
    }

    @Test func nextRequestWaitsUntilAnswersAreTaken() {
        var driver = Driver()
        _ = driver.send(Self.get + Self.get)
        driver.machine.outboundQueued(HTTPLimits().outboundHighWater, now: driver.now)
        _ = driver.machine.responseEnded(keepAlive: true, now: driver.now)
        #expect(driver.next() == "wait")
        #expect(!driver.machine.wantsRead)
        driver.machine.outboundWritten(1, now: driver.now)
        #expect(driver.next() == "GET / ")
    }

    @Test func drainClosesIdleConnectionsAndLetsRequestsFinish() {
        var driver = Driver()
        var closesAtOnce = driver.machine.drain(now: driver.now)
        #expect(closesAtOnce)
        driver = Driver()
        _ = driver.send(Self.get + Self.get)
        closesAtOnce = driver.machine.drain(now: driver.now)
        #expect(!closesAtOnce)
        let staysOpen = driver.machine.responseEnded(keepAlive: true, now: driver.now)
        #expect(!staysOpen && driver.machine.isLingering)
        #expect(driver.next() == "wait")
        driver = Driver()
        _ = driver.send("GET / HT")
        closesAtOnce = driver.machine.drain(now: driver.now)
        #expect(!closesAtOnce)
    }
}
