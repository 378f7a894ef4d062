// Tandem — Apache-2.0

import Foundation
import JSON
import NIOCore
import NIOEmbedded
import Testing

@testable import Gateway

private final class FakeViewer: ViewerHub.Viewer {
    let loop: NIOAsyncTestingEventLoop
    let writable = Guarded(true)
    let received = Guarded([String]())
    let isFinished = Guarded(false)

    init(_ loop: NIOAsyncTestingEventLoop) { self.loop = loop }

    var eventLoop: any EventLoop { loop }
    var isWritable: Bool { writable.withLock { $0 } }
    func write(_ bytes: ByteBuffer) { received.withLock { $0.append(String(buffer: bytes)) } }
    func finish() { isFinished.withLock { $0 = true } }
    var pictures: [String] { received.withLock { $0 } }
}

@Suite struct ViewerHubTests {
    private let loop = NIOAsyncTestingEventLoop()
    private let made = Guarded(0)

    private func hub() -> ViewerHub {
        ViewerHub(eventLoop: loop, interval: .milliseconds(500)) { [made] eventLoop in
            let number = made.withLock { count in
                count += 1
                return count
            }
            return eventLoop.makeSucceededFuture(ByteBuffer(string: "\(number)"))
        }
    }

    @Test func allViewersShareOnePictureATick() async throws {
        let hub = hub()
        let viewers = [FakeViewer(loop), FakeViewer(loop)]
        // On the loop, so that its first picture comes after both.
        let ids = try await loop.executeInContext { viewers.map { hub.add($0) } }
        #expect(ids.allSatisfy { $0 != nil })
        await loop.run()
        await loop.advanceTime(by: .milliseconds(1100))
        #expect(viewers.map(\.pictures) == [["1", "2", "3"], ["1", "2", "3"]])
        #expect(hub.pictures == 3 && made.withLock { $0 } == 3)
    }

    @Test func nothingIsDoneWhenNobodyWatches() async {
        let hub = hub()
        await loop.advanceTime(by: .seconds(10))
        #expect(hub.pictures == 0)
        let viewer = FakeViewer(loop)
        let id = hub.add(viewer)
        await loop.run()
        #expect(hub.pictures == 1)
        if let id { hub.remove(id) }
        await loop.advanceTime(by: .seconds(10))
        #expect(hub.pictures == 1 && hub.count == 0)
        // And it begins again.
        _ = hub.add(viewer)
        await loop.run()
        #expect(viewer.pictures == ["1", "2"])
    }

    @Test func aSlowViewerMissesPicturesAndOthersDoNot() async throws {
        let hub = hub()
        let (slow, quick) = (FakeViewer(loop), FakeViewer(loop))
        _ = try await loop.executeInContext { [slow, quick].map { hub.add($0) } }
        await loop.run()
        slow.writable.withLock { $0 = false }
        await loop.advanceTime(by: .seconds(2))
        #expect(slow.pictures == ["1"] && quick.pictures == ["1", "2", "3", "4", "5"])
        #expect(hub.missed == 4)
        slow.writable.withLock { $0 = true }
        await loop.advanceTime(by: .milliseconds(500))
        // Only the newest: nothing was kept.
        #expect(slow.pictures == ["1", "6"])
    }

