// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import Requests
import Routing

/// A request that an external engine is to answer.
struct ProxyWork: DispatchedWork {
    var id: RequestID
    /// Gets the events of a stream without a detour.
    var owner: ProxyOwner
    var request: HTTPClientRequest
    var record: ProxyRecord
    /// Set if the answer goes on from what another engine said.
    var merge: ProxyContinuation.Merge?
    var cost: TokenCost
    /// Engines that do not have the model.
    var excluded: Set<EngineID>
    /// What is known of the request that the client sent.
    var fields: ProxyFields
    var body: ByteBuffer

    var hints: RoutingHints {
        RoutingHints(
            prefix: fields.prompt.map { PromptChunks.hashes(of: body, in: $0, model: fields.model) } ?? [],
            blockSize: PromptChunks.tokens,
            session: SessionKey.session(request.headers, name: fields.sessionName))
    }
}

/// What came back of it.
struct ProxyOutput: DispatchedOutput {
    enum Part {
        case nothing
        /// Whole events of a stream.
        case events(ByteBuffer)
        /// Part of a body that is not understood, and passed on as it comes.
        case passage(ByteBuffer)
        case response(ProxyResponse)
    }

    var id: RequestID
    var newTokens = 0
    var end: DispatchEnd?
    var part = Part.nothing
}

/// Which header fields pass beside those that concern one connection only.
enum ProxyHeaders {
    /// Decided here for every request.
    private static let requestFields = ["host", "accept-encoding", "authorization", "x-request-id"]
    private static let responseFields = ["date", "x-request-id"]

    /// Of a client's request.
    ///
    /// - Parameters:
    ///   - trace: our span in the client's trace; without one the client's header passes as it is.
    ///   - authorization: what the engine gets to see.
    static func ofRequest(
        _ headers: HTTPHeaders, id: String, trace: TraceContext?, authorization: String?
    ) -> HTTPHeaders {
        var passed = headers.passed(without: requestFields)
        passed.add("X-Request-Id", id)
        if let trace { passed.set(TraceContext.header, trace.traceparent) }
        if let authorization { passed.add("Authorization", authorization) }
        return passed
    }

    /// Of an engine's response, behind the gateway's own.
    static func ofResponse(_ headers: HTTPHeaders, own: HTTPHeaders) -> HTTPHeaders {
        var passed = own
        // Where the gateway says which pages may read, its servers do not, least of all for pages that may not.
        let decides = own[AllowedOrigins.allowOrigin] != nil || own["Vary"] == "Origin"
        let replaced = decides ? responseFields + AllowedOrigins.fields : responseFields
        for field in headers.passed(without: replaced).fields { passed.add(field.name, field.value) }
        return passed
    }
}
