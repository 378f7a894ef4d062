// Tandem — Apache-2.0

import Requests

/// Guesses how a sequence goes on: as it went on before, where its last tokens stood already. Answers that copy from
/// their prompt (corrections, rewriting, edits of code) are guessed well (Saxena, "Prompt Lookup Decoding", 2023; the
/// idea of checking guesses in one step is that of Leviathan et al., "Fast Inference from Transformers via Speculative
/// Decoding", 2023).
enum PromptLookup {
    /// Most tokens that a change may have put between one copied passage and the next.
    private static let reach = 8

    /// Where in `tokens` a guess at what follows them begins, or `nil`.
    ///
    /// A passage near `hint` with the same last two tokens is taken first, because copies go on where they were left;
    /// else the latest one with the same last three, else two.
    ///
    /// - Parameter hint: where the last guess ended, 0 for none.
    static func source(in tokens: [TokenID], hint: Int) -> Int? {
        let count = tokens.count
        guard count >= 4 else { return nil }
        return tokens.withUnsafeBufferPointer { tokens in
            let (third, second, last) = (tokens[count - 3], tokens[count - 2], tokens[count - 1])
            if hint > 1, hint < count {
                for place in hint..<min(hint + reach, count)
                where tokens[place - 1] == last && tokens[place - 2] == second {
                    return place
                }
            }
            var two: Int?
            var place = count - 1
            while place >= 2 {
                if tokens[place - 1] == last, tokens[place - 2] == second {
                    if place >= 3, tokens[place - 3] == third { return place }
                    if two == nil { two = place }
                }
                place -= 1
            }
            return two
        }
    }
}

/// How well guesses did for one sequence, and so how long the next one is.
struct DraftState: Sendable, Equatable {
    /// Where the next guess begins among the sequence's tokens; `nil` for none.
    var source: Int?
    /// Tokens of the next guess at most.
    private(set) var length = 4
    /// Where the last guess ended.
    private(set) var hint = 0
    /// No guess before the sequence has so many tokens.
    private var notBefore = 0
    private var pause = 2

    /// Looks for a guess at what follows all known tokens.
    mutating func look(in tokens: [TokenID]) {
        source = tokens.count >= notBefore ? PromptLookup.source(in: tokens, hint: hint) : nil
    }

    /// Learns from a guess: all right, the next one is twice as long; all wrong, there is none for a while, and for
    /// longer each time.
    ///
    /// - Parameters:
    ///   - source: where the guess began.
    ///   - count: tokens of the sequence by now.
    mutating func verified(source: Int, drafted: Int, accepted: Int, most: Int, count: Int) {
        if accepted == drafted {
            length = min(most, 2 * length)
            pause = 2
            hint = source + accepted
        } else {
            length = max(2, min(most, accepted + 2))
            pause = accepted > 0 ? 2 : min(64, 2 * pause)
            // The token that was guessed wrongly stands for the one that was chosen.
            hint = source + accepted + 1
            if accepted == 0 { notBefore = count + pause / 2 }
        }
        self.source = nil
    }
}
