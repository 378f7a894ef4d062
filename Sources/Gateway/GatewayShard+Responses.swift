// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Tokenization

extension GatewayShard {
    func responses(_ exchange: Exchange) throws(APIError) {
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
        } finish: { [self] (prepared, settings) throws(APIError) in
            let format = ResponsesFormat(
                requestID: exchange.id, model: prepared.request.requestedModel ?? model.name, settings: settings,
                tokenizer: model.tokenizer, secondsSince1970: now)
            try checkStructure(prepared, exchange, format: format)
        }
    }
}
