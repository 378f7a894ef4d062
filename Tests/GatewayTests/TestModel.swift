// Tandem — Apache-2.0

import JSON
import NIOCore
import Requests
import Routing
import TestSupport
import Testing
import Tokenization
import Weights

@testable import Gateway

/// A byte-level tokenizer of the 256 bytes and two control tokens, so that token ids are readable in tests: the id of
/// an ASCII character is its code.
enum TestModel {
    static let end: TokenID = 257

    /// - Parameters:
    ///   - merges: as the model file writes them, each with the token that it yields from id 258 on.
    ///   - specials: control tokens after those.
    static func tokenizer(merges: [String] = [], specials: [String] = [], addsBOS: Bool = false) throws -> Tokenizer {
        // The byte alphabet of GPT-2: printable bytes stand for themselves, the others for code points from 256 on.
        var tokens: [String] = []
        var next: UInt32 = 256
        for byte in UInt32(0)..<256 {
            let printable = (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte)
            let scalar = printable ? byte : next
            if !printable { next += 1 }
            tokens.append(String(Character(try #require(Unicode.Scalar(scalar)))))
        }
        tokens += ["<|start|>", "<|end|>"]
        tokens += merges.map { $0.filter { $0 != " " } }
        tokens += specials
        var builder = GGUFBuilder()
        builder.add("general.architecture", .string("llama"))
        builder.add("tokenizer.ggml.model", .string("gpt2"))
        builder.add("tokenizer.ggml.pre", .string("gpt-2"))
        builder.add("tokenizer.ggml.tokens", .strings(tokens))
        builder.add(
            "tokenizer.ggml.token_type",
            .int32s(
                Array(repeating: 1, count: 256) + [3, 3] + merges.map { _ in 1 } + specials.map { _ in 3 }))
        builder.add("tokenizer.ggml.merges", .strings(merges))
        builder.add("tokenizer.ggml.bos_token_id", .uint32(256))
        builder.add("tokenizer.ggml.eos_token_id", .uint32(257))
        builder.add("tokenizer.ggml.add_bos_token", .bool(addsBOS))
        return try Tokenizer(gguf: GGUFFile(bytes: builder.build(), name: "test.gguf"))
    }

    static func json(_ text: String) throws -> JSONValue {
        try JSONParser.parse(Array(text.utf8), limits: JSONLimits())
    }
}

extension String {
    /// The ids of ASCII text under ``TestModel/tokenizer()``.
    var ids: [TokenID] { utf8.map { TokenID($0) } }
}
