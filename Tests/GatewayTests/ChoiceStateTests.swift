// Tandem — Apache-2.0

import Requests
import Testing

@testable import Gateway

@Suite struct ChoiceStateTests {
    private func choice(stop: [String] = [], stopTokens: [TokenID] = []) throws -> ChoiceState {
        var request = GenerationRequest(kind: .completion, prompts: [.text("x")])
        request.stop = stop
        request.stopTokens = stopTokens
        return ChoiceState(index: 0, request: request, tokenizer: try TestModel.tokenizer())
    }

    @Test func tokensBecomeText() throws {
        var choice = try choice()
        #expect(choice.accept(SequenceOutput(id: 1, tokens: "he".ids)).text == "he")
        let last = choice.accept(SequenceOutput(id: 1, tokens: "y".ids, finish: .length))
        #expect(last.text == "y")
        #expect(last.finish == ChoiceFinish(reason: "length", stopReason: nil))
        #expect(choice.emitted == "hey".ids)
        #expect(choice.accept(SequenceOutput(id: 1, tokens: "z".ids)).isEmpty)
    }

    @Test func theEndTokenEndsWithoutText() throws {
        var choice = try choice()
        let delta = choice.accept(SequenceOutput(id: 1, tokens: [TestModel.end], finish: .stop))
        #expect(delta.text == "")
        #expect(delta.finish == ChoiceFinish(reason: "stop", stopReason: nil))
        #expect(choice.completionTokens == 1)
    }

    @Test func aStopTokenIsNamedAndLeftOut() throws {
        var choice = try choice(stopTokens: "!".ids)
        let delta = choice.accept(SequenceOutput(id: 1, tokens: "!".ids, finish: .stop))
        #expect(delta.text == "")
        #expect(delta.finish == ChoiceFinish(reason: "stop", stopReason: .token(33)))
    }

    @Test func aStopStringEndsAndCancels() throws {
        var choice = try choice(stop: ["\n\n"])
        #expect(choice.accept(SequenceOutput(id: 1, tokens: "a\n".ids)).text == "a")
        let delta = choice.accept(SequenceOutput(id: 1, tokens: "\n".ids))
        #expect(delta.text == "")
        #expect(delta.mustCancel)
        #expect(delta.finish == ChoiceFinish(reason: "stop", stopReason: .text("\n\n")))
    }

    @Test func heldBackTextComesAtTheEnd() throws {
        var choice = try choice(stop: ["END"])
        #expect(choice.accept(SequenceOutput(id: 1, tokens: "aEN".ids)).text == "a")
        #expect(choice.accept(SequenceOutput(id: 1, tokens: [TestModel.end], finish: .stop)).text == "EN")
    }

    @Test func brokenCharactersAreHeldAndThenReplaced() throws {
        var choice = try choice()
        let euro = Array("€".utf8).map { TokenID($0) }
        #expect(choice.accept(SequenceOutput(id: 1, tokens: [euro[0]])).text == "")
        #expect(choice.accept(SequenceOutput(id: 1, tokens: [euro[1]])).text == "")
        #expect(choice.accept(SequenceOutput(id: 1, tokens: [euro[2]])).text == "€")
        #expect(choice.accept(SequenceOutput(id: 1, tokens: [euro[0]], finish: .length)).text == "\u{FFFD}")
    }
}
