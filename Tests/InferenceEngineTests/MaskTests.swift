// Tandem — Apache-2.0

import Grammar
import InferenceEngine
import Requests
import TestSupport
import Testing

/// Sequences that follow a grammar, with a vocabulary of single letters, digits and a few pairs.
@Suite struct MaskTests {
    static let vocabulary = TokenVocabulary(count: 97) { token in
        switch token {
        case 0..<26: [UInt8(ascii: "a") + UInt8(token)]
        case 26..<36: [UInt8(ascii: "0") + UInt8(token - 26)]
        case 36..<62: [UInt8(ascii: "a"), UInt8(ascii: "a") + UInt8(token - 36)]
        // Control tokens.
        case 90...: nil
        default: Array("#\(token)".utf8)
        }
    }

    static func text(_ tokens: [TokenID]) -> String {
        tokens.map { token in
            switch token {
            case 0..<26: String(UnicodeScalar(UInt8(ascii: "a") + UInt8(token)))
            case 26..<36: String(token - 26)
            case 36..<62: "a" + String(UnicodeScalar(UInt8(ascii: "a") + UInt8(token - 36)))
            default: "?"
            }
        }.joined()
    }

    static let texts = ["ab", "abc", "aardvark", "aaaaaaaaaaaaaaaaaaaa0", "zebra", "z0", "hello1world2", "b"]

    static func grammar(_ texts: [String] = texts) throws -> (GrammarSource, TokenGrammar) {
        let list = "[" + texts.map { "\"\($0)\"" }.joined(separator: ",") + "]"
        let source = GrammarSource(kind: .choice, text: list)
        return (source, TokenGrammar(try CompiledGrammar(source), vocabulary: vocabulary))
    }

    private func requests(_ count: Int, _ source: GrammarSource) -> [EngineRequest] {
        (1...count).map { id in
            EngineRequest(
                id: RequestID(id), tokens: prompt(20 + id % 13, seed: UInt64(id % 5)),
                sampling: SamplingParameters(temperature: 0.5, seed: UInt64(id)), maximumNewTokens: 40,
                stopTokens: id % 2 == 0 ? [95] : [], logProbabilities: id % 3 == 0 ? 2 : nil,
                // Every fourth is free.
                priority: Int32(id % 2))
        }.map { request in
            var request = request
            if request.id % 4 != 0 { request.grammar = source }
            return request
        }
    }

    private func run(
        _ requests: [EngineRequest], _ grammar: TokenGrammar, asynchronous: Bool, slots: Int, blocks: Int
    ) throws -> Harness {
        var harness = try Harness(
            .small(slots: slots, tokensPerStep: 24, asynchronous: asynchronous), blocks: blocks)
        for request in requests { try harness.add(request, grammar: request.grammar == nil ? nil : grammar) }
        try harness.runToEnd()
        harness.expectEmpty()
        return harness
    }

    @Test func textsFollowTheirGrammarWhateverTheMachineDoes() throws {
        let (source, grammar) = try Self.grammar()
        let requests = requests(24, source)
        let calm = try run(requests, grammar, asynchronous: false, slots: 30, blocks: 400)
        var seen: Set<String> = []
        for request in requests where request.grammar != nil {
            let answer = try #require(calm.collected[request.id]?.answer)
            var tokens = answer.tokens
            if answer.finish == .stop {
                #expect(tokens.last == 95)
                tokens.removeLast()
            } else {
                #expect(answer.finish == .complete)
            }
            #expect(Self.texts.contains(Self.text(tokens)), "\(Self.text(tokens))")
            seen.insert(Self.text(tokens))
        }
        #expect(seen.count > 2)
        #expect(calm.lateMasks == 0)
        let ahead = try run(requests, grammar, asynchronous: true, slots: 30, blocks: 400)
        #expect(ahead.lateMasks > 10)
        let crowded = try run(requests, grammar, asynchronous: true, slots: 6, blocks: 6)
        #expect(crowded.scheduler.counters.preemptions > 3)
        for request in requests {
            #expect(ahead.collected[request.id]?.answer == calm.collected[request.id]?.answer)
            #expect(crowded.collected[request.id]?.answer == calm.collected[request.id]?.answer)
        }
    }

    @Test func aSequenceGoesOnElsewhereWhereItsGrammarStood() throws {
        let (source, grammar) = try Self.grammar()
        var request = EngineRequest(
            id: 1, tokens: prompt(20), sampling: SamplingParameters(temperature: 0.5, seed: 3), maximumNewTokens: 40,
            grammar: source)
        let whole = try run([request], grammar, asynchronous: true, slots: 1, blocks: 40)
        let tokens = try #require(whole.collected[1]?.answer.tokens)
        for count in 1...tokens.count {
            var resumed = request
            resumed.tokens += tokens.prefix(count)
            resumed.resumeOffset = count
            let rest = try run([resumed], grammar, asynchronous: true, slots: 1, blocks: 40)
            #expect(rest.collected[1]?.answer.tokens == Array(tokens.dropFirst(count)))
            #expect(rest.collected[1]?.answer.finish == .complete)
        }
        request.tokens.append(70)
        request.resumeOffset = 1
        var harness = try Harness(.small())
        #expect(throws: RequestFailure.self) { try harness.add(request, grammar: grammar) }
        // Without a compiled grammar nothing can be promised.
        #expect(throws: RequestFailure.self) { try harness.add(request) }
    }

    @Test func aVocabularyThatCannotSayItFailsTheSequence() throws {
        let (source, grammar) = try Self.grammar(["a!"])
        var harness = try Harness(.small())
        try harness.add(
            EngineRequest(id: 1, tokens: prompt(4), maximumNewTokens: 9, grammar: source), grammar: grammar)
        try harness.runToEnd()
        harness.expectEmpty()
        #expect(harness.collected[1]?.answer.finish == .failed)
        #expect(harness.collected[1]?.failure?.kind == .invalid)
    }

    @Test func endTokensAreThereWhenTheTextMayEnd() throws {
        let (source, grammar) = try Self.grammar(["ab", "abc"])
        var harness = try Harness(.small())
        try harness.add(
            EngineRequest(
                id: 1, tokens: prompt(4), maximumNewTokens: 9, stopTokens: [95, 96], minimumNewTokens: 2,
                grammar: source),
            grammar: grammar)
        var masks = TokenMasks(slots: [], words: [], wordsPerSlot: 0)
        var permitted: [[Int]] = []
        while try harness.submit() {
            // Filling them again changes nothing.
            #expect(harness.scheduler.fillMasks(&masks, vocabularySize: 97))
            #expect(masks.slots.count == 1)
            permitted.append((0..<128).filter { masks.words[$0 / 32] >> UInt32($0 % 32) & 1 == 1 })
            try harness.takeResult()
        }
        // "a" or "ab"; the end only after two tokens, though "ab" may be one.
        #expect(permitted.first == [0, 37])
        for mask in permitted.dropFirst() { #expect([[1], [2], [2, 95, 96]].contains(mask)) }
    }
}
