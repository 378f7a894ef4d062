// Tandem — Apache-2.0

import Glibc
import NIOCore
import NIOPosix
import Synchronization

/// Where the signal handler writes; -1 before the first use.
private let signalPipe = Atomic<Int32>(-1)

/// Carries signals from their handler, where next to nothing may be called, to an event loop.
enum SignalPipe {
    /// Takes signals over for the rest of the process's life. One place of a process may do this, once.
    ///
    /// - Parameter onSignal: called on the event loop for each signal that arrives.
    static func install(
        _ signals: [Int32],
        on eventLoop: any EventLoop,
        onSignal: @escaping @Sendable () -> Void
    ) throws(EngineHostError) {
        var ends: [Int32] = [-1, -1]
        let made =
            pipe(&ends) == 0
            && ends.allSatisfy {
                fcntl($0, F_SETFD, FD_CLOEXEC) == 0 && fcntl($0, F_SETFL, O_NONBLOCK) == 0
            }
        guard made else {
            throw EngineHostError(message: "cannot make a pipe for signals: \(String(cString: strerror(errno)))")
        }
        let input = ends[0]
        do {
            _ = try NIOPipeBootstrap(group: eventLoop)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(SignalHandler(onSignal: onSignal))
                    }
                }
                .takingOwnershipOfDescriptor(input: input)
                .wait()
        } catch {
            throw EngineHostError(message: "cannot read the pipe for signals: \(error)")
        }
        signalPipe.store(ends[1], ordering: .releasing)
        for number in signals {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in
                // The interrupted code may be about to read errno.
                let saved = errno
                var byte: UInt8 = 1
                _ = write(signalPipe.load(ordering: .acquiring), &byte, 1)
                errno = saved
            }
            action.sa_flags = SA_RESTART
            guard sigaction(number, &action, nil) == 0 else {
                throw EngineHostError(
                    message: "cannot handle signal \(number): \(String(cString: strerror(errno)))"
                )
            }
        }
    }
}

private final class SignalHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let onSignal: @Sendable () -> Void

    init(onSignal: @escaping @Sendable () -> Void) {
        self.onSignal = onSignal
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        for _ in 0..<unwrapInboundIn(data).readableBytes { onSignal() }
    }
}
