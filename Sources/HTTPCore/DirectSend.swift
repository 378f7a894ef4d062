// Tandem — Apache-2.0

import Glibc
import NIOCore

/// Sends past a channel: its way from a write to the system call costs more than the call.
///
/// Only for what nothing waits before; what the system does not take goes through the channel, which also finds out what
/// is wrong with the connection. The socket is the channel's while that is open: whoever holds its number must forget it
/// when the channel becomes inactive, and the system may give it to another one.
enum DirectSend {
    private static let maximumBytes = 256 * 1024
    private static let flags = CInt(MSG_NOSIGNAL | MSG_DONTWAIT)

    /// The socket of a channel that has one.
    static func socket(of context: ChannelHandlerContext) -> CInt? {
        try? context.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: CInt.self) { $0 }
    }

    /// - Returns: how many bytes the system took; none if it refused.
    static func send(_ bytes: ByteBuffer, to socket: CInt) -> Int {
        bytes.withUnsafeReadableBytes { bytes in
            while bytes.count > 0 {
                let count = Glibc.send(socket, bytes.baseAddress, min(bytes.count, maximumBytes), flags)
                if count >= 0 { return count }
                guard errno == EINTR else { break }
            }
            return 0
        }
    }
}
