// Tandem — Apache-2.0

import Foundation
import NIOCore
import NIOPosix

/// A client that sends and receives plain bytes, so that a test can be as rude as it likes.
///
/// Unchecked: the received bytes and the waiter are touched only on the channel's event loop.
final class RawClient: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer

    struct TimedOut: Error, CustomStringConvertible {
        let received: String
        var description: String { "nothing came for ten minutes; so far: \(received.debugDescription)" }
    }

    private struct Waiter {
        let promise: EventLoopPromise<String>
        /// Nil waits for the end.
        let isEnough: (@Sendable (String) -> Bool)?
        let timeout: Scheduled<Void>
    }

    private var received: [UInt8] = []
    private var isClosed = false
    private var waiter: Waiter?
    private var channel: (any Channel)?

    /// Connects to a loopback port.
    static func connect(to port: Int?, autoRead: Bool = true) async throws -> RawClient {
        let client = RawClient()
        let channel = try await ClientBootstrap(group: TestServer.clientGroup)
            .channelOption(.autoRead, value: autoRead)
            .channelInitializer { $0.pipeline.addHandler(client) }
            .connect(host: "127.0.0.1", port: port ?? 0).get()
        client.channel = channel
        return client
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        received += unwrapInboundIn(data).readableBytesView
        check()
    }

    func channelInactive(context: ChannelHandlerContext) {
        isClosed = true
        check()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func check() {
        guard let waiter, isClosed || waiter.isEnough != nil else { return }
        let text = String(decoding: received, as: UTF8.self)
        guard isClosed || waiter.isEnough?(text) == true else { return }
        self.waiter = nil
        waiter.timeout.cancel()
        waiter.promise.succeed(text)
    }

    func send(_ text: String) async throws {
        try await send(Array(text.utf8))
    }

    func send(_ bytes: [UInt8]) async throws {
        try await channel!.writeAndFlush(ByteBuffer(bytes: bytes)).get()
    }

    /// Sends without waiting, and without minding whether it succeeds.
    func sendAndForget(_ bytes: [UInt8]) {
        channel!.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil)
    }

    /// Everything received since the beginning or the last ``clear()``, as soon as it is enough or the server closed.
    func receive(until isEnough: (@Sendable (String) -> Bool)?) async throws -> String {
        let loop = channel!.eventLoop
        return try await loop.flatSubmit { [self] in
            let promise = loop.makePromise(of: String.self)
            let timeout = loop.scheduleTask(in: .minutes(10)) {
                self.waiter = nil
                promise.fail(TimedOut(received: String(decoding: self.received, as: UTF8.self)))
            }
            waiter = Waiter(promise: promise, isEnough: isEnough, timeout: timeout)
            check()
            return promise.futureResult
        }.get()
    }

    /// Everything received, once the server has closed.
    func receiveUntilClose() async throws -> String {
        try await receive(until: nil)
    }

    /// Forgets what was received.
    func clear() async throws {
        try await channel!.eventLoop.submit { self.received = [] }.get()
    }

    func setAutoRead(_ isOn: Bool) async throws {
        try await channel!.setOption(.autoRead, value: isOn).get()
    }

    func close() async throws {
        try await channel!.close().get()
    }
}
