// Tandem — Apache-2.0

import Foundation
import JSON
import Requests
import Testing
import Weights

@testable import Tokenization

/// Where the tests find what they compare with.
enum Fixtures {
    static func data(_ name: String) throws -> Data {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent()
        return try Data(
            contentsOf: root.appendingPathComponent("Fixtures").appendingPathComponent(name))
    }

    static func decode<Value: Decodable>(_ type: Value.Type, _ name: String) throws -> Value {
        try JSONDecoder().decode(type, from: data(name))
    }

    /// The path of the real model; nil, with the reason printed, where there is none and none is required.
    static func modelPath() throws -> String? {
        let environment = ProcessInfo.processInfo.environment
        let home = environment["HOME"] ?? ""
        let cache =
            environment["TANDEM_CACHE"] ?? (environment["XDG_CACHE_HOME"] ?? home + "/.cache") + "/tandem"
        let path =
            environment["TANDEM_TEST_MODEL"] ?? cache + "/models/SmolLM2-135M-Instruct.Q4_1.gguf"
        if FileManager.default.isReadableFile(atPath: path) { return path }
        let reason = "no model at \(path); set TANDEM_TEST_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf"
        if environment["TANDEM_REQUIRE_MODEL"] == "1" { throw MissingModel(description: reason) }
        print("skipped: \(reason)")
        return nil
    }

    struct MissingModel: Error, CustomStringConvertible {
        let description: String
    }

    /// The tokenizer of the real model, made once.
    static let realTokenizer = Result<Tokenizer?, any Error> {
        try modelPath().map { try Tokenizer(gguf: GGUFFile(path: $0)) }
    }
}

/// A vocabulary of the 256 bytes, the results of some merges, and special tokens.
func smallDefinition(
    merges: [String] = ["h e", "l l", "he ll", "hell o", "Ġ w", "a a", "aa aa"],
    control: [String] = ["<|im_start|>", "<|im_end|>", "<|im"],
    userDefined: [String] = ["[user]"],
    preTokenizer: String = "smollm"
) -> TokenizerDefinition {
    var tokens = (0..<256).map { ByteAlphabet.encode([UInt8($0)]) }
    for merge in merges {
        let merged = merge.replacing(" ", with: "")
        if !tokens.contains(merged) { tokens.append(merged) }
    }
    var types = [Int64](repeating: 1, count: tokens.count)
    tokens += control + userDefined
    types += control.map { _ in 3 } + userDefined.map { _ in 4 }
    return TokenizerDefinition(
        preTokenizer: preTokenizer, tokens: tokens, types: types, merges: merges)
}

/// SplitMix64, so that random tests are the same in every run.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        return StableHash.mix(state)
    }
}

extension JSONValue {
    /// The member of an object; nil for what is no object or has no such member.
    subscript(key: String) -> JSONValue? { object?[key] }
}
