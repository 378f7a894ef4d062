// Tandem — Apache-2.0

import Requests

extension SequenceOutput {
    /// The same as outputs of one token each, for clients that take a chunk for a token: a step that checked guesses
    /// yields several tokens at once.
    var singleTokens: [SequenceOutput] {
        guard tokens.count > 1 else { return [self] }
        return tokens.indices.map { index in
            var part = SequenceOutput(id: id, tokens: CollectionOfOne(tokens[index]))
            if index < logProbabilities.count { part.logProbabilities = [logProbabilities[index]] }
            if index == 0 {
                part.promptLogProbabilities = promptLogProbabilities
                part.cachedPromptTokens = cachedPromptTokens
                part.prefillMicroseconds = prefillMicroseconds
            }
            if index == tokens.count - 1 {
                part.score = score
                part.finish = finish
                part.failure = failure
            }
            return part
        }
    }
}
