// Tandem — Apache-2.0

import Glibc
public import NIOCore
import NIOPosix

/// The gateway's end of one link to one engine.
///
/// It connects once and reports every event on its event loop; it does not connect again by itself, see
/// ``ReconnectBackoff``. All of its state lives on the event loop; `send` and `close` may be called from any thread.
public final class EngineLinkClient: Sendable {
    /// What happens on a link, in this order: at most one `opened`, any number of messages, exactly one `closed`.
    public enum Event: Sendable, Equatable {
        /// The engine accepted the link; from now on messages may be sent.
        case opened(EngineHello)
        /// Step outputs, statistics and heartbeats.
        case message(LinkMessage)
        /// The link could not be made, was refused, broke or was closed; the last event.
        case closed(LinkError)
    }

    /// What a link may hold.
    public struct Limits: Sendable {
        /// Longest frame an engine may send, in bytes.
        public var frameBytes = LinkCodec.defaultMaximumFrameBytes
        /// An engine that takes nothing for two seconds while more than this waits is disconnected, in bytes; eight times
        /// as much at once.
        public var backlogBytes = 64 << 20

        public init() {}
    }

    /// The engine this link is for.
    public let address: LinkAddress
    private let eventLoop: any EventLoop
    private let core: NIOLoopBoundBox<ClientCore?>

    private init(address: LinkAddress, eventLoop: any EventLoop) {
        self.address = address
        self.eventLoop = eventLoop
        core = .makeEmptyBox(valueType: ClientCore.self, eventLoop: eventLoop)
    }

    /// Starts to connect and to shake hands; may be called from any thread.
    ///
    /// - Parameters:
    ///   - hello: what the engine is told; it refuses another version or tokenizer.
    ///   - timeout: for connecting and the handshake together.
    ///   - eventLoop: where the link lives and `onEvent` is called.
    ///   - onEvent: hears every event, never within this call; released after ``Event/closed(_:)``.
    public static func connect(
        to address: LinkAddress,
        hello: ClientHello,
        timeout: TimeAmount = .seconds(5),
        limits: Limits = Limits(),
        on eventLoop: any EventLoop,
        onEvent: @escaping @Sendable (Event) -> Void
    ) -> EngineLinkClient {
        let client = EngineLinkClient(address: address, eventLoop: eventLoop)
        client.onEventLoop { [box = client.core] _ in
            let core = ClientCore(
                address: address,
                eventLoop: eventLoop,
                hello: hello,
                limits: limits,
                onEvent: onEvent
            )
            box.value = core
            core.connect(timeout: timeout)
        }
        return client
    }

    /// Sends a message; messages of one turn of the event loop leave in one write. Nothing happens before
    /// ``Event/opened(_:)`` and after ``Event/closed(_:)``.
    public func send(_ message: LinkMessage) {
        onEventLoop { $0?.send(message) }
    }

    /// Closes the link after what was sent before; the engine aborts what this gateway had asked for.
    public func close() {
        onEventLoop { $0?.close() }
    }

    private func onEventLoop(_ body: @escaping @Sendable (ClientCore?) -> Void) {
        if eventLoop.inEventLoop {
            body(core.value)
        } else {
            eventLoop.execute { [core] in body(core.value) }
        }
    }
}

/// State of a client; lives on its event loop.
private final class ClientCore: LinkChannelOwner {
    private enum Phase {
        case connecting, shakingHands, open, closed
    }

    private let address: LinkAddress
    private let eventLoop: any EventLoop
    private let hello: ClientHello
    private let limits: EngineLinkClient.Limits
    private var onEvent: (@Sendable (EngineLinkClient.Event) -> Void)?
    private var phase = Phase.connecting
    private var handler: LinkChannelHandler?
    private var timer: Scheduled<Void>?
    /// The engine's own words on why it closes.
    private var refusal: LinkError?

