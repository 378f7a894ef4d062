// Tandem — Apache-2.0

import EngineLink
import HTTPCore
import NIOCore
import NIOEmbedded
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import Gateway

@Suite struct UpstreamAddressTests {
    @Test(arguments: [
        ("http://a:1", "http://a:1", false), ("http://a:1/v1/", "http://a:1", false),
        ("http://[::1]:2/p/v1", "http://[::1]:2/p", false), ("link+tcp:a:7", "link+tcp:a:7", true),
        ("link+unix:/s", "link+unix:/s", true), ("dns+http://a:1/v1", "dns+http://a:1", false),
        ("dns+link+tcp:a:7", "dns+link+tcp:a:7", true),
    ])
    func kinds(_ text: String, _ description: String, _ isEngine: Bool) throws {
        let address = try UpstreamAddress(text)
        #expect("\(address)" == description && address.isEngine == isEngine)
        #expect(try UpstreamAddress(description) == address)
    }

    @Test(arguments: ["", "a:1", "https://", "http://", "http://a:0", "dns+link+unix:/s", "dns+", "link+tcp:a"])
    func whatIsNone(_ text: String) {
        #expect(throws: UpstreamAddressError.self) { try UpstreamAddress(text) }
    }

    @Test func serversWithTLS() throws {
        guard TLSSupport.isBuilt else {
            for text in ["https://a", "dns+https://a"] {
                let error = #expect(throws: UpstreamAddressError.self) { try UpstreamAddress(text) }
                #expect(error?.reason.contains("--traits TLS") == true)
            }
            return
        }
        #expect(try UpstreamAddress("https://a:1/v1").isSecure && !UpstreamAddress("http://a:1").isSecure)
        #expect("\(try UpstreamAddress("dns+https://a/p"))" == "dns+https://a:443/p")
    }

    @Test func whatANameHasSpeaksAsTheNameDoes() {
        let name = UpstreamName(host: "a", port: 1, kind: .server(prefix: "", isSecure: true))
        let endpoint = HTTPEndpoint(host: "10.0.0.1", port: 1, name: "a", isSecure: true)
        #expect(UpstreamAddress.name(name).isSecure && name.upstream(at: "10.0.0.1") == .server(endpoint))
    }

    @Test func aNameKeepsItsHostField() throws {
        guard case .name(let name) = try UpstreamAddress("dns+http://models.local:80/p"),
            case .server(let endpoint) = name.upstream(at: "::1")
        else {
            Issue.record("no name")
            return
        }
        #expect("\(endpoint)" == "http://[::1]:80/p" && endpoint.hostField == "models.local:80")
    }
}

@Suite struct RosterFileTests {
    private func parse(_ text: String, takesEngines: Bool = true) throws(RosterError) -> [String] {
        try RosterFile.parse(text, source: "r", takesEngines: takesEngines).map { "\($0)" }
    }

    @Test func oneAddressALine() throws {
        #expect(
            try parse("# all\n\nhttp://a:1 # first\r\n  http://b:2/x#y\n".replacing("#y", with: "\t#y"))
                == ["http://a:1", "http://b:2/x"])
        #expect(
            try parse("---\nendpoints:\n  - \"http://a:1\"\n  - 'link+tcp:b:2'\n-\n") == ["http://a:1", "link+tcp:b:2"])
        #expect(try parse("http://a:1\nhttp://a:1/\nhttp://a:1/v1\n") == ["http://a:1"])
    }

    @Test(arguments: [
        ("http://a:1\n\nftp://b\n", 3, "https://"), ("http://a:1\r\nnonsense", 2, "http://"),
        ("- [http://a:1]", 1, "http://"), ("http://a:1, http://b:1", 1, "nothing else"),
    ])
    func whatIsWrongIsNamed(_ text: String, _ line: Int, _ reason: String) {
        let error = #expect(throws: RosterError.self) { try parse(text) }
        #expect(error?.line == line && error?.reason.contains(reason) == true)
        #expect(error?.description.hasPrefix("r:\(line): ") == true)
    }

    @Test func emptyIsWrong() {
        #expect(throws: RosterError(source: "r", line: nil, reason: "it names no endpoint")) { try parse("# none\n") }
    }

    @Test func enginesNeedAModel() {
        let error = #expect(throws: RosterError.self) {
            try parse("http://a:1\ndns+link+tcp:b:2", takesEngines: false)
        }
        #expect(error?.line == 2 && error?.reason.contains("without its model") == true)
    }

    @Test func tooMany() {
        let lines = (0...RosterFile.maximumAddresses).map { "http://a\($0)\n" }.joined()
        #expect(throws: RosterError.self) { try parse(lines) }
    }
}

@Suite struct UpstreamTableTests {
    private func addresses(_ texts: String...) throws -> [UpstreamAddress] { try texts.map { try UpstreamAddress($0) } }

