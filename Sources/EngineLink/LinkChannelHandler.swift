// Tandem — Apache-2.0

import NIOCore

/// What one end of a connection does with what arrives; all calls are on the channel's event loop.
protocol LinkChannelOwner: AnyObject {
    func channelReceived(_ message: LinkMessage, from channel: LinkChannelHandler)
    /// The last call. `error` is `nil` if the other end closed in good order.
    func channelClosed(_ channel: LinkChannelHandler, error: LinkError?)
}

/// Frames of one connection, both ways, for the client and for the server end.
///
/// Lives on its channel's event loop and nowhere else.
final class LinkChannelHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What a connection holds at most.
    struct Limits: Sendable {
        /// Frames that are received, in bytes.
        var frameBytes = LinkCodec.defaultMaximumFrameBytes
        /// Bytes that may wait if the other end takes none of them.
        var backlogBytes = 32 << 20
        /// How long it may take none of them, if more wait.
        var stallTime = TimeAmount.seconds(2)

        /// Bytes that may wait in any case: a burst, such as all sequences of another engine, is taken in a moment.
        var burstBytes: Int { backlogBytes * 8 }
    }

    /// Names the connection for a server.
    let identifier: LinkConnectionID
    private let limits: Limits
    /// Let go when the channel closes.
    private var owner: (any LinkChannelOwner)?
    private var reader: LinkFrameReader
    private var context: ChannelHandlerContext?
    private var failure: LinkError?
    /// Frames of this turn of the event loop; they leave in one write.
    private var outgoing = ByteBuffer()
    private var isFlushScheduled = false
    private var backlogBytes = 0
    /// When the other end last took something, or nothing waited for it.
    private var lastTaken = NIODeadline.uptimeNanoseconds(0)
    private var isClosing = false

    /// - Parameter handshakeFrameBytes: the frame limit until ``acceptLongFrames()``.
    init(identifier: LinkConnectionID, owner: any LinkChannelOwner, limits: Limits, handshakeFrameBytes: Int) {
        self.identifier = identifier
        self.owner = owner
        self.limits = limits
        reader = LinkFrameReader(maximumFrameBytes: min(handshakeFrameBytes, limits.frameBytes))
    }

    /// The other end said a proper hello: from here on frames may be as long as the limits permit.
    func acceptLongFrames() {
        reader.maximumFrameBytes = limits.frameBytes
    }

    // MARK: Out

    /// Sends a message; messages of one turn of the event loop leave in one write.
    func send(_ message: LinkMessage) {
        guard let context, !isClosing else { return }
        LinkCodec.encode(message, into: &outgoing)
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.execute { handler.value.flush() }
    }

    /// Writes what was sent in this turn at once.
    func flush() {
        isFlushScheduled = false
        guard let context, !isClosing, outgoing.readableBytes > 0 else { return }
        var bytes = outgoing
        outgoing = ByteBuffer()
        if backlogBytes == 0 { lastTaken = context.eventLoop.now }
        // In pieces, so that it is seen how they leave.
        while let piece = bytes.readSlice(length: min(bytes.readableBytes, Self.pieceBytes)), piece.readableBytes > 0 {
            write(piece, context)
        }
        context.flush()
        let isStalled = context.eventLoop.now - lastTaken > limits.stallTime
        if backlogBytes > (isStalled ? limits.backlogBytes : limits.burstBytes) {
            close(
                LinkError(
                    code: .connection,
                    message: "engine link: the other end does not read: \(backlogBytes) bytes wait, "
                        + "the limit is \(isStalled ? limits.backlogBytes : limits.burstBytes)"
                )
            )
        }
    }

    private static let pieceBytes = 1 << 20

    private func write(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
        let count = bytes.readableBytes
        backlogBytes += count
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.write(wrapOutboundOut(bytes)).whenComplete { _ in handler.value.left(count) }
    }

    private func left(_ count: Int) {
        backlogBytes -= count
        if let context { lastTaken = context.eventLoop.now }
    }

    /// Closes at once; the owner hears `error` as the reason.
    func close(_ error: LinkError?) {
        guard let context, !isClosing else { return }
        isClosing = true
        if failure == nil { failure = error }
        context.close(promise: nil)
    }

    /// Tells the other end why, then closes.
    func refuse(_ error: LinkError) {
        guard !isClosing else { return }
        LinkCodec.encode(.error(error), into: &outgoing)
        closeAfterFlush(error)
    }

    /// How long an end that closes waits for the other one to read the rest.
    private static let lingerTime = TimeAmount.seconds(5)

    /// Closes when all that was sent has left, or after a while if it cannot leave; the owner hears `error` as the reason.
    func closeAfterFlush(_ error: LinkError?) {
        guard let context, !isClosing else { return }
        let bytes = outgoing
        outgoing = ByteBuffer()
        isClosing = true
        if failure == nil { failure = error }
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        let timer = context.eventLoop.scheduleTask(in: Self.lingerTime) {
            handler.value.context?.close(promise: nil)
        }
        context.writeAndFlush(wrapOutboundOut(bytes)).whenComplete { _ in
            timer.cancel()
            handler.value.context?.close(promise: nil)
        }
    }

    // MARK: In

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        owner = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isClosing else { return }
        reader.append(unwrapInboundIn(data))
        do {
            while !isClosing, let message = try reader.next() {
                owner?.channelReceived(message, from: self)
            }
        } catch {
            refuse(error)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        isClosing = true
        if failure == nil, reader.holdsPartOfFrame {
            failure = LinkError(code: .connection, message: "engine link: the connection ended within a frame")
        }
        let owner = self.owner
        self.owner = nil
        owner?.channelClosed(self, error: failure)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close(LinkError(code: .connection, message: "engine link: \(error)"))
    }
}