    init(
        address: LinkAddress,
        eventLoop: any EventLoop,
        hello: ClientHello,
        limits: EngineLinkClient.Limits,
        onEvent: @escaping @Sendable (EngineLinkClient.Event) -> Void
    ) {
        self.address = address
        self.eventLoop = eventLoop
        self.hello = hello
        self.limits = limits
        self.onEvent = onEvent
    }

    func connect(timeout: TimeAmount) {
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        timer = eventLoop.scheduleTask(in: timeout) { bound.value.timedOut(timeout) }
        let limits = LinkChannelHandler.Limits(frameBytes: limits.frameBytes, backlogBytes: limits.backlogBytes)
        let bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = LinkChannelHandler(
                        identifier: LinkConnectionID(rawValue: 0),
                        owner: bound.value,
                        limits: limits,
                        handshakeFrameBytes: limits.frameBytes
                    )
                    try channel.pipeline.syncOperations.addHandler(handler)
                    bound.value.handler = handler
                }
            }
        let connected: EventLoopFuture<any Channel> =
            switch address {
            case .unix(let path): bootstrap.connect(unixDomainSocketPath: path)
            case .tcp(let host, let port):
                bootstrap
                    .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                    .channelOption(.socketOption(.so_keepalive), value: 1)
                    .connect(host: host, port: port)
            }
        connected.whenComplete { result in bound.value.connected(result) }
    }

    private func connected(_ result: Result<any Channel, any Error>) {
        switch result {
        case .failure(let error):
            // A Unix socket that is not there fails within the call to connect, in which nothing is reported.
            let bound = NIOLoopBound(self, eventLoop: eventLoop)
            let reason = (error as? IOError).map { String(cString: strerror($0.errnoCode)) } ?? "\(error)"
            let failure = LinkError(
                code: .connection, message: "engine link: cannot connect to \(address): \(reason)")
            eventLoop.execute { bound.value.finish(failure) }
        case .success(let channel):
            guard phase == .connecting else {
                channel.close(promise: nil)
                return
            }
            phase = .shakingHands
            handler?.send(.clientHello(hello))
            handler?.flush()
        }
    }

    private func timedOut(_ timeout: TimeAmount) {
        let doing = phase == .connecting ? "no connection" : "no hello from the engine"
        let error = LinkError(code: .connection, message: "engine link: \(address): \(doing) within \(timeout)")
        let handler = self.handler
        finish(error)
        handler?.close(error)
    }

    func send(_ message: LinkMessage) {
        guard phase == .open else { return }
        handler?.send(message)
    }

    func close() {
        guard phase != .closed else { return }
        let error = LinkError(code: .connection, message: "engine link: \(address): closed by this end")
        guard phase == .connecting else {
            handler?.closeAfterFlush(error)
            return
        }
        // Reported in a later turn, because nothing is reported within a caller's call.
        guard refusal == nil else { return }
        refusal = error
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        eventLoop.execute { bound.value.finish(error) }
    }

    // MARK: LinkChannelOwner

    func channelReceived(_ message: LinkMessage, from handler: LinkChannelHandler) {
        switch (phase, message) {
        case (.shakingHands, .engineHello(let engine)):
            phase = .open
            timer?.cancel()
            onEvent?(.opened(engine))
        case (.open, .stepOutput), (.open, .statistics), (.open, .heartbeat):
            onEvent?(.message(message))
        case (.shakingHands, .error(let error)), (.open, .error(let error)):
            refusal = error
            handler.close(error)
        default:
            handler.refuse(
                LinkError(
                    code: .malformed,
                    message: "engine link: \(address): an engine may not send a frame \(FrameType(message)) here"
                )
            )
        }
    }

    func channelClosed(_ handler: LinkChannelHandler, error: LinkError?) {
        finish(
            refusal ?? error
                ?? LinkError(code: .connection, message: "engine link: \(address): closed by the engine")
        )
    }

    private func finish(_ error: LinkError) {
        guard phase != .closed else { return }
        phase = .closed
        timer?.cancel()
        handler = nil
        let report = onEvent
        onEvent = nil
        report?(.closed(error))
    }
}
