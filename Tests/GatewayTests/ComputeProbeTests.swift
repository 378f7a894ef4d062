// Tandem — Apache-2.0

import JSON
import NIOCore
import Testing

@testable import Gateway

@Suite struct ComputeProbeTests {
    private func verdict(_ path: String, _ status: Int, _ body: String) -> ComputeProbe.Verdict {
        let question = ComputeProbe.Question(path: path, body: [])
        return ComputeProbe.verdict(on: question, status: status, body: ByteBuffer(string: body))
    }

    @Test func questionsAreSmallestRequests() throws {
        let questions = ComputeProbe.questions(model: "a \"b\"")
        #expect(questions.map(\.path) == ["/v1/completions", "/v1/chat/completions", "/v1/embeddings"])
        for question in questions {
            let fields = try #require(try JSONParser.parse(question.body).object)
            #expect(fields["model"]?.string == "a \"b\"")
            if question.path != "/v1/embeddings" { #expect(fields["max_tokens"]?.integer == 1) }
        }
        let nameless = try JSONParser.parse(ComputeProbe.questions(model: nil)[0].body)
        #expect(nameless.object?["model"] == nil)
    }

    @Test(arguments: [
        #"{"choices":[{"index":0,"text":" w","finish_reason":"length"}],"usage":{"completion_tokens":1}}"#,
        #"{"choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}"#,
        #"{"object":"list","data":[{"embedding":[0.5,1]}]}"#, #"{"data":[{"embedding":"AAAA"}]}"#,
    ])
    func resultsAreProofs(_ body: String) {
        #expect(verdict("/x", 200, body) == .computes)
    }

    @Test(arguments: [
        "", "ok", "[]", "{}", #"{"choices":[]}"#, #"{"choices":[{}]}"#, #"{"data":[{"embedding":[]}]}"#,
        #"{"error":{"message":"CUDA error"},"choices":[{"text":"x"}]}"#,
    ])
    func anAnswerWithoutAResultIsNone(_ body: String) {
        guard case .fails(let reason) = verdict("/x", 200, body) else {
            Issue.record("\(body) passes")
            return
        }
        #expect(reason.hasPrefix("POST /x answered without a result"))
    }

    @Test func reasonsQuoteTheAnswer() {
        #expect(
            verdict("/x", 500, #"{"error":{"message":"CUDA error: 719"}}"#)
                == .fails("POST /x answered 500: CUDA error: 719"))
        #expect(
            verdict("/x", 404, #"{"detail":"Not Found"}"#)
                == .unsuited(#"POST /x answered 404: {"detail":"Not Found"}"#))
        #expect(verdict("/x", 503, "") == .fails("POST /x answered 503"))
        #expect(verdict("/x", 500, "one\ntwo") == .fails("POST /x answered 500: one"))
    }
}
