// Tandem — Apache-2.0

import NIOCore
import NIOPosix
import Synchronization

@testable import HTTPCore

/// A handler made of a closure.
struct ClosureHandler: HTTPRequestHandler {
    let body: @Sendable (HTTPRequest, HTTPResponder) -> Void
    private let takesBodies: Bool

    init(body: @escaping @Sendable (HTTPRequest, HTTPResponder) -> Void) {
        self.init(body: body, takesBodies: true)
    }

    private init(body: @escaping @Sendable (HTTPRequest, HTTPResponder) -> Void, takesBodies: Bool) {
        self.body = body
        self.takesBodies = takesBodies
    }

    var wantingNoBody: ClosureHandler { ClosureHandler(body: body, takesBodies: false) }

    func wantsBody(_ head: HTTPRequest) -> Bool { takesBodies }

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        body(request, responder)
    }
}

/// Keeps what the hooks of a server were told.
final class Hooks: Sendable {
    private let state = Mutex<(entries: [AccessLogEntry], incidents: [HTTPIncident])>(([], []))
    private let observedWrites = Atomic<Int>(0)

    /// Times of writes that were reported.
    var writes: Int { observedWrites.load(ordering: .relaxed) }

    var entries: [AccessLogEntry] { state.withLock { $0.entries } }
    var incidents: [HTTPIncident] { state.withLock { $0.incidents } }

    func install(in configuration: inout HTTPServerConfiguration) {
        configuration.accessLog = { entry in self.state.withLock { $0.entries.append(entry) } }
        configuration.writeObserver = { time in
            if time >= .zero { self.observedWrites.add(1, ordering: .relaxed) }
        }
        configuration.incidentLog = { incident in self.state.withLock { $0.incidents.append(incident) } }
    }
}

/// An event that a test waits for.
final class Signal: Sendable {
    private let promise: EventLoopPromise<Void>
    private let count = Atomic<Int>(0)

    init() {
        promise = TestServer.clientGroup.any().makePromise(of: Void.self)
    }

    deinit {
        // A promise must not be left open, and some tests want it never fired.
        if firings == 0 { promise.succeed(()) }
    }

    func fire() {
        if count.add(1, ordering: .relaxed).newValue == 1 { promise.succeed(()) }
    }

    var firings: Int { count.load(ordering: .relaxed) }

    func wait() async throws {
        let timeout = TestServer.clientGroup.any().scheduleTask(in: .minutes(10)) {
            self.promise.fail(RawClient.TimedOut(received: "no signal"))
        }
        try await promise.futureResult.get()
        timeout.cancel()
    }
}

enum TestServer {
    /// Threads that all tests share, and never shut down.
    static let serverGroup = MultiThreadedEventLoopGroup(numberOfThreads: 2)
    static let clientGroup = MultiThreadedEventLoopGroup(numberOfThreads: 1)

    /// Limits for tests of anything but time: other tests may keep this one's client waiting for a long while.
    static let patient = {
        var limits = HTTPLimits()
        limits.headerTimeout = .minutes(10)
        limits.bodySilenceTimeout = .minutes(10)
        limits.keepAliveTimeout = .minutes(10)
        limits.responseStallTimeout = .minutes(10)
        limits.lingerTimeout = .minutes(10)
        return limits
    }()

    /// Runs a test against a server on a free loopback port and closes the server afterwards.
    static func run(
        limits: HTTPLimits = patient,
        hooks: Hooks = Hooks(),
        handler: ClosureHandler = ClosureHandler(body: echo),
        _ test: (HTTPServer) async throws -> Void
    ) async throws {
        var configuration = HTTPServerConfiguration()
        configuration.limits = limits
        hooks.install(in: &configuration)
        let server = try await HTTPServer.start(
            group: serverGroup, listening: .address(host: "127.0.0.1", port: 0), configuration: configuration,
            handler: handler)
        do {
            try await test(server)
        } catch {
            await server.close()
            throw error
        }
        await server.close()
    }

    /// Answers with what was asked.
    @Sendable static func echo(_ request: HTTPRequest, _ responder: HTTPResponder) {
        var body = ByteBuffer(string: "\(request.method.rawValue) \(request.path) \(request.query ?? "-") ")
        body.writeImmutableBuffer(request.body)
        responder.respond(status: .ok, headers: ["Content-Type": "text/plain"], body: body)
    }
}

extension HTTPServer {
    /// Sends one request on a connection of its own and returns all that comes back until the server closes.
    func exchange(_ request: String) async throws -> String {
        let client = try await RawClient.connect(to: port)
        try await client.send(request)
        return try await client.receiveUntilClose()
    }
}
