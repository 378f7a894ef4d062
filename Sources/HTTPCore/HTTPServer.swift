// Tandem — Apache-2.0

import Glibc
public import NIOCore
import NIOPosix
import Synchronization

/// What a server accepts connections from.
public enum HTTPListener: Sendable {
    /// A TCP socket that listens already, for instance inherited. The server closes it.
    case fileDescriptor(Int32)
    /// A numeric address or host name; port 0 lets the system choose, see ``HTTPServer/port``.
    case address(host: String, port: Int)
}

/// Why a server could not start.
public struct HTTPServerError: Error, CustomStringConvertible {
    /// What it should listen on.
    public let listener: String
    /// What the system said.
    public let reason: String

    public init(listener: String, reason: String) {
        self.listener = listener
        self.reason = reason
    }

    public var description: String {
        "cannot accept HTTP connections on \(listener): \(reason); check that the address is local, the port free and "
            + "the socket a listening one"
    }
}

/// An HTTP/1.1 server on NIO event loops.
///
/// Connections are spread over all loops of its group; a request is handled on its connection's loop. See
/// ``HTTPRequestHandler``.
public final class HTTPServer: Sendable {
    /// What the server is bound to.
    public let localAddress: SocketAddress?
    private let listeningChannel: any Channel
    private let connections: ConnectionRegistry
    private let group: any EventLoopGroup

    /// The TCP port the server is bound to.
    public var port: Int? { localAddress?.port }

    /// The number of open connections.
    public var connectionCount: Int { connections.count }

    private init(
        listeningChannel: any Channel,
        connections: ConnectionRegistry,
        group: any EventLoopGroup
    ) {
        self.listeningChannel = listeningChannel
        self.connections = connections
        self.group = group
        localAddress = listeningChannel.localAddress
    }

    /// Starts to accept connections.
    ///
    /// - Parameter group: threads of NIO; one of its loops accepts, all of them serve.
    public static func start(
        group: any EventLoopGroup,
        listening listener: HTTPListener,
        configuration: HTTPServerConfiguration = HTTPServerConfiguration(),
        handler: some HTTPRequestHandler
    ) async throws(HTTPServerError) -> HTTPServer {
        let connections = ConnectionRegistry(
            limit: configuration.limits.maximumConnections, allClosed: group.any().makePromise(of: Void.self))
        let context = ConnectionContext(configuration: configuration, handler: handler, connections: connections)
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: configuration.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    // Without it a process that has no descriptors left tries again and again.
                    try channel.pipeline.syncOperations.addHandler(AcceptBackoffHandler())
                    try channel.pipeline.syncOperations.addHandler(AcceptFailures(configuration.incidentLog))
                }
            }
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.maxMessagesPerRead, value: 4)
            .childChannelOption(.recvAllocator, value: ReceiveSize())
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    limitUnsent(of: channel)
                    try configuration.tls?.secure(channel, observer: configuration.handshakeObserver)
                    try channel.pipeline.syncOperations.addHandler(ConnectionHandler(context: context))
                }
            }
        do {
            let channel =
                switch listener {
                case .fileDescriptor(let descriptor):
                    try await inherit(descriptor, with: bootstrap, backlog: configuration.backlog)
                case .address(let host, let port):
                    try await bootstrap.bind(host: host, port: port).get()
                }
            return HTTPServer(listeningChannel: channel, connections: connections, group: group)
        } catch {
            connections.seal()
            let name =
                switch listener {
                case .fileDescriptor(let descriptor): "file descriptor \(descriptor)"
                case .address(let host, let port): "\(host):\(port)"
                }
            throw HTTPServerError(listener: name, reason: "\(error)")
        }
    }

    /// Bytes that the kernel holds of an answer beside those that are on their way.
    private static let maximumUnsentBytes = 64 * 1024

    /// Keeps the kernel from taking megabytes for a client that does not read, so that it is seen early that it does not.
    /// A kernel that lacks the option holds what it likes.
    private static func limitUnsent(of channel: any Channel) {
        // TCP_NOTSENT_LOWAT, see tcp(7).
        let option = ChannelOptions.Types.SocketOption(level: .tcp, name: NIOBSDSocket.Option(rawValue: 25))
        try? channel.syncOptions?.setOption(option, value: maximumUnsentBytes)
    }

    /// Accepts from a socket that somebody else made.
    private static func inherit(
        _ descriptor: Int32, with bootstrap: ServerBootstrap, backlog: Int32
    ) async throws -> any Channel {
        // NIO stops the process over a descriptor that is none, and would bind a socket that is not bound.
        var isListening: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &size) == 0 else {
            throw IOError(errnoCode: errno, reason: "getsockopt")
        }
        guard isListening != 0 else { throw IOError(errnoCode: EINVAL, reason: "the socket does not listen") }
        let channel = try await bootstrap.withBoundSocket(descriptor).get()
        // NIO listens again with its own default, which would shorten the queue for everyone who shares the socket.
        listen(descriptor, backlog)
        return channel
    }

    /// Stops to accept, closes idle connections, lets requests in hand finish (their answers say `Connection: close`),
    /// and returns when the last connection is closed.
    public func drain() async {
        await stopAccepting()
        for channel in connections.seal() {
            channel.triggerUserOutboundEvent(ConnectionEvent.drain, promise: nil)
        }
        await allClosed()
    }

    /// Stops to accept, cuts all connections and returns when the last one is closed. May follow ``drain()``, whose call
    /// then returns, too.
    public func close() async {
        await stopAccepting()
        for channel in connections.seal() { channel.close(promise: nil) }
        await allClosed()
    }

    private func stopAccepting() async {
        listeningChannel.close(promise: nil)
        // The future fails only if its loop is gone, and then nothing accepts either.
        try? await listeningChannel.closeFuture.get()
    }

    private func allClosed() async {
        // Never failed; see ConnectionRegistry.
        try? await connections.allClosed.futureResult.get()
    }
}

