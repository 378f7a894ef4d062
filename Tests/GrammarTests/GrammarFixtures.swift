// Tandem — Apache-2.0

import Foundation
import Grammar
import JSON
import Requests
import Testing

/// Files, vocabularies and walks of the grammar tests.
enum GrammarFixtures {
    static func json(_ name: String) throws -> JSONValue {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let data = try Data(contentsOf: folder.appending(path: "Fixtures/grammar/\(name)"))
        return try JSONParser.parse(Array(data), limits: JSONLimits(maximumDepth: 200))
    }

    /// All bytes, and tokens such as real vocabularies have: words, punctuation with more around it, characters of
    /// several bytes, pieces of them, spaces, and two tokens with the same bytes.
    static let tokens: [[UInt8]] =
        (0..<256).map { [UInt8($0)] }
        + [
            "{\"", "\":", "\": ", "\": \"", "\", \"", "\",", ", ", "true", "false", "null", "é", "日", "日本", "😀", "ab",
            "abc",
            "aa", "aaaa", "10", "100", "\"}", "\"]", "]}", "}}", "},", "[[", "()", "((", "  ", "    ", "\n  ", "e",
            "\\u", "\\n",
            "\\\"", "name", "name\": ", "kind", "a@b", ".com", "true", "-1", "0.5", "ü\"",
        ].map { Array($0.utf8) } + [[0xE6, 0x97], [0xA5, 0xE6], [0x9F, 0x98, 0x80, 0x22]]

    static let vocabulary = TokenVocabulary(count: tokens.count + 1) { $0 < tokens.count ? tokens[Int($0)] : nil }

    static func compile(_ kind: GrammarSource.Kind, _ text: String) throws -> CompiledGrammar {
        try CompiledGrammar(GrammarSource(kind: kind, text: text))
    }

    static func mask(_ matcher: GrammarMatcher) -> (words: [UInt32], count: Int) {
        // What was there before must not matter.
        var words = Array(repeating: UInt32.max, count: vocabulary.maskWords)
        let count = words.withUnsafeMutableBufferPointer { matcher.fillMask($0) } ?? -1
        return (words, count)
    }

    static func permits(_ words: [UInt32], _ token: Int) -> Bool { words[token / 32] >> UInt32(token % 32) & 1 == 1 }

    /// A text made of permitted tokens; nil if it was not complete after many steps.
    ///
    /// - Parameter visit: sees every matcher on the way and its mask.
    static func walk(
        _ grammar: TokenGrammar, _ random: inout SeededGenerator,
        visit: (GrammarMatcher, [UInt32], Int) -> Void = { _, _, _ in }
    ) -> String? {
        var matcher = GrammarMatcher(grammar)
        var bytes: [UInt8] = []
        let patience = Int.random(in: 2...40, using: &random)
        for step in 0..<1500 {
            let (words, count) = mask(matcher)
            visit(matcher, words, count)
            if matcher.isExhausted { break }
            if matcher.isAccepting, step > patience || Int.random(in: 0..<5, using: &random) == 0 { break }
            guard count > 0 else {
                Issue.record("nothing may follow \(String(decoding: bytes, as: UTF8.self).debugDescription)")
                return nil
            }
            var choice: Int?
            if step > patience {
                let first = Bool.random(using: &random) ? 0 : Int.random(in: 0..<endings.count, using: &random)
                choice = endings[first...].first { permits(words, $0) }
            }
            if choice == nil {
                var left = Int.random(in: 0..<count, using: &random)
                choice = tokens.indices.first { token in
                    guard permits(words, token) else { return false }
                    left -= 1
                    return left < 0
                }
            }
            guard let choice, matcher.accept(TokenID(choice)) else {
                Issue.record("a permitted token is not accepted")
                return nil
            }
            bytes += tokens[choice]
        }
        guard matcher.isAccepting else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }

    /// Bytes that bring most texts to an end, the best first.
    private static let endings = "\"}])0123456789abcdefghijklmnopqrstuvwxyzABCDEFZ:@.-/".utf8.map { Int($0) }
}

/// SplitMix64: the same numbers on every run.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

extension GrammarMatcher {
    /// Advances by a token that must be able to follow.
    mutating func expect(_ token: TokenID) {
        let isAccepted = accept(token)
        #expect(isAccepted, "token \(token)")
    }

    /// Tries a token that must not be able to follow.
    mutating func expectRefusal(_ token: TokenID) {
        let isAccepted = accept(token)
        #expect(!isAccepted, "token \(token)")
    }
}
