// Tandem — Apache-2.0

import NIOCore

/// Tells of connections that the system does not give.
final class AcceptFailures: ChannelInboundHandler {
    typealias InboundIn = any Channel

    private let log: (@Sendable (HTTPIncident) -> Void)?

    init(_ log: (@Sendable (HTTPIncident) -> Void)?) {
        self.log = log
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        log?(.acceptFailed(reason: "\(error)"))
        context.fireErrorCaught(error)
    }
}
