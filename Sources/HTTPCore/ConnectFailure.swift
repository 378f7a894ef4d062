// Tandem — Apache-2.0

import Glibc
import NIOCore
import NIOPosix

/// Why a connection could not be made, in words that people know.
enum ConnectFailure {
    static func text(_ error: any Error) -> String {
        switch error {
        case let error as IOError: String(cString: strerror(error.errnoCode))
        case let error as NIOConnectionError: error.connectionErrors.first.map { text($0.error) } ?? "\(error)"
        case ChannelError.connectTimeout(let time): "no answer within \(time.nanoseconds / 1_000_000) ms"
        default: "\(error)"
        }
    }
}
