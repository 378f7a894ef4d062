// Tandem — Apache-2.0

import JSON
import Requests
import Tokenization

/// Log-probabilities in the two forms of the OpenAI API.
struct LogProbabilityText: Sendable {
    /// A position whose probability is not known: the first token of an echoed prompt.
    enum Entry: Sendable {
        case unknown(TokenID)
        case known(PositionLogProbabilities)
    }

    var entries: [Entry]
    /// Unicode scalars of the choice's text before the first entry, for `text_offset`.
    var textOffset: Int

    /// `{"tokens", "token_logprobs", "top_logprobs", "text_offset"}`, the form of completions.
    func writeLegacy(_ writer: inout JSONWriter, tokenizer: Tokenizer) {
        writer.beginObject()
        writer.key("tokens")
        writer.beginArray()
        for entry in entries { writer.string(Self.name(of: entry.token, tokenizer)) }
        writer.endArray()
        writer.key("token_logprobs")
        writer.beginArray()
        for entry in entries {
            if case .known(let position) = entry {
                writer.float(position.chosen.logProbability)
            } else {
                writer.null()
            }
        }
        writer.endArray()
        writer.key("top_logprobs")
        writer.beginArray()
        for entry in entries {
            guard case .known(let position) = entry else {
                writer.null()
                continue
            }
            writer.beginObject()
            // Two tokens can have the same text; a JSON object holds the likelier one, and always the chosen one.
            let chosenName = Self.name(of: position.chosen.token, tokenizer)
            var names: Set<String> = [chosenName]
            var chosenWritten = false
            for candidate in position.top {
                if candidate.token == position.chosen.token {
                    writer.key(chosenName)
                    writer.float(position.chosen.logProbability)
                    chosenWritten = true
                    continue
                }
                let name = Self.name(of: candidate.token, tokenizer)
                guard names.insert(name).inserted else { continue }
                writer.key(name)
                writer.float(candidate.logProbability)
            }
            if !chosenWritten {
                writer.key(chosenName)
                writer.float(position.chosen.logProbability)
            }
            writer.endObject()
        }
        writer.endArray()
        writer.key("text_offset")
        writer.beginArray()
        var offset = textOffset
        for entry in entries {
            writer.integer(Int64(offset))
            offset += Self.scalarCount(of: entry.token, tokenizer)
        }
        writer.endArray()
        writer.endObject()
    }

    /// `{"content": [{"token", "logprob", "bytes", "top_logprobs"}]}`, the form of chat completions.
    func writeChat(_ writer: inout JSONWriter, tokenizer: Tokenizer) {
        writer.beginObject()
        writer.key("content")
        writeList(&writer, tokenizer: tokenizer)
        writer.endObject()
    }

    /// `[{"token", "logprob", "bytes", "top_logprobs"}]`, the form of responses.
    func writeList(_ writer: inout JSONWriter, tokenizer: Tokenizer) {
        func write(_ token: TokenLogProbability) {
            writer.key("token")
            writer.string(Self.name(of: token.token, tokenizer))
            writer.key("logprob")
            writer.float(token.logProbability)
            writer.key("bytes")
            writer.beginArray()
            for byte in tokenizer.bytes(of: token.token) { writer.integer(Int64(byte)) }
            writer.endArray()
        }
        writer.beginArray()
        for case .known(let position) in entries {
            writer.beginObject()
            write(position.chosen)
            writer.key("top_logprobs")
            writer.beginArray()
            for candidate in position.top {
                writer.beginObject()
                write(candidate)
                writer.endObject()
            }
            writer.endArray()
            writer.endObject()
        }
        writer.endArray()
    }

    /// `[null, {"token id": {"logprob", "rank", "decoded_token"}}, …]`, the form of vLLM for prompts: at each position
    /// the prompt's own token and the likeliest ones. The own token's rank is null where it is none of those and the engine
    /// did not count it.
    func writePrompt(_ writer: inout JSONWriter, tokenizer: Tokenizer) {
        func write(_ token: TokenLogProbability, rank: Int?) {
            writer.key(String(token.token))
            writer.beginObject()
            writer.key("logprob")
            writer.float(token.logProbability)
            writer.key("rank")
            if let rank { writer.integer(rank) } else { writer.null() }
            writer.key("decoded_token")
            writer.string(Self.name(of: token.token, tokenizer))
            writer.endObject()
        }
        writer.beginArray()
        for entry in entries {
            guard case .known(let position) = entry else {
                writer.null()
                continue
            }
            writer.beginObject()
            let place = position.top.firstIndex { $0.token == position.chosen.token }
            write(position.chosen, rank: position.rank > 0 ? Int(position.rank) : place.map { $0 + 1 })
            for (index, candidate) in position.top.enumerated() where index != place {
                write(candidate, rank: index + 1)
            }
            writer.endObject()
        }
        writer.endArray()
    }

    /// A token's text; if its bytes are no whole characters, `bytes:` and each byte as `\xNN`, as OpenAI does.
    static func name(of token: TokenID, _ tokenizer: Tokenizer) -> String {
        let bytes = tokenizer.bytes(of: token)
        if let text = String(validating: bytes, as: UTF8.self) { return text }
        var name = "bytes:"
        for byte in bytes {
            let digits = String(byte, radix: 16)
            name += "\\x" + (digits.count == 1 ? "0" : "") + digits
        }
        return name
    }

    /// Unicode scalars that a token adds: bytes that begin a character.
    static func scalarCount(of token: TokenID, _ tokenizer: Tokenizer) -> Int {
        tokenizer.bytes(of: token).count { $0 & 0xC0 != 0x80 }
    }
}

extension LogProbabilityText {
    /// The entries of a prompt: the first token's probability is not known.
    ///
    /// - Parameter top: how many of the likeliest tokens were asked for; the engine may have reported more.
    static func entries(
        ofPrompt prompt: [TokenID], _ positions: [PositionLogProbabilities], top: Int
    ) -> [Entry] {
        guard let first = prompt.first else { return [] }
        return [.unknown(first)]
            + positions.map { position in
                .known(
                    position.top.count <= top
                        ? position
                        : PositionLogProbabilities(chosen: position.chosen, top: Array(position.top.prefix(top))))
            }
    }
}

extension LogProbabilityText.Entry {
    var token: TokenID {
        switch self {
        case .unknown(let token): token
        case .known(let position): position.chosen.token
        }
    }
}
