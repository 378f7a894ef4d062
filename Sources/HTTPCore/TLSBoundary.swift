// Tandem — Apache-2.0

#if TLS
    import NIOCore
    import NIOSSL
    import NIOTLS

    /// Stands between TLS and HTTP on a connection: tells how the handshake ended, and closes without waiting for the
    /// other side, which TLS alone would do for seconds.
    final class TLSBoundary: ChannelDuplexHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundIn = ByteBuffer

        private enum State {
            case handshaking
            case established
            case ended(any Error)
        }

        private let tls: NIOSSLHandler
        private var state = State.handshaking
        private var isClosing = false
        /// Told once how the handshake ended.
        private var listener: (((any Error)?) -> Void)?
        private var timer: Scheduled<Void>?

        /// - Parameter listener: told once how the handshake ended; `nil` is well.
        init(above tls: NIOSSLHandler, listener: (((any Error)?) -> Void)? = nil) {
            self.tls = tls
            self.listener = listener
        }

        /// As ``ClientTLS/agree(on:until:_:)``.
        func agree(until deadline: NIODeadline, _ eventLoop: any EventLoop, _ body: @escaping ((any Error)?) -> Void) {
            switch state {
            case .established: body(nil)
            case .ended(let error): body(error)
            case .handshaking:
                listener = body
                timer = eventLoop.assumeIsolated().scheduleTask(deadline: deadline) {
                    self.timer = nil
                    self.end(TLSProblem.TooSlow())
                    self.context?.close(promise: nil)
                }
            }
        }

        private var context: ChannelHandlerContext?

        func handlerAdded(context: ChannelHandlerContext) { self.context = context }

        func handlerRemoved(context: ChannelHandlerContext) {
            end(ChannelError.ioOnClosedChannel)
            self.context = nil
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent, case .handshaking = state {
                state = .established
                tell(nil)
            }
            context.fireUserInboundEventTriggered(event)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            end(error)
            // Whom we leave need not say goodbye.
            if !isClosing { context.fireErrorCaught(error) }
        }

        func channelInactive(context: ChannelHandlerContext) {
            end(ChannelError.eof)
            context.fireChannelInactive()
        }

        private func end(_ error: any Error) {
            guard case .handshaking = state else { return }
            state = .ended(error)
            tell(error)
        }

        private func tell(_ error: (any Error)?) {
            timer?.cancel()
            timer = nil
            listener.take()?(error)
        }

        // MARK: - Closing

        func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
            guard case .all = mode else {
                context.close(mode: mode, promise: promise)
                return
            }
            if case .established = state, !isClosing {
                isClosing = true
                // Says that nothing follows.
                context.close(mode: .output, promise: nil)
            }
            closeSocket(context, promise)
        }

        func triggerUserOutboundEvent(
            context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?
        ) {
            guard case ConnectionEvent.cut? = event as? ConnectionEvent else {
                context.triggerUserOutboundEvent(event, promise: promise)
                return
            }
            isClosing = true
            closeSocket(context, promise)
        }

        private func closeSocket(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
            isClosing = true
            do {
                try context.pipeline.syncOperations.context(handler: tls).close(mode: .all, promise: promise)
            } catch {
                promise?.fail(error)
            }
        }
    }

    extension ServerTLS {
        /// Lets an accepted channel speak TLS.
        func secure(_ channel: any Channel, observer: (@Sendable (TLSHandshakeOutcome) -> Void)?) throws {
            let handler = NIOSSLServerHandler(context: context)
            let boundary = TLSBoundary(above: handler) { observer?(TLSProblem.outcome(of: $0)) }
            try channel.pipeline.syncOperations.addHandlers([handler, boundary])
        }
    }
#else
    import NIOCore

    extension ServerTLS {
        /// There is none to call it on.
        func secure(_: any Channel, observer _: (@Sendable (TLSHandshakeOutcome) -> Void)?) throws {}
    }
#endif