    @Test func thereIsALimit() {
        let hub = hub()
        for _ in 0..<ViewerHub.limit { #expect(hub.add(FakeViewer(loop)) != nil) }
        #expect(!hub.hasRoom && hub.add(FakeViewer(loop)) == nil)
    }

    @Test func theEndEndsAllStreams() async {
        let hub = hub()
        let viewer = FakeViewer(loop)
        _ = hub.add(viewer)
        await loop.run()
        hub.close()
        await loop.run()
        #expect(viewer.isFinished.withLock { $0 } && hub.add(viewer) == nil)
        await loop.advanceTime(by: .seconds(5))
        #expect(hub.pictures == 1)
    }
}

@Suite struct DashboardTests {
    @Test func thePageAsksForNothingElse() async throws {
        try await Bench.run([FakeEngine(text: "x")]) { bench in
            let answer = try await bench.get("/ui")
            #expect(answer.headers.contains("text/html; charset=utf-8"))
            #expect(answer.body.utf8.count < 60_000)
            let policy = try #require(
                answer.headers.split(separator: "\r\n").first { $0.hasPrefix("Content-Security-Policy: ") })
            #expect(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"))
            #expect(!policy.contains("unsafe"))
            // Each answer has a nonce of its own, on both the script and the style.
            let nonce = try #require(
                policy.split(separator: "'nonce-").dropFirst().first?.split(separator: "'").first)
            #expect(answer.body.contains("<script nonce=\"\(nonce)\">"))
            #expect(answer.body.contains("<style nonce=\"\(nonce)\">"))
            let other = try await bench.get("/ui").body
            #expect(!other.contains(String(nonce)))
            // Addresses in it are names of XML, not of what is loaded.
            let addresses = answer.body.split(separator: "http").dropFirst().map { $0.prefix(20) }
            #expect(addresses.allSatisfy { $0.hasPrefix("://www.w3.org/2000/s") }, "\(addresses)")
            for word in ["onclick=", "onload=", "<link rel=\"stylesheet", " src=", "eval(", "innerHTML"] {
                #expect(!answer.body.contains(word), "\(word)")
            }
        }
    }

    @Test func eventsShowEnginesAndRequests() async throws {
        try await Bench.run(
            [FakeEngine(text: "hello", limit: 2)], configure: { $0.viewInterval = .milliseconds(1) }
        ) { bench in
            let done = Done()
            async let request: Void = bench.client.leave(
                "/v1/completions", #"{"prompt":"ab"}"#, headers: "X-Request-Id: ui-1\r\n"
            ) { done.value }
            let text = try await bench.client.watch("/ui/events") {
                $0.text.components(separatedBy: "\"ui-1\"").dropFirst().first?.contains("\n\n") ?? false
            }
            done.set()
            try await request
            #expect(text.contains("text/event-stream"))
            let event = try #require(
                text.components(separatedBy: "data: ").first { $0.contains("\"ui-1\"") }?
                    .components(separatedBy: "\n\n").first)
            let json = try TestModel.json(event)
            #expect(json["engines"].array?.count == 1)
            #expect(json["requests"][0]["id"] == .string("ui-1"))
            #expect(json["requests"][0]["engine"] == .integer(0))
        }
    }

    /// One who watches does not keep the server from ending: the bench drains it.
    @Test func streamsEndWithTheServer() async throws {
        let watching = Guarded<Task<String, any Error>?>(nil)
        try await Bench.run([FakeEngine(text: "x")], configure: { $0.viewInterval = .milliseconds(1) }) { bench in
            let client = bench.client
            watching.withLock { $0 = Task { try await client.watch("/ui/events") { _ in false } } }
            while bench.server.viewers.pictures < 2 { await Task.yield() }
        }
        let watched = try await watching.withLock { $0 }?.value
        #expect(watched?.contains("data: ") == true)
    }

    /// What waits for a viewer who reads nothing is bounded, and others get theirs.
    @Test func whoDoesNotReadMissesPictures() async throws {
        try await Bench.run([FakeEngine(text: "x")], configure: { $0.viewInterval = .microseconds(100) }) { bench in
            let done = Done()
            async let idle: Void = bench.client.leave("/ui/events", method: "GET") { done.value }
            var missed = 0 as UInt64
            for _ in 0..<20_000 where missed == 0 {
                _ = try await bench.client.watch("/ui/events") { $0.count > 1 << 20 }
                missed = bench.server.viewers.missed
            }
            #expect(missed > 0)
            done.set()
            try await idle
        }
    }
}

extension [UInt8] {
    var text: String { String(decoding: self, as: UTF8.self) }
}
