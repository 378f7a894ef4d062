// Tandem — Apache-2.0

import Glibc
public import NIOCore
import NIOPosix
import Synchronization

/// Names one connection of an ``EngineLinkServer``; never used again after it closed.
public struct LinkConnectionID: Hashable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }
}

/// What an ``EngineLinkServer`` tells its host; every call is on the server's event loop.
public protocol EngineLinkServerDelegate: AnyObject, Sendable {
    /// A gateway said a proper hello; it has been answered.
    func linkOpened(_ connection: LinkConnectionID, hello: ClientHello)
    /// A message after the hello: one that a gateway may send (submit, cancel, pause, resume).
    func linkReceived(_ message: LinkMessage, from connection: LinkConnectionID)
    /// An open connection is gone, and with it whatever it asked for. `reason` is `nil` if the gateway closed it.
    func linkClosed(_ connection: LinkConnectionID, reason: LinkError?)
}

/// The engine's end of the link: accepts gateways, checks their hello, hands their messages to a delegate.
///
/// All of its state lives on one event loop; every method may be called from any thread.
public final class EngineLinkServer: Sendable {
    /// What a connection may hold and how long it may take to say hello.
    public struct Limits: Sendable {
        /// Longest frame a gateway may send, in bytes.
        public var frameBytes = LinkCodec.defaultMaximumFrameBytes
        /// A gateway that leaves more than this unread for ``stallTime`` is disconnected, in bytes; eight times as much at
        /// once.
        public var backlogBytes = 32 << 20
        /// How long a gateway may take nothing of that.
        public var stallTime: TimeAmount = .seconds(2)
        /// A connection without a hello is closed after this time.
        public var handshakeTimeout: TimeAmount = .seconds(10)

        public init() {}
    }

    private let eventLoop: any EventLoop
    private let core: NIOLoopBound<ServerCore>
    private let channel: any Channel
    private let socketPath: String?

    /// Where the server listens; the port is the real one if 0 was asked for.
    public let address: LinkAddress

    private init(
        eventLoop: any EventLoop,
        core: NIOLoopBound<ServerCore>,
        channel: any Channel,
        address: LinkAddress,
        socketPath: String?
    ) {
        self.eventLoop = eventLoop
        self.core = core
        self.channel = channel
        self.address = address
        self.socketPath = socketPath
    }

    /// Starts to listen. A socket that a dead engine left at a Unix path is replaced; the new one is for its user only.
    ///
    /// - Parameters:
    ///   - hello: what gateways are told; its version and tokenizer fingerprint are what theirs must equal.
    ///   - eventLoop: where all connections live.
    ///   - delegate: kept until the server and its connections are closed.
    /// - Returns: the listening server, or a failure of type ``LinkError``.
    public static func start(
        at address: LinkAddress,
        hello: EngineHello,
        limits: Limits = Limits(),
        on eventLoop: any EventLoop,
        delegate: any EngineLinkServerDelegate
    ) -> EventLoopFuture<EngineLinkServer> {
        eventLoop.flatSubmit {
            let core = NIOLoopBound(
                ServerCore(hello: hello, limits: limits, delegate: delegate),
                eventLoop: eventLoop
            )
            let bootstrap = ServerBootstrap(group: eventLoop)
                .serverChannelOption(.backlog, value: 64)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(core.value.accept(channel))
                    }
                }
            let bound: EventLoopFuture<any Channel>
            switch address {
            case .unix(let path):
                bound = bootstrap.bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true)
                    .flatMapThrowing { channel in
                        guard chmod(path, 0o600) == 0 else {
                            let code = errno
                            channel.close(promise: nil)
                            throw LinkError(code: .connection, message: "engine link: chmod \(path): errno \(code)")
                        }
                        return channel
                    }
            case .tcp(let host, let port):
                bound =
                    bootstrap
                    .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                    .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                    .childChannelOption(.socketOption(.so_keepalive), value: 1)
                    .bind(host: host, port: port)
            }
            return bound.map { channel in
                switch address {
                case .unix(let path):
                    return EngineLinkServer(
                        eventLoop: eventLoop,
                        core: core,
                        channel: channel,
                        address: address,
                        socketPath: path
                    )
                case .tcp(let host, let port):
                    let bound = LinkAddress.tcp(host: host, port: channel.localAddress?.port ?? port)
                    return EngineLinkServer(
                        eventLoop: eventLoop,
                        core: core,
                        channel: channel,
                        address: bound,
                        socketPath: nil
                    )
                }
            }.flatMapErrorThrowing { error in
                throw (error as? LinkError)
                    ?? LinkError(code: .connection, message: "engine link: cannot listen at \(address): \(error)")
            }
        }
    }

    /// Sends one message to one connection; nothing happens if it is gone.
    public func send(_ message: LinkMessage, to connection: LinkConnectionID) {
        onEventLoop { $0.send(message, to: connection) }
    }

    /// Sends what one step produced for several connections with one hop to the event loop; each connection's messages
    /// leave in one write.
    public func send(_ batch: [(connection: LinkConnectionID, message: LinkMessage)]) {
        guard !batch.isEmpty else { return }
        onEventLoop { core in
            for entry in batch { core.send(entry.message, to: entry.connection) }
            for entry in batch { core.flush(entry.connection) }
        }
    }

    /// Sends a message to all connections that said hello.
    public func broadcast(_ message: LinkMessage) {
        onEventLoop { $0.broadcast(message) }
    }

    /// Tells one gateway why, then closes its connection.
    public func disconnect(_ connection: LinkConnectionID, _ error: LinkError) {
        onEventLoop { $0.disconnect(connection, error) }
    }

    /// Stops to listen and closes all connections after what was sent before; the delegate hears of each.
    public func close() -> EventLoopFuture<Void> {
        eventLoop.flatSubmit { [channel, core, socketPath, eventLoop] in
            let path = socketPath
            return channel.close().flatMapError { _ in eventLoop.makeSucceededVoidFuture() }
                .flatMap { core.value.closeAll(on: eventLoop) }
                .map { if let path { unlink(path) } }
        }
    }

    private func onEventLoop(_ body: @escaping @Sendable (ServerCore) -> Void) {
        if eventLoop.inEventLoop {
            body(core.value)
        } else {
            eventLoop.execute { [core] in body(core.value) }
        }
    }
}

