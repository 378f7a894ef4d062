// Tandem — Apache-2.0

import JSON
import Requests
import Testing

@testable import Gateway

@Suite struct SamplingFieldsTests {
    private func read(_ fields: String) throws -> GenerationRequest {
        try GenerationRequest.completion(
            TestModel.json(#"{"prompt":"a","seed":1\#(fields.isEmpty ? "" : ",")\#(fields)}"#), vocabularySize: 258)
    }

    private func refusal(_ fields: String) throws -> String? {
        let body = try TestModel.json(#"{"prompt":"a",\#(fields)}"#)
        do throws(APIError) {
            _ = try GenerationRequest.completion(body, vocabularySize: 258)
            return nil
        } catch {
            #expect(error.status == 400)
            return error.parameter
        }
    }

    @Test func penaltiesAndBiases() throws {
        let request = try read(
            #"""
            "presence_penalty":0.5,"frequency_penalty":-2,"repetition_penalty":1.25,"logit_bias":{"5":-100,"257":1.5}
            """#)
        #expect(
            request.sampling
                == SamplingParameters(
                    temperature: 1, repetitionPenalty: 1.25, frequencyPenalty: -2, presencePenalty: 0.5, seed: 1))
        #expect(request.logitBias == [TokenBias(token: 5, bias: -100), TokenBias(token: 257, bias: 1.5)])
        #expect(try read(#""repetition_penalty":1e-300"#).sampling.repetitionPenalty > 0)
        #expect(try read(#""logit_bias":{}"#).logitBias.isEmpty)
    }

    @Test func lengthsAndEnds() throws {
        let request = try read(
            #"""
            "min_tokens":16,"stop":["x","yy"],"include_stop_str_in_output":true,"stop_token_ids":[3],"ignore_eos":true
            """#)
        #expect(request.minimumNewTokens == 16)
        #expect(request.stop == ["x", "yy"] && request.includeStopText)
        #expect(request.stopTokens == [3] && request.ignoreEndOfSequence)
        #expect(try read(#""stop":[]"#).stop.isEmpty)
    }

    @Test func candidates() throws {
        #expect(try read(#""n":2"#).candidates == 2)
        let request = try read(#""n":2,"best_of":5"#)
        #expect(request.choices == 2 && request.candidates == 5)
        #expect(request.reportedLogProbabilities == 0)
        #expect(try read(#""n":2,"best_of":5,"logprobs":3"#).reportedLogProbabilities == 3)
        #expect(try read(#""n":2,"best_of":2"#).reportedLogProbabilities == nil)
        #expect(try read(#""best_of":1,"stream":true"#).stream)
    }

    @Test func truncation() throws {
        #expect(try read(#""truncate_prompt_tokens":7"#).truncation == .tokens(7))
        #expect(try read(#""truncate_prompt_tokens":-1"#).truncation == .context)
        #expect(PromptTruncation.context.limit(contextLength: 64, new: 16) == 48)
        #expect(PromptTruncation.context.limit(contextLength: 64, new: 64) == .max)
        #expect(PromptTruncation.tokens(3).limit(contextLength: 64, new: 16) == 3)
    }

    @Test(arguments: [
        (#""presence_penalty":2.1"#, "presence_penalty"), (#""frequency_penalty":"x""#, "frequency_penalty"),
        (#""repetition_penalty":0"#, "repetition_penalty"), (#""repetition_penalty":-1"#, "repetition_penalty"),
        (#""repetition_penalty":10.5"#, "repetition_penalty"),
        (#""logit_bias":[]"#, "logit_bias"), (#""logit_bias":{"x":1}"#, "logit_bias"),
        (#""logit_bias":{"05":1}"#, "logit_bias"), (#""logit_bias":{"+5":1}"#, "logit_bias"),
        (#""logit_bias":{"-1":1}"#, "logit_bias"), (#""logit_bias":{"258":1}"#, "logit_bias"),
        (#""logit_bias":{"99999999999999999999":1}"#, "logit_bias"), (#""logit_bias":{"5":101}"#, "logit_bias"),
        (#""logit_bias":{"5":"1"}"#, "logit_bias"), (#""logit_bias":{"5":null}"#, "logit_bias"),
        (#""min_tokens":17"#, "min_tokens"), (#""min_tokens":-1"#, "min_tokens"), (#""min_tokens":1.5"#, "min_tokens"),
        (#""n":10000"#, "n"), (#""n":2,"best_of":1"#, "best_of"), (#""best_of":129"#, "best_of"),
        (#""best_of":2,"stream":true"#, "best_of"),
        (#""truncate_prompt_tokens":0"#, "truncate_prompt_tokens"),
        (#""truncate_prompt_tokens":-2"#, "truncate_prompt_tokens"),
        (#""prompt_logprobs":21"#, "prompt_logprobs"), (#""prompt_logprobs":-1"#, "prompt_logprobs"),
        (#""prompt_logprobs":1,"stream":true"#, "prompt_logprobs"),
        (#""return_token_ids":1"#, "return_token_ids"), (#""cache_salt":5"#, "cache_salt"),
        (#""priority":2147483648"#, "priority"),
        (#""stream":true,"stream_options":{"include_usage":1}"#, "stream_options.include_usage"),
        (#""stop":[[]]"#, "stop"), (#""include_stop_str_in_output":0"#, "include_stop_str_in_output"),
    ])
    func wrongFieldsAreNamed(fields: String, name: String) throws {
        #expect(try refusal(fields) == name)
    }

    @Test func tooMuchIsRefused() throws {
        let biases = (0..<258).flatMap { id in (0..<4).map { "\"\(id + 1000 * $0)\":1" } }.joined(separator: ",")
        #expect(try refusal(#""logit_bias":{\#(biases)}"#) == "logit_bias")
        let long = String(repeating: "y", count: 1 << 20)
        #expect(try refusal(#""stop":"\#(long)""#) == "stop")
        #expect(try refusal(#""logit_bias":{"\#(long)":1}"#) == "logit_bias")
        let stops = Array(repeating: "\"x\"", count: 100_000).joined(separator: ",")
        #expect(try refusal(#""stop":[\#(stops)]"#) == "stop")
    }

    @Test func messagesStayShort() throws {
        let long = String(repeating: "ä", count: 10_000)
        let body = try TestModel.json(#"{"prompt":"a","logit_bias":{"\#(long)":1}}"#)
        do throws(APIError) {
            _ = try GenerationRequest.completion(body, vocabularySize: 258)
            Issue.record("not refused")
        } catch {
            #expect(error.message.utf8.count < 400)
        }
    }
}
