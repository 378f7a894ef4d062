// Tandem — Apache-2.0

import Grammar
import InferenceEngine
import Requests
import Testing

@testable import CPUExecutor

/// Penalties, biases, least lengths and grammars: what is chosen is the same alone and in a crowd, with steps planned
/// ahead, and after preemption.
@Suite struct ConstrainedSamplingTests {
    static let vocabulary = TokenVocabulary(count: 320) { $0 < 256 ? [UInt8($0)] : nil }
    static let texts = ["alpha", "alphabet", "beta carotene", "x", "xylophone music for the many"]

    static func requests(_ checkpoint: TinyCheckpoint, _ source: GrammarSource) -> [EngineRequest] {
        let tokens = checkpoint.cases.map(\.input_ids).max { $0.count < $1.count } ?? []
        return (0..<20).map { index in
            var request = EngineRequest(
                id: RequestID(index), tokens: Array(tokens.prefix(3 + index)), maximumNewTokens: 24,
                stopTokens: [300, 301], logProbabilities: index % 4 == 0 ? 3 : nil)
            request.sampling.temperature = index % 2 == 0 ? 0 : 1
            request.sampling.seed = UInt64(index)
            switch index % 5 {
            case 0: request.sampling.repetitionPenalty = 1.5
            case 1:
                request.sampling.frequencyPenalty = 0.7
                request.sampling.presencePenalty = 0.3
            case 2:
                request.logitBias = [TokenBias(token: 300, bias: 100)]
                request.minimumNewTokens = 5
            case 3:
                request.grammar = source
                request.sampling.presencePenalty = 1
            default: request.grammar = source
            }
            return request
        }
    }

    @Test(arguments: [CPUCompute.f32, .bf16, .int8]) func choicesDoNotDependOnCompany(compute: CPUCompute) throws {
        let checkpoint = try TinyCheckpoint("llama-tied")
        let list = "[" + Self.texts.map { "\"\($0)\"" }.joined(separator: ",") + "]"
        let source = GrammarSource(kind: .choice, text: list)
        let grammar = TokenGrammar(try CompiledGrammar(source), vocabulary: Self.vocabulary)
        let requests = Self.requests(checkpoint, source)
        let alone = try SchedulerRunner(checkpoint, compute: compute)
        let crowd = try SchedulerRunner(
            checkpoint, compute: compute, slots: 6, tokensPerStep: 24, asynchronous: true, blocks: 5)
        let together = try crowd.run(requests, grammar: grammar)
        #expect(crowd.counters.preemptions > 0)
        for request in requests {
            let single = try #require(try alone.run([request], grammar: grammar)[request.id])
            #expect(together[request.id] == single, "request \(request.id)")
            let tokens = Array(single.tokens)
            switch request.id % 5 {
            case 2:
                // The bias makes the stop token certain as soon as it may be chosen.
                #expect(tokens.count == 6)
                #expect(tokens.firstIndex(of: 300) == 5)
                #expect(single.finish == .stop)
            case 3, 4:
                let text = String(decoding: tokens.filter { $0 < 256 }.map { UInt8($0) }, as: UTF8.self)
                if single.finish == .length {
                    #expect(Self.texts.contains { $0.hasPrefix(text) })
                } else {
                    #expect(Self.texts.contains(text))
                }
            default: break
            }
            // What is reported are the model's own probabilities, whatever bore on the choice.
            for (token, position) in zip(tokens, single.logProbabilities) {
                #expect(position.chosen.token == token)
                #expect(position.top.allSatisfy { $0.logProbability <= 0 && $0.logProbability > -.infinity })
            }
        }
    }
}
