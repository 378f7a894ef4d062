// Tandem — Apache-2.0

import JSON
import Requests

/// How tokens are chosen and when a text ends.
extension GenerationRequest {
    /// Most choices a request may ask for.
    static let maximumChoices = 128
    /// Most stop strings, and the longest of them in bytes.
    private static let maximumStops = 16
    private static let maximumStopBytes = 1024
    private static let maximumStopTokens = 128
    private static let maximumBiases = 1024

    mutating func readSampling(_ fields: RequestFields, vocabularySize: Int) throws(APIError) {
        choices = try fields.integer("n", in: 1...Self.maximumChoices) ?? 1
        candidates = choices
        sampling.temperature = Float(try fields.number("temperature", in: 0...2) ?? 1)
        let topP = try fields.number("top_p", in: 0...1) ?? 1
        guard topP > 0 else { throw .invalid("top_p", "`top_p` is 0.0 but must be above 0.0 and at most 1.0") }
        // A tiny double must not become a zero float.
        sampling.topP = max(Float(topP), .leastNormalMagnitude)
        let topK = try fields.integer("top_k", in: -1...Int(Int32.max)) ?? 0
        sampling.topK = Int32(max(topK, 0))
        sampling.minP = Float(try fields.number("min_p", in: 0...1) ?? 0)
        sampling.presencePenalty = Float(try fields.number("presence_penalty", in: -2...2) ?? 0)
        sampling.frequencyPenalty = Float(try fields.number("frequency_penalty", in: -2...2) ?? 0)
        let repetition = try fields.number("repetition_penalty", in: 0...10) ?? 1
        guard repetition > 0 else {
            throw .invalid(
                "repetition_penalty", "`repetition_penalty` is 0.0 but must be above 0.0 and at most 10.0")
        }
        sampling.repetitionPenalty = max(Float(repetition), .leastNormalMagnitude)
        logitBias = try Self.readBiases(fields, vocabularySize: vocabularySize)
        guard let value = fields.value("seed") else {
            sampling.seed = .random(in: .min ... .max)
            return
        }
        guard let seed = RequestFields.integer(value) else {
            throw .invalid("seed", "`seed` must be an integer of at most 64 bits")
        }
        sampling.seed = UInt64(bitPattern: seed)
    }

    mutating func readEnds(_ fields: RequestFields, vocabularySize: Int) throws(APIError) {
        stop = try fields.strings("stop", atMost: Self.maximumStops, orOne: true) ?? []
        for string in stop where string.utf8.count > Self.maximumStopBytes {
            throw .invalid(
                "stop",
                "a `stop` string has \(string.utf8.count) bytes but may have at most \(Self.maximumStopBytes)")
        }
        includeStopText = try fields.bool("include_stop_str_in_output") ?? false
        if let values = try fields.array("stop_token_ids") {
            guard values.count <= Self.maximumStopTokens else {
                throw fields.invalid("stop_token_ids", "may have at most \(Self.maximumStopTokens) entries")
            }
            stopTokens = try TokenID.read(values, name: "stop_token_ids", vocabularySize: vocabularySize)
        }
        ignoreEndOfSequence = try fields.bool("ignore_eos") ?? false
        minimumNewTokens = try fields.integer("min_tokens", in: 0...Int(Int32.max)) ?? 0
        if let maximumNewTokens, minimumNewTokens > maximumNewTokens {
            throw .invalid(
                "min_tokens",
                "`min_tokens` is \(minimumNewTokens) but must be at most the number of tokens that may be generated, "
                    + "which is \(maximumNewTokens)")
        }
    }

    /// `{"token id": bias}`, with ids as decimal numbers.
    private static func readBiases(
        _ fields: RequestFields, vocabularySize: Int
    ) throws(APIError) -> [TokenBias] {
        guard let object = try fields.nested("logit_bias")?.object else { return [] }
        guard object.count <= maximumBiases else {
            throw fields.invalid("logit_bias", "has \(object.count) entries but may have at most \(maximumBiases)")
        }
        var biases: [TokenBias] = []
        biases.reserveCapacity(object.count)
        for (key, value) in object.entries {
            // One spelling an id, so that no token stands here twice.
            guard let token = TokenID(key), String(token) == key else {
                throw fields.invalid("logit_bias", "has the key `\(shortened(key))`, which is no decimal token id")
            }
            guard (0..<Int64(vocabularySize)).contains(Int64(token)) else {
                throw fields.invalid(
                    "logit_bias", "has the key \(token), but token ids run from 0 to \(vocabularySize - 1)")
            }
            guard let bias = value.number else {
                throw fields.invalid(
                    "logit_bias", "must have a number for token \(token), not \(RequestFields.describe(value))")
            }
            guard (-100...100).contains(bias) else {
                throw fields.invalid(
                    "logit_bias", "has \(bias) for token \(token) but biases must be between -100 and 100")
            }
            biases.append(TokenBias(token: token, bias: Float(bias)))
        }
        return biases
    }
}

/// A client's text as it may stand in a message: with its first characters only.
func shortened(_ text: String, to limit: Int = 64) -> String {
    let scalars = text.unicodeScalars
    guard let end = scalars.index(scalars.startIndex, offsetBy: limit, limitedBy: scalars.endIndex),
        end < scalars.endIndex
    else { return text }
    return String(scalars[..<end]) + "…"
}
