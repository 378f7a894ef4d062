// Tandem — Apache-2.0

import EngineLink
import NIOCore
import NIOPosix

/// An engine process's end of the socket pair to its supervisor: a hello of each engine and heartbeats out, a drain in, and the supervisor's
/// life.
enum StatusChannel {
    enum Event: Sendable, Equatable {
        case drain
        /// The supervisor is gone, or what it says cannot be understood.
        case closed(String?)
    }

    /// Takes the socket over and says hello for each engine.
    ///
    /// - Parameter onEvent: called on the event loop.
    static func open(
        _ descriptor: Int32,
        hellos: [EngineHello],
        on eventLoop: any EventLoop,
        onEvent: @escaping @Sendable (Event) -> Void
    ) -> EventLoopFuture<any Channel> {
        ClientBootstrap(group: eventLoop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(StatusHandler(onEvent: onEvent))
                }
            }
            .withConnectedSocket(descriptor)
            .flatMap { channel in
                let frames = hellos.flatMap { LinkCodec.frame(.engineHello($0)) }
                return channel.writeAndFlush(ByteBuffer(bytes: frames)).map { channel }
            }
    }

    /// Sends a sign of life, unless the supervisor has not read the last ones.
    static func send(_ heartbeat: Heartbeat, to channel: any Channel) {
        guard channel.isWritable else { return }
        channel.writeAndFlush(ByteBuffer(bytes: LinkCodec.frame(.heartbeat(heartbeat))), promise: nil)
    }
}

private final class StatusHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let onEvent: @Sendable (StatusChannel.Event) -> Void
    private var reader = LinkFrameReader(maximumFrameBytes: 1 << 20)
    private var failure: String?

    init(onEvent: @escaping @Sendable (StatusChannel.Event) -> Void) {
        self.onEvent = onEvent
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        reader.append(unwrapInboundIn(data))
        do {
            while let message = try reader.next() {
                if case .drain = message { onEvent(.drain) }
            }
        } catch {
            failure = error.message
            context.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        failure = "\(error)"
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        onEvent(.closed(failure))
    }
}
