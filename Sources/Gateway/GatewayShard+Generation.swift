// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore
import Requests
import Tokenization

extension GatewayShard {
    func completions(_ exchange: Exchange) throws(APIError) {
        let (model, times) = (model, metrics.hostTimes)
        try process(exchange) { (body) throws(APIError) in
            let request = try GenerationRequest.completion(
                .body(body), vocabularySize: model.tokenizer.vocabularySize)
            try model.check(request.requestedModel)
            return try PreparedRequest(request: request, model: model, times: times)
        } finish: { [self] prepared throws(APIError) in
            try checkStructure(prepared, exchange, format: format(of: prepared.request, exchange))
        }
    }

    func chatCompletions(_ exchange: Exchange) throws(APIError) {
        let (model, times, now) = (model, metrics.hostTimes, configuration.secondsSince1970())
        try process(exchange) { (body) throws(APIError) in
            let value = try JSONValue.body(body)
            var request = try GenerationRequest.chat(value, vocabularySize: model.tokenizer.vocabularySize)
            try model.check(request.requestedModel)
            try request.prepareTools(for: model)
            let prompt = try times.measure(times.template) { () throws(APIError) in
                try Conversation.render(value, model: model, now: now)
            }
            request.prompts = [.text(prompt)]
            return try PreparedRequest(request: request, model: model, times: times)
        } finish: { [self] prepared throws(APIError) in
            try checkStructure(prepared, exchange, format: format(of: prepared.request, exchange))
        }
    }

    private func format(of request: GenerationRequest, _ exchange: Exchange) -> ResponseFormat {
        ResponseFormat(
            kind: request.kind, id: (request.kind == .chat ? "chatcmpl-" : "cmpl-") + exchange.id,
            created: configuration.secondsSince1970(), model: request.requestedModel ?? model.name,
            usageField: request.includeUsage, usageAlways: request.continuousUsage, tokenizer: model.tokenizer)
    }

    /// Compiles what the text must look like, if it is anything new, on a worker thread: that may take long.
    func checkStructure(
        _ prepared: PreparedRequest, _ exchange: Exchange, format: any AnswerFormat
    ) throws(APIError) {
        guard let structure = prepared.request.structure, !recentGrammars.contains(structure.source) else {
            try start(prepared, exchange, format: format)
            return
        }
        onWorker(exchange) { () throws(APIError) in
            try structure.check()
        } finish: { [self] _ throws(APIError) in
            recentGrammars.insert(structure.source)
            try start(prepared, exchange, format: format)
        }
    }

    private func start(
        _ prepared: PreparedRequest, _ exchange: Exchange, format: any AnswerFormat
    ) throws(APIError) {
        let request = prepared.request
        try prepared.check(contextLength: model.contextLength, maximumSequences: configuration.maximumSequences)
        try checkRoom(for: prepared.sequences)
        let middleEnds = request.suffix == nil ? [] : model.fillInTheMiddle?.endTokens ?? []
        let owner = GenerationOwner(
            prepared: prepared,
            context: GenerationOwner.Context(
                dispatcher: dispatcher, tokenizer: model.tokenizer, contextLength: model.contextLength,
                endTokens: model.endTokens + middleEnds.filter { !model.endTokens.contains($0) }, writer: writer,
                chunks: chunks, slowClientTimeout: configuration.slowClientTimeout,
                session: SessionKey.session(exchange.request.headers, name: request.session),
                onlyEngine: exchange.onlyEngine),
            format: format,
            responder: exchange.responder,
            headers: exchange.headers,
            note: AccessNote(trace: exchange.trace, model: model.name),
            observer: RequestObserver(metrics: metrics, clock: configuration.clock, choices: prepared.sequences)
        )
        owner.start()
    }

    /// - Throws: 429 if so many more sequences cannot start now.
    func checkRoom(for sequences: Int) throws(APIError) {
        guard dispatcher.hasRoom(for: sequences) else {
            metrics.rejected()
            throw .overloaded(
                "\(dispatcher.unfinishedOfAll) sequences are waiting or running and this request has \(sequences); "
                    + "the limit is \(configuration.maximumSequences)")
        }
    }
}
