// Tandem — Apache-2.0

public import HTTPCore
import JSON
public import NIOCore

/// Asks an endpoint which models it serves.
public enum ServedModels {
    /// Most bytes of an answer.
    private static let maximumBytes = 4 << 20

    /// Names of the models; the future fails with a ``LoadGeneratorError`` that says what is wrong with the endpoint.
    public static func ask(
        _ endpoint: HTTPEndpoint, apiKey: String?, on eventLoop: any EventLoop
    ) -> EventLoopFuture<[String]> {
        let promise = eventLoop.makePromise(of: [String].self)
        eventLoop.execute {
            var limits = HTTPClientLimits()
            limits.firstByteTimeout = .seconds(30)
            let client = HTTPClient(endpoint: endpoint, eventLoop: eventLoop, limits: limits)
            var headers: HTTPHeaders = [:]
            if let apiKey { headers.add("Authorization", "Bearer \(apiKey)") }
            client.send(
                HTTPClientRequest(method: .get, target: "/v1/models", headers: headers),
                to: Receiver(client: client, promise: promise))
        }
        return promise.futureResult
    }

    private final class Receiver: HTTPResponseReceiver {
        private let client: HTTPClient
        private let promise: EventLoopPromise<[String]>
        private var status = 0
        private var body: [UInt8] = []

        init(client: HTTPClient, promise: EventLoopPromise<[String]>) {
            self.client = client
            self.promise = promise
        }

        func received(_ head: HTTPResponseHead) { status = head.status.code }

        func received(_ bytes: ByteBuffer) {
            if body.count < maximumBytes { body.append(contentsOf: bytes.readableBytesView) }
        }

        func ended() {
            let object = try? JSONParser.parse(body).object
            switch status {
            case 200:
                let names = object?["data"]?.array?.compactMap { $0.object?["id"]?.string } ?? []
                if names.isEmpty { return fail("\(client.endpoint)/v1/models names no model; use --served-model-name") }
                client.shutdown()
                promise.succeed(names)
            case 401, 403: fail("\(client.endpoint) wants an API key: use --api-key or TANDEM_API_KEY")
            default:
                fail(
                    "\(client.endpoint)/v1/models answers with status \(status); use --served-model-name if it has none"
                )
            }
        }

        func failed(_ error: HTTPClientError) {
            let hint = error.kind == .unreachable ? "; does the server run?" : ""
            fail("\(error.message)\(hint)")
        }

        private func fail(_ reason: String) {
            client.shutdown()
            promise.fail(LoadGeneratorError(reason))
        }
    }
}