/// The connections of a server; lives on its event loop.
private final class ServerCore: LinkChannelOwner {
    private struct Connection {
        let handler: LinkChannelHandler
        let channel: any Channel
        var saidHello = false
        var handshakeTimer: Scheduled<Void>
    }

    /// A client's hello is far shorter; what is longer before it is no gateway.
    private static let handshakeFrameBytes = 4096

    private let hello: EngineHello
    private let limits: EngineLinkServer.Limits
    private let delegate: any EngineLinkServerDelegate
    private var connections: [LinkConnectionID: Connection] = [:]
    private var nextID: UInt64 = 1

    init(hello: EngineHello, limits: EngineLinkServer.Limits, delegate: any EngineLinkServerDelegate) {
        self.hello = hello
        self.limits = limits
        self.delegate = delegate
    }

    func accept(_ channel: any Channel) -> LinkChannelHandler {
        let identifier = LinkConnectionID(rawValue: nextID)
        nextID += 1
        let handler = LinkChannelHandler(
            identifier: identifier,
            owner: self,
            limits: .init(
                frameBytes: limits.frameBytes, backlogBytes: limits.backlogBytes, stallTime: limits.stallTime),
            handshakeFrameBytes: Self.handshakeFrameBytes
        )
        let bound = NIOLoopBound(handler, eventLoop: channel.eventLoop)
        let timeout = limits.handshakeTimeout
        let timer = channel.eventLoop.scheduleTask(in: timeout) {
            bound.value.refuse(
                LinkError(code: .connection, message: "engine link: no hello within \(timeout)")
            )
        }
        connections[identifier] = Connection(handler: handler, channel: channel, handshakeTimer: timer)
        return handler
    }

    func send(_ message: LinkMessage, to identifier: LinkConnectionID) {
        guard let connection = connections[identifier], connection.saidHello else { return }
        connection.handler.send(message)
    }

    func flush(_ identifier: LinkConnectionID) {
        connections[identifier]?.handler.flush()
    }

    func disconnect(_ identifier: LinkConnectionID, _ error: LinkError) {
        connections[identifier]?.handler.refuse(error)
    }

    func broadcast(_ message: LinkMessage) {
        for connection in connections.values where connection.saidHello { connection.handler.send(message) }
    }

    func closeAll(on eventLoop: any EventLoop) -> EventLoopFuture<Void> {
        let closed = connections.values.map { $0.channel.closeFuture }
        for connection in connections.values {
            connection.handler.closeAfterFlush(nil)
        }
        return EventLoopFuture.andAllComplete(closed, on: eventLoop)
    }

    // MARK: LinkChannelOwner

    func channelReceived(_ message: LinkMessage, from handler: LinkChannelHandler) {
        guard let connection = connections[handler.identifier] else { return }
        if connection.saidHello {
            switch message {
            case .submit, .cancel, .pause, .resume:
                delegate.linkReceived(message, from: handler.identifier)
            default:
                handler.refuse(
                    LinkError(
                        code: .malformed,
                        message: "engine link: a gateway may not send a frame \(FrameType(message)) here"
                    )
                )
            }
        } else {
            shakeHands(message, handler)
        }
    }

    private func shakeHands(_ message: LinkMessage, _ handler: LinkChannelHandler) {
        guard case .clientHello(let client) = message else {
            handler.refuse(
                LinkError(
                    code: .malformed,
                    message: "engine link: the first frame must be a hello, not \(FrameType(message))"
                )
            )
            return
        }
        guard client.tokenizerFingerprint == hello.tokenizerFingerprint else {
            handler.refuse(
                LinkError(
                    code: .fingerprint,
                    message: "engine link: engine \(hello.engineIndex) has the tokenizer "
                        + "\(hello.tokenizerFingerprint) of model \(hello.modelName), the gateway "
                        + "\(client.tokenizerFingerprint); start both with the same model"
                )
            )
            return
        }
        connections[handler.identifier]?.saidHello = true
        connections[handler.identifier]?.handshakeTimer.cancel()
        handler.acceptLongFrames()
        handler.send(.engineHello(hello))
        delegate.linkOpened(handler.identifier, hello: client)
    }

    func channelClosed(_ handler: LinkChannelHandler, error: LinkError?) {
        guard let connection = connections.removeValue(forKey: handler.identifier) else { return }
        connection.handshakeTimer.cancel()
        if connection.saidHello { delegate.linkClosed(handler.identifier, reason: error) }
    }
}