/// What the server tells a connection through its pipeline.
enum ConnectionEvent: Sendable {
    case drain
    /// Of connections with TLS: to be closed so that the client sees that something is missing.
    case cut
}

/// What all connections of a server share.
struct ConnectionContext: Sendable {
    let configuration: HTTPServerConfiguration
    let handler: any HTTPRequestHandler
    let connections: ConnectionRegistry
    let clock = DateHeaderClock()
    let flushQueues = FlushQueues()
    let unfinishedBodies = UnfinishedBodies()

    init(configuration: HTTPServerConfiguration, handler: any HTTPRequestHandler, connections: ConnectionRegistry) {
        self.configuration = configuration
        self.handler = handler
        self.connections = connections
    }
}

/// Bytes of the bodies that have not arrived whole, of all connections of a server.
final class UnfinishedBodies: Sendable {
    private let bytes = Atomic<Int>(0)

    /// Enters a connection's share.
    ///
    /// - Returns: the sum.
    func enter(_ value: Int, before: Int) -> Int {
        bytes.add(value - before, ordering: .relaxed).newValue
    }
}

/// The open connections of a server.
final class ConnectionRegistry: Sendable {
    private struct State {
        var channels: [ObjectIdentifier: any Channel] = [:]
        var isSealed = false
        var isAllClosed = false
    }

    enum Admission {
        case admitted
        case tooMany
        case draining
    }

    /// Succeeds when the registry is sealed and empty.
    let allClosed: EventLoopPromise<Void>
    private let limit: Int
    private let state = Mutex(State())

    init(limit: Int, allClosed: EventLoopPromise<Void>) {
        self.limit = limit
        self.allClosed = allClosed
    }

    deinit {
        // A server that nobody closed went down with its event loops.
        if !state.withLock({ $0.isAllClosed }) { allClosed.succeed(()) }
    }

    var count: Int { state.withLock { $0.channels.count } }

    func add(_ channel: any Channel) -> Admission {
        state.withLock { state in
            if state.isSealed { return .draining }
            if state.channels.count >= limit { return .tooMany }
            state.channels[ObjectIdentifier(channel)] = channel
            return .admitted
        }
    }

    func remove(_ channel: any Channel) {
        let isLast = state.withLock { state in
            state.channels[ObjectIdentifier(channel)] = nil
            return Self.becameEmpty(&state)
        }
        if isLast { allClosed.succeed(()) }
    }

    /// Admits no more connections.
    ///
    /// - Returns: those that are open.
    @discardableResult
    func seal() -> [any Channel] {
        let (channels, isLast) = state.withLock { state in
            state.isSealed = true
            return (Array(state.channels.values), Self.becameEmpty(&state))
        }
        if isLast { allClosed.succeed(()) }
        return channels
    }

    private static func becameEmpty(_ state: inout State) -> Bool {
        guard state.isSealed, state.channels.isEmpty, !state.isAllClosed else { return false }
        state.isAllClosed = true
        return true
    }
}
