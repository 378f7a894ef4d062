// Tandem — Apache-2.0

import Requests
import Tokenization

/// Uses a tokenizer that was accepted.
enum TokenizerUse {
    private static let texts = [
        "", "hello world", " hello  hell123!\n\n\t", "e\u{301}é \u{2581}☃ 𝄞 \u{0}", "<|im_start|>[user]he<|im_end|>",
        "<bos><0x41><unk>hellohello",
    ]

    /// What is wrong with it; nil if nothing is.
    static func fault(of tokenizer: Tokenizer) -> String? {
        for text in texts {
            for parses in [false, true] {
                let tokens = tokenizer.encode(text, addSpecialTokens: parses, parseSpecialTokens: parses)
                guard tokens.allSatisfy({ $0 >= 0 && $0 < tokenizer.vocabularySize }) else {
                    return "\(text.debugDescription) has tokens outside the vocabulary: \(tokens)"
                }
                _ = tokenizer.decode(tokens, skipSpecialTokens: !parses)
                var detokenizer = IncrementalDetokenizer(tokenizer: tokenizer, skipSpecialTokens: !parses)
                for token in tokens {
                    _ = detokenizer.append(token)
                    guard tokenizer.vocabularyString(token) != nil else { return "the token \(token) has no text" }
                }
                _ = detokenizer.finish()
            }
        }
        let edges: [TokenID] = [-1, 0, TokenID(clamping: tokenizer.vocabularySize), .max, .min]
        _ = tokenizer.decode(edges, skipSpecialTokens: false)
        return nil
    }
}
