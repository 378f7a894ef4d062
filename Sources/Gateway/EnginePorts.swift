// Tandem — Apache-2.0

import HTTPCore
import NIOCore

/// Ports that reach one engine each, for balancers that choose engines themselves.
public enum EnginePorts: Sendable {
    /// Engine i has port `first` + i; an engine that comes later gets its port when it comes.
    case from(host: String, first: Int)
    /// Sockets that listen already, one an engine, in the order of their indices.
    case descriptors([Int32])

    /// `nil` if there can be none.
    func listener(of engine: Int) -> HTTPListener? {
        switch self {
        case .from(let host, let first):
            first + engine <= Int(UInt16.max) ? .address(host: host, port: first + engine) : nil
        case .descriptors(let descriptors):
            descriptors.indices.contains(engine) ? .fileDescriptor(descriptors[engine]) : nil
        }
    }
}

/// The servers behind ``EnginePorts``.
actor EnginePortServers {
    private let ports: EnginePorts
    private let start: @Sendable (HTTPListener, Int) async throws -> HTTPServer
    private var servers: [HTTPServer] = []
    private var wanted = 0
    private var isOpening = false
    private var isEnding = false

    /// - Parameter start: starts the server of one engine.
    init(_ ports: EnginePorts, start: @escaping @Sendable (HTTPListener, Int) async throws -> HTTPServer) {
        self.ports = ports
        self.start = start
    }

    /// Opens the ports of the first engines that are not open. They stay open when there are fewer engines again.
    ///
    /// - Throws: what `start` does; it may be tried again.
    func open(_ count: Int) async throws {
        wanted = max(wanted, count)
        guard !isOpening else { return }
        isOpening = true
        defer { isOpening = false }
        while servers.count < wanted, !isEnding {
            let engine = servers.count
            do {
                guard let listener = ports.listener(of: engine) else {
                    throw HTTPServerError(listener: "the port of engine \(engine)", reason: "there is no such port")
                }
                let server = try await start(listener, engine)
                // It may have come too late.
                if isEnding { await server.close() } else { servers.append(server) }
            } catch {
                wanted = servers.count
                throw error
            }
        }
    }

    /// As ``HTTPServer/drain()``.
    func drain() async {
        isEnding = true
        await withTaskGroup(of: Void.self) { group in
            for server in servers { group.addTask { await server.drain() } }
        }
    }

    /// As ``HTTPServer/close()``.
    func close() async {
        isEnding = true
        for server in servers { await server.close() }
    }
}

/// Hands what comes by an engine's port to the event loop's front.
final class EnginePortHandler: HTTPRequestHandler {
    private let engine: Int
    private let shards: ShardTable

    init(engine: Int, shards: ShardTable) {
        self.engine = engine
        self.shards = shards
    }

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        shards.handle(request, responder, engine: engine)
    }

    func wantsBody(_ head: HTTPRequest) -> Bool { shards.wantsBody(head) }
}
