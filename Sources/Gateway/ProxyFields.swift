// Tandem — Apache-2.0

import JSON
import NIOCore
import Requests

/// What a gateway has to know of a request that it passes on as it is.
struct ProxyFields: Equatable {
    /// `nil` if the request names none.
    var model: String?
    var isStream = false
    /// Most tokens that are asked for.
    var maximumTokens: Int?
    private var candidates = 1
    private var prompts = 1
    /// Choices that the answer has: so many of each prompt.
    var choices: Int { candidates.multipliedReportingOverflow(by: prompts).partialValue }
    /// What requests that belong together have in common, as the body says it.
    var sessionName: String?
    /// Where `prompt`, `messages` or `input` stands in the body.
    var prompt: Range<Int>?

    /// Reads a body once; of one that is no JSON object nothing is known, and the engine will say what is wrong with it.
    init(_ body: ByteBuffer) {
        let bytes = body.readableBytesUInt8Span
        var cursor = JSONCursor(bytes)
        var modelPlace: Range<Int>?
        var sessionRank = Int.max
        _ = cursor.members { cursor, key in
            guard cursor.peek() != nil else { return false }
            if cursor.matches(key, "model") {
                modelPlace = cursor.value()
                return modelPlace != nil
            }
            if cursor.matches(key, "messages") || cursor.matches(key, "prompt") || cursor.matches(key, "input") {
                prompt = cursor.value()
                if let prompt, cursor.matches(key, "prompt") { prompts = Self.prompts(bytes, prompt) }
                return prompt != nil
            }
            guard let value = cursor.value() else { return false }
            if cursor.matches(key, "stream") {
                isStream = cursor.matches(value, "true")
            } else if cursor.matches(key, "max_tokens") || cursor.matches(key, "max_completion_tokens")
                || cursor.matches(key, "max_output_tokens")
            {
                maximumTokens = cursor.integer(value) ?? maximumTokens
            } else if cursor.matches(key, "n") {
                candidates = max(1, min(cursor.integer(value) ?? 1, 1024))
            } else if value.count > 2, let rank = Self.sessionKeys.firstIndex(where: { cursor.matches(key, $0) }),
                rank <= sessionRank, let name = Self.text(bytes, value)
            {
                (sessionRank, sessionName) = (rank, name)
            }
            return true
        }
        model = modelPlace.flatMap { Self.text(bytes, $0) }
    }

    /// How many prompts a value holds: one unless it is a list of texts or of lists of token ids.
    private static func prompts(_ bytes: Span<UInt8>, _ place: Range<Int>) -> Int {
        guard bytes[place.lowerBound] == UInt8(ascii: "[") else { return 1 }
        var cursor = JSONCursor(bytes, at: place.lowerBound)
        var count = 0
        _ = cursor.elements { cursor in
            guard let first = cursor.peek(), first == UInt8(ascii: "\"") || first == UInt8(ascii: "["),
                cursor.value() != nil
            else { return false }
            count += 1
            return true
        }
        return max(1, count)
    }

    /// The first of them counts; see ``SessionKey``.
    private static let sessionKeys: [StaticString] = ["session_id", "prompt_cache_key", "user"]

    /// A value that is a string; nil for any other.
    private static func text(_ bytes: Span<UInt8>, _ place: Range<Int>) -> String? {
        guard bytes[place.lowerBound] == UInt8(ascii: "\""), place.count >= 2 else { return nil }
        return bytes.extracting(place).withUnsafeBufferPointer { bytes in
            guard bytes.contains(UInt8(ascii: "\\")) else {
                return String(decoding: bytes.dropFirst().dropLast(), as: UTF8.self)
            }
            return (try? JSONParser.parse(bytes))?.string
        }
    }
}

/// Identities of the parts with which a prompt begins: equal beginnings have equal ones.
enum PromptChunks {
    /// Bytes of a part, and about how many tokens that is.
    static let bytes = 256
    static let tokens = 64
    /// Parts that are looked at: a longer common beginning makes no difference.
    private static let maximumCount = 64

    static func hashes(of body: ByteBuffer, in prompt: Range<Int>, model: String?) -> [BlockHash] {
        let count = min(prompt.count / bytes, maximumCount)
        guard count > 0 else { return [] }
        return body.withUnsafeReadableBytes { all in
            var seed = StableHash(seed: 0x9A27)
            seed.combine(bytes: (model ?? "").utf8)
            var before = seed.digest()
            return (0..<count).map { index in
                var hash = StableHash(seed: before.high)
                hash.combine(before.low)
                let start = prompt.lowerBound + index * bytes
                hash.combine(buffer: UnsafeRawBufferPointer(rebasing: all[start..<start + bytes]))
                before = hash.digest()
                return BlockHash(before)
            }
        }
    }
}