    @Test func indicesStayAndAreFilledFromBelow() throws {
        var table = UpstreamTable(
            given: try addresses("http://a"), listed: try addresses("http://b", "link+tcp:c:1", "http://a"))
        #expect(table.servers.map(\.index) == [0, 1] && table.roster.engines.map(\.index) == [2] && table.count == 3)
        let change = table.list(try addresses("http://d", "link+tcp:c:1", "http://e"))
        #expect(change.removed == (try addresses("http://b")))
        #expect(change.added == (try addresses("http://d", "http://e")))
        #expect(
            table.servers.map { "\($0.index) \($0.endpoint)" } == [
                "0 http://a:80", "1 http://d:80", "3 http://e:80",
            ])
        #expect(table.roster.generation == 2 && table.count == 4)
        #expect(table.list(try addresses("http://e", "http://d", "link+tcp:c:1")).isEmpty)
        #expect(table.generation == 2)
    }

    @Test func namesStandForTheirAddresses() throws {
        var table = UpstreamTable(given: try addresses("dns+http://n:1", "http://10.0.0.9:1", "dns+http://n:1"))
        #expect(table.names.count == 1 && table.servers.count == 1)
        let name = try #require(table.names.first)
        #expect(table.answer(["10.0.0.1", "::1"], for: name).added.count == 2)
        #expect(table.servers.map { "\($0.endpoint)" } == ["http://10.0.0.9:1", "http://10.0.0.1:1", "http://[::1]:1"])
        #expect(table.answer([], for: name).isEmpty)
        let change = table.answer(["10.0.0.2", "::1"], for: name)
        #expect(change.added.map { "\($0)" } == ["http://10.0.0.2:1"])
        #expect(change.removed.map { "\($0)" } == ["http://10.0.0.1:1"])
        #expect(table.servers.map(\.index) == [0, 1, 2])
    }

    @Test func aNameThatLeavesTakesItsAddressesAlong() throws {
        var table = UpstreamTable(given: [], listed: try addresses("dns+link+tcp:n:1", "http://a:1"))
        let name = try #require(table.names.first)
        _ = table.answer(["10.0.0.1"], for: name)
        #expect(table.roster.engines.map(\.address) == ["link+tcp:10.0.0.1:1"])
        #expect(table.list(try addresses("http://a:1")).removed.count == 1)
        // A late answer is nobody's.
        #expect(table.answer(["10.0.0.2"], for: name).isEmpty)
    }
}

@Suite(.timeLimit(.minutes(1))) struct UpstreamWatchTests {
    /// A name's answers, one after the other; the last one stays.
    private final class Answers: Sendable {
        private let left: Mutex<[Result<[String], HostError>]>

        init(_ answers: [Result<[String], HostError>]) { left = Mutex(answers) }

        func next() throws(HostError) -> [String] {
            try left.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }.get()
        }
    }

    private final class Count: Sendable {
        let count = Atomic(0)
    }

    @Test func namesAreAskedForAgain() async throws {
        let failure = HostError(host: "n", reason: "no")
        let answers = Answers([
            .success(["10.0.0.1"]), .failure(failure), .failure(failure), .success(["10.0.0.1", "10.0.0.2"]),
            .failure(failure), .success(["10.0.0.2"]),
        ])
        var sources = UpstreamSources(addresses: [try UpstreamAddress("dns+http://n:1")], takesEngines: false)
        sources.resolveInterval = .milliseconds(1)
        sources.resolve = { (_) throws(HostError) in try answers.next() }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let workers = NIOThreadPool(numberOfThreads: 1)
        workers.start()
        let tables = Inbox<UpstreamTable>()
        let lines = Inbox<String>()
        let eventLoop = group.next()
        let watch = NIOLoopBoundBox.makeBoxSendingValue(
            UpstreamWatch(
                eventLoop: eventLoop, sources: sources, table: UpstreamTable(sources), workers: workers,
                log: { lines.put($0) }, changed: { tables.put($0) }), eventLoop: eventLoop)
        eventLoop.execute { watch.value.start() }
        for expected in [[], ["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.2"]] {
            #expect(await tables.next()?.servers.map(\.endpoint.host) == expected)
        }
        // A failure is said once, however often it comes, and again when it comes anew.
        var said: [String] = []
        for _ in 0..<5 { if let line = await lines.next() { said.append(line) } }
        #expect(said.count { $0.contains("cannot be found: no; the endpoints stay") } == 2)
        try await eventLoop.submit { watch.value.shutdown() }.get()
        try await workers.shutdownGracefully()
        try await group.shutdownGracefully()
    }

    /// A name server may answer when the gateway has ended: then there is no event loop to take the answer to.
    @Test func anAnswerAfterTheEndGoesNowhere() throws {
        let loop = EmbeddedEventLoop()
        let address = UpstreamWatch.ReturnAddress(loop)
        let answers = Count()
        address.execute { answers.count.add(1, ordering: .relaxed) }
        loop.run()
        #expect(answers.count.load(ordering: .relaxed) == 1)
        address.remove()
        address.execute { answers.count.add(1, ordering: .relaxed) }
        loop.run()
        #expect(answers.count.load(ordering: .relaxed) == 1)
        try loop.syncShutdownGracefully()
        address.execute { answers.count.add(1, ordering: .relaxed) }
        #expect(answers.count.load(ordering: .relaxed) == 1)
    }

    @Test func aNumberIsItsOwnAddress() throws {
        #expect(try HostResolver.addresses(of: "127.0.0.1") == ["127.0.0.1"])
        #expect(throws: HostError.self) { try HostResolver.addresses(of: "no such name") }
    }
}
