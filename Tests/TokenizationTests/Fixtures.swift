// Tandem — Apache-2.0

import Foundation
import JSON
import Requests
import TestSupport
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

    /// The tokenizer of the real model, made once.
    static let realTokenizer = Result<Tokenizer?, any Error> {
        try ModelFixture.path().map { try Tokenizer(gguf: GGUFFile(path: $0)) }
    }
}

extension Fixtures {
    /// A path that the environment names, for tests with files that are too large to be committed; nil, with the reason
    /// printed, if it does not.
    static func path(_ variable: String) -> String? {
        if let path = ProcessInfo.processInfo.environment[variable], !path.isEmpty { return path }
        print("skipped: \(variable) is not set")
        return nil
    }
}

/// A vocabulary of the 256 bytes, the results of some merges, and special tokens.
func smallDefinition(
    merges: [String] = ["h e", "l l", "he ll", "hell o", "Ġ w", "a a", "aa aa"],
    control: [String] = ["<|im_start|>", "<|im_end|>", "<|im"],
    userDefined: [String] = ["[user]"],
    preTokenizer: PreTokenizer = PreTokenizer(isolatesDigits: true, pattern: .gpt2)
) -> TokenizerDefinition {
    var tokens = (0..<256).map { ByteAlphabet.encode([UInt8($0)]) }
    for merge in merges {
        let merged = merge.replacing(" ", with: "")
        if !tokens.contains(merged) { tokens.append(merged) }
    }
    var types = [TokenizerDefinition.TokenType](repeating: .normal, count: tokens.count)
    tokens += control + userDefined
    types += control.map { _ in .control } + userDefined.map { _ in .userDefined }
    return TokenizerDefinition(
        preTokenizer: preTokenizer, tokens: tokens, types: types, merging: .lines(merges))
}

extension JSONValue {
    /// The member of an object; nil for what is no object or has no such member.
    subscript(key: String) -> JSONValue? { object?[key] }
}
