// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Requests

/// Endpoints that generate nothing: embeddings, scores, ranks and classes.
extension GatewayShard {
    private typealias Reader = @Sendable (JSONValue, ServedModel, HostTimes) throws(APIError) -> ScoringWork

    func embeddings(_ exchange: Exchange) throws(APIError) {
        let (model, times) = (model, metrics.hostTimes)
        try process(exchange) { (body) throws(APIError) in
            let work = try EmbeddingRequest.read(.body(body), model: model, times: times)
            try work.checkLengths(contextLength: model.contextLength)
            return work
        } finish: { [self] work throws(APIError) in
            try start(work, exchange)
        }
    }

    func score(_ exchange: Exchange) { judge(exchange, ScoreRequest.read) }
    func rerank(_ exchange: Exchange) { judge(exchange, RerankRequest.read) }
    func classify(_ exchange: Exchange) { judge(exchange, ClassifyRequest.read) }

    /// A short body can mean long work here: the same words stand around each of many texts.
    private func judge(_ exchange: Exchange, _ read: @escaping Reader) {
        let (model, times) = (model, metrics.hostTimes)
        let body = exchange.request.body
        onWorker(exchange) { () throws(APIError) in
            let work = try read(.body(body), model, times)
            try work.checkLengths(contextLength: model.contextLength)
            return work
        } finish: { [self] work throws(APIError) in
            try start(work, exchange)
        }
    }

    private func start(_ work: ScoringWork, _ exchange: Exchange) throws(APIError) {
        guard work.items.count <= configuration.maximumSequences else {
            throw .invalid(
                work.items.last?.name,
                "the request has \(work.items.count) sequences; the limit is \(configuration.maximumSequences)")
        }
        try checkRoom(for: work.items.count)
        let owner = ScoringOwner(
            work: work,
            head: ScoringWork.Head(
                id: exchange.id, created: configuration.secondsSince1970(), model: work.requestedModel ?? model.name),
            dispatcher: dispatcher, writer: writer, responder: exchange.responder, headers: exchange.headers,
            onlyEngine: exchange.onlyEngine,
            observer: RequestObserver(metrics: metrics, clock: configuration.clock, choices: work.items.count))
        owner.start()
    }
}
