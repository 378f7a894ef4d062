// Tandem — Apache-2.0

import Requests
import Testing

@testable import Gateway

@Suite struct ChoiceStateTests {
    private func choice(
        stop: [String] = [], stopTokens: [TokenID] = [], includesStop: Bool = false, minimum: Int = 0
    ) throws -> ChoiceState {
        var request = GenerationRequest(kind: .completion, prompts: [.text("x")])
        request.stop = stop
        request.stopTokens = stopTokens
        request.includeStopText = includesStop
        request.minimumNewTokens = minimum
        return ChoiceState(
            index: 0, request: request, matcher: StopMatcher(stops: stop, includesStop: includesStop),
            tokenizer: try TestModel.tokenizer())
    }

    /// As vLLM does: its text stays, and that of a control token is not shown in any case.
    @Test func aStopTokenMayStay() throws {
        var choice = try choice(stopTokens: "!".ids, includesStop: true)
        let delta = choice.accept(SequenceOutput(id: 1, tokens: "!".ids, finish: .stop))
        #expect(delta.text == "!" && Array(delta.tokens) == "!".ids)
        #expect(delta.finish == ChoiceFinish(reason: "stop", stopReason: .token(33)))
        var other = try self.choice(includesStop: true)
        #expect(other.accept(SequenceOutput(id: 1, tokens: [TestModel.end], finish: .stop)).text == "")
    }

    /// What ends among the first tokens is no stop string; what only begins there is.
    @Test func stopStringsWaitForTheLeastNumberOfTokens() throws {
        var choice = try choice(stop: ["ab"], minimum: 3)
        #expect(choice.accept(SequenceOutput(id: 1, tokens: "aba".ids)).text == "ab")
        let delta = choice.accept(SequenceOutput(id: 1, tokens: "b".ids))
        #expect(delta.text == "" && delta.finish?.stopReason == .text("ab") && delta.mustCancel)
    }

    @Test func theMeanIsOfAllTokens() throws {
        var choice = try choice()
        #expect(choice.meanLogProbability == 0)
        for (token, value) in [("a", Float(-1)), ("b", -3)] {
            let position = PositionLogProbabilities(
                chosen: TokenLogProbability(token: token.ids[0], logProbability: value), top: [])
            _ = choice.accept(SequenceOutput(id: 1, tokens: token.ids, logProbabilities: [position]))
        }
        #expect(choice.meanLogProbability == -2)
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
