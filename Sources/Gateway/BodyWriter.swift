// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import NIOPosix

/// Writes whole answers: short ones at once, long ones on a worker thread, so that nobody else waits for them.
struct BodyWriter {
    let eventLoop: any EventLoop
    let workers: NIOThreadPool
    let times: HostTimes

    /// - Parameters:
    ///   - values: about how many numbers and words `body` has to write.
    ///   - headers: without Content-Type.
    func respond(
        _ responder: HTTPResponder, headers: HTTPHeaders, values: Int,
        body: @escaping @Sendable () throws(APIError) -> [UInt8]
    ) {
        let times = times
        @Sendable func write() -> Result<ByteBuffer, APIError> {
            times.measure(times.write) {
                do throws(APIError) { return .success(ByteBuffer(bytes: try body())) } catch { return .failure(error) }
            }
        }
        func send(_ outcome: Result<ByteBuffer, APIError>) {
            switch outcome {
            case .success(let buffer):
                var headers = headers
                headers.add("Content-Type", "application/json")
                responder.respond(status: .ok, headers: headers, body: buffer)
            case .failure(let error): responder.respond(error, headers: headers)
            }
        }
        guard values > Self.longAnswer else {
            send(write())
            return
        }
        workers.runIfActive(eventLoop: eventLoop) { write() }.assumeIsolated().whenComplete { outcome in
            switch outcome {
            case .success(let outcome): send(outcome)
            case .failure: send(.failure(.unavailable("the server is shutting down")))
            }
        }
    }

    /// Numbers and words that take about a millisecond to write.
    private static let longAnswer = 4096
}
