// Tandem — Apache-2.0

import EngineLink
import NIOCore
import NIOPosix

/// The gateway's socket to its supervisor.
enum SupervisorChannel {
    /// Takes over a connected socket.
    ///
    /// - Parameters:
    ///   - onMessage: called on `eventLoop`.
    ///   - onClose: called once on `eventLoop` when the supervisor is gone.
    static func open(
        _ descriptor: Int32, on eventLoop: any EventLoop,
        onMessage: @escaping @Sendable (LinkMessage) -> Void, onClose: @escaping @Sendable (String) -> Void
    ) async throws -> any Channel {
        try await ClientBootstrap(group: eventLoop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        Handler(onMessage: onMessage, onClose: onClose))
                }
            }
            .withConnectedSocket(descriptor)
            .get()
    }

    static func send(_ message: LinkMessage, to channel: any Channel) {
        channel.writeAndFlush(ByteBuffer(bytes: LinkCodec.frame(message)), promise: nil)
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private var frames = LinkFrameReader()
        private let onMessage: @Sendable (LinkMessage) -> Void
        private let onClose: @Sendable (String) -> Void
        private var reason = "the supervisor is gone"

        init(onMessage: @escaping @Sendable (LinkMessage) -> Void, onClose: @escaping @Sendable (String) -> Void) {
            self.onMessage = onMessage
            self.onClose = onClose
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            frames.append(Array(unwrapInboundIn(data).readableBytesView))
            do {
                while let message = try frames.next() { onMessage(message) }
            } catch {
                reason = "the supervisor sent a frame that cannot be read: \(error)"
                context.close(promise: nil)
            }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            reason = "the socket to the supervisor failed: \(error)"
            context.close(promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) {
            onClose(reason)
        }
    }
}
