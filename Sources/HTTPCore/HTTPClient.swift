// Tandem — Apache-2.0

public import NIOCore
import NIOPosix

/// A client of one server on one event loop, with the connections that it keeps there. Everything is to be used on the
/// event loop.
public final class HTTPClient {
    public let endpoint: HTTPEndpoint
    private let host: String
    private let eventLoop: any EventLoop
    private let limits: HTTPClientLimits
    private let tls: ClientTLS?
    /// The one used last is taken first, so that those that are not needed grow old.
    private var free: [ClientConnection] = []
    private var connections: [ObjectIdentifier: ClientConnection] = [:]
    private var isShutDown = false

    /// - Parameter tls: whom to trust; has no meaning for endpoints without TLS, and those with it need it.
    public init(
        endpoint: HTTPEndpoint, eventLoop: any EventLoop, limits: HTTPClientLimits = HTTPClientLimits(),
        tls: ClientTLS? = nil
    ) {
        self.endpoint = endpoint
        self.tls = tls
        host = endpoint.hostField
        self.eventLoop = eventLoop
        self.limits = limits
    }

    /// Connections that are open.
    public var openConnections: Int { connections.count }

    /// Sends a request; `receiver` hears of the response, and is held until then.
    @discardableResult
    public func send(_ request: HTTPClientRequest, to receiver: any HTTPResponseReceiver) -> HTTPClientExchange {
        let exchange = HTTPClientExchange(request: request, receiver: receiver)
        start(exchange)
        return exchange
    }

    /// Cuts all connections; nobody hears of it.
    public func shutdown() {
        isShutDown = true
        free.removeAll()
        for connection in connections.values {
            connection.exchange?.cancel()
            connection.cut()
        }
    }

    private func start(_ exchange: HTTPClientExchange) {
        while let connection = free.popLast() {
            guard connection.isFree else { continue }
            run(exchange, on: connection)
            return
        }
        connect(for: exchange)
    }

    private func run(_ exchange: HTTPClientExchange, on connection: ClientConnection) {
        exchange.connection = connection
        connection.send(exchange, to: endpoint, host: host)
    }

    /// Sends a request on a connection of its own.
    func connect(for exchange: HTTPClientExchange) {
        let (limits, endpoint, tls) = (limits, endpoint, tls)
        guard !endpoint.isSecure || tls != nil else {
            // Not within the call that sends the request.
            eventLoop.assumeIsolated().execute { self.failed(TLSError(reason: "TLS is not set up"), exchange) }
            return
        }
        let deadline = eventLoop.now + limits.connectTimeout
        let bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(limits.connectTimeout)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.recvAllocator, value: ReceiveSize())
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if endpoint.isSecure { try tls?.secure(channel, to: endpoint) }
                    try channel.pipeline.syncOperations.addHandler(
                        ClientConnection(limits: limits, isSecure: endpoint.isSecure))
                }
            }
        // An address needs no resolver, which takes a thread.
        let connected: EventLoopFuture<any Channel> =
            if let address = try? SocketAddress(ipAddress: endpoint.host, port: endpoint.port) {
                bootstrap.connect(to: address)
            } else {
                bootstrap.connect(host: endpoint.host, port: endpoint.port)
            }
        connected.assumeIsolated().whenComplete { result in
            guard endpoint.isSecure, case .success(let channel) = result else {
                return self.connected(result, for: exchange)
            }
            ClientTLS.agree(on: channel, until: deadline) { error in
                let failure = error.map { TLSError(reason: ClientTLS.text(of: $0)) }
                self.connected(failure.map(Result.failure) ?? result, for: exchange)
            }
        }
    }

    private func connected(_ result: Result<any Channel, any Error>, for exchange: HTTPClientExchange) {
        do {
            let channel = try result.get()
            let connection = try channel.pipeline.syncOperations.handler(type: ClientConnection.self)
            guard !isShutDown, channel.isActive else {
                channel.close(promise: nil)
                throw HTTPClientError.cut("the connection was closed at once")
            }
            connection.client = self
            connections[ObjectIdentifier(connection)] = connection
            if exchange.isOver { isFree(connection) } else { run(exchange, on: connection) }
        } catch {
            failed(error, exchange)
        }
    }

    private func failed(_ error: any Error, _ exchange: HTTPClientExchange) {
        exchange.fail(
            HTTPClientError(kind: .unreachable, message: "cannot connect to \(endpoint): \(ConnectFailure.text(error))")
        )
    }

    /// A connection has nothing to do.
    func isFree(_ connection: ClientConnection) {
        guard connection.isFree else { return }
        guard free.count < limits.maximumIdleConnections, !isShutDown else { return connection.cut() }
        free.append(connection)
    }

    func isGone(_ connection: ClientConnection) {
        connections[ObjectIdentifier(connection)] = nil
        free.removeAll { $0 === connection }
    }
}

/// A request on its way, and its response.
public final class HTTPClientExchange {
    private(set) var receiver: (any HTTPResponseReceiver)?
    /// Until the exchange is over, which parts them again.
    fileprivate var connection: ClientConnection?
    private(set) var isPaused = false
    let request: HTTPClientRequest

    init(request: HTTPClientRequest, receiver: any HTTPResponseReceiver) {
        self.request = request
        self.receiver = receiver
    }

    /// Whether nobody waits for anything any more.
    var isOver: Bool { receiver == nil }

    /// Closes the connection at once, so that the server notices; the receiver hears nothing more.
    public func cancel() {
        receiver = nil
        connection?.cut()
        connection = nil
    }

    /// All that matters of the response has come: the receiver hears nothing more, and the connection is kept if the
    /// rest comes soon.
    public func release() {
        guard receiver != nil else { return }
        receiver = nil
        connection?.release()
        connection = nil
    }

    /// The receiver hears no more of the response until ``resume()``.
    public func pause() {
        isPaused = true
        connection?.pause()
    }

    public func resume() {
        isPaused = false
        connection?.resume()
    }

    func end() {
        let told = receiver
        receiver = nil
        connection = nil
        told?.ended()
    }

    func fail(_ error: HTTPClientError) {
        connection = nil
        let told = receiver
        receiver = nil
        told?.failed(error)
    }
}
