// Tandem — Apache-2.0

import Requests
import Tokenization

/// Asks a model whether a document answers a query, and reads the answer off the probabilities of yes and no.
///
/// Models that were trained for it are asked in the same way (Qwen3-Reranker, arXiv 2506.05176, section 2: the score is
/// the softmax of the two words' likelihoods); of other chat models it is an opinion.
struct RelevanceJudge: Sendable {
    private let frame: PromptFrame
    private let instruction: [TokenID]
    private let yes: [TokenID]
    private let no: [TokenID]

    /// - Throws: 400 if the model cannot be asked.
    init(instruction: String?, model: ServedModel) throws(APIError) {
        frame = try PromptFrame(
            words: [
                "Judge whether a document helps to answer a query. Task:", "\n\nQuery:", "\n\nDocument:",
                "\n\nDoes the document help to answer the query? Reply with one word, yes or no.",
            ], answer: "\nAnswer:", model: model, refusal: ("method", "use the method `cosine`"))
        self.instruction = frame.encode(
            instruction ?? "find the passages that a person who searched for this would want to read.")
        (yes, no) = try Self.words(model.tokenizer)
    }

    /// Tokens that say yes and no: of all spellings that are single tokens, else the first ones of the plain words.
    ///
    /// - Throws: 400 if the vocabulary cannot tell yes from no.
    static func words(_ tokenizer: Tokenizer) throws(APIError) -> (yes: [TokenID], no: [TokenID]) {
        func encode(_ text: String) -> [TokenID] {
            tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: false)
        }
        var words: (yes: [TokenID], no: [TokenID]) = ([], [])
        for (first, second) in [("Yes", "No"), ("yes", "no"), (" Yes", " No"), (" yes", " no")] {
            let (first, second) = (encode(first), encode(second))
            guard first.count == 1, second.count == 1, first != second, !words.yes.contains(first[0]) else { continue }
            words.yes += first
            words.no += second
        }
        if !words.yes.isEmpty { return words }
        guard let first = encode("yes").first, let second = encode("no").first, first != second else {
            throw .invalid(
                "method", "the model's vocabulary cannot tell yes from no; use the method `cosine`")
        }
        return ([first], [second])
    }

    var labels: [TokenID] { yes + no }

    func encode(_ text: String) -> [TokenID] { frame.encode(text) }

    /// - Parameter limit: most tokens of the prompt; the document's end is left out to keep it.
    func prompt(query: [TokenID], document: [TokenID], limit: Int) -> [TokenID] {
        let room = max(0, limit - frame.count - instruction.count - query.count)
        return frame.tokens([instruction, query, document.count > room ? Array(document.prefix(room)) : document])
    }

    /// From 0 to 1.
    ///
    /// - Parameter logProbabilities: of ``labels``.
    func relevance(_ logProbabilities: [Float]) -> Double {
        Probability.softmax(logProbabilities).prefix(yes.count).reduce(0, +)
    }
}
