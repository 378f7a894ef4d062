// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Tokenization

extension GatewayShard {
    func responses(_ exchange: Exchange) throws(APIError) {
        let now = configuration.secondsSince1970
        try prepareResponse(exchange) { [self] (prepared, settings) throws(APIError) in
            let format = ResponsesFormat(
                requestID: exchange.id, model: prepared.request.requestedModel ?? model.name, settings: settings,
                tokenizer: model.tokenizer, secondsSince1970: now)
            try checkStructure(prepared, exchange, format: format)
        }
    }

    /// Says how many tokens a response would read.
    func responseTokens(_ exchange: Exchange) throws(APIError) {
        try prepareResponse(exchange) { [self] (prepared, _) throws(APIError) in
            respond(
                exchange, Array(#"{"object":"response.input_tokens","input_tokens":\#(prepared.promptTokens)}"#.utf8))
        }
    }

    private func prepareResponse(
        _ exchange: Exchange, finish: @escaping (PreparedRequest, ResponsesSettings) throws(APIError) -> Void
    ) throws(APIError) {
        let (model, times, now) = (model, metrics.hostTimes, configuration.secondsSince1970)
        try process(exchange) { (body) throws(APIError) in
            var request = try ResponsesRequest(.body(body), vocabularySize: model.tokenizer.vocabularySize)
            try model.check(request.generation.requestedModel)
            try request.generation.prepareTools(for: model)
            let prompt = try times.measure(times.template) { () throws(APIError) in
                try request.render(model: model, now: now())
            }
            request.generation.prompts = [.text(prompt)]
            let prepared = try PreparedRequest(request: request.generation, model: model, times: times)
            return (prepared, request.settings)
        } finish: { (prepared, settings) throws(APIError) in
            try finish(prepared, settings)
        }
    }
}
