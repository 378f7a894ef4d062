// Tandem — Apache-2.0

import Foundation
import JSON
import Requests
import TestSupport
import Testing

@testable import Tokenization

/// `tokenizer.json` and the files beside it.
@Suite struct TokenizerJSONTests {
    static func json(_ text: String) throws -> JSONValue { try JSONParser.parse(Array(text.utf8)) }

    static let contractions = #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"#
    static let qwen = contractions + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#

    /// A byte-level vocabulary like Qwen's: the 256 bytes, a few merges, added tokens.
    static func byteLevel() throws -> JSONObject {
        var vocabulary = JSONObject()
        for byte in 0..<256 { vocabulary[ByteAlphabet.encode([UInt8(byte)])] = .integer(Int64(byte)) }
        for (index, token) in ["he", "ll", "hell", "hello", "Ġw", "Ã©"].enumerated() {
            vocabulary[token] = .integer(Int64(256 + index))
        }
        let text = """
            {"version": "1.0",
             "added_tokens": [
              {"id": 262, "content": "<|im_end|>", "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true},
              {"id": 263, "content": "<tool>", "single_word": false, "lstrip": true, "rstrip": true,
               "normalized": false, "special": false},
              {"id": 264, "content": "\\u00e9!", "normalized": true, "special": false}],
             "normalizer": {"type": "NFC"},
             "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
               {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": false},
               {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
             "post_processor": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"},
             "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
               "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
               "vocab": {}, "merges": ["h e", "l l", "he ll", "hell o", "Ġ w", "Ã ©"]}}
            """
        var root = try #require(try json(text).object)
        set(&root, ["pre_tokenizer", "pretokenizers", "0", "pattern", "Regex"], .string(qwen))
        set(&root, ["model", "vocab"], .object(vocabulary))
        return root
    }

    /// A vocabulary like those of Llama 2 and Gemma: U+2581 and bytes.
    static func spaced(normalizer: String, preTokenizer: String = "null", decoder: String) throws -> JSONObject {
        var vocabulary = JSONObject()
        for (index, token) in ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab"].enumerated() {
            vocabulary[token] = .integer(Int64(index))
        }
        for byte in 0..<256 {
            let digits = String(byte, radix: 16, uppercase: true)
            vocabulary["<0x\(digits.count < 2 ? "0" : "")\(digits)>"] = .integer(Int64(9 + byte))
        }
        let text = """
            {"added_tokens": [
              {"id": 0, "content": "<unk>", "normalized": false, "special": true},
              {"id": 1, "content": "<s>", "normalized": false, "special": true},
              {"id": 2, "content": "</s>", "normalized": false, "special": true}],
             "normalizer": \(normalizer), "pre_tokenizer": \(preTokenizer), "decoder": \(decoder),
             "post_processor": {"type": "TemplateProcessing",
               "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
               "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
             "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
               "vocab": {}, "merges": [["a", "b"], ["▁", "ab"], ["▁", "a"]]}}
            """
        var root = try #require(try json(text).object)
        set(&root, ["model", "vocab"], .object(vocabulary))
        return root
    }

    static let spacesNormalizer = """
        {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
         {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
        """
    static let spacesDecoder = """
        {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
         {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
        """

    /// Sets the value at a way of keys and indices; nil removes it.
    static func set(_ object: inout JSONObject, _ way: [String], _ value: JSONValue?) {
        var root = JSONValue.object(object)
        root = replace(root, way[...], value) ?? .null
        object = root.object ?? object
    }

    private static func replace(_ value: JSONValue, _ way: ArraySlice<String>, _ new: JSONValue?) -> JSONValue? {
        guard let key = way.first else { return new }
        if var object = value.object {
            object[key] = replace(object[key] ?? .null, way.dropFirst(), new)
            return .object(object)
        }
        if var array = value.array, let index = Int(key), array.indices.contains(index) {
            array[index] = replace(array[index], way.dropFirst(), new) ?? .null
            return .array(array)
        }
        return value
    }

    static func tokenizer(
        _ root: JSONObject, config: String? = nil, generation: String? = nil, template: String? = nil
    ) throws -> Tokenizer {
        let files = TokenizerFiles(
            tokenizer: .object(root), tokenizerConfig: try config.map(json), generationConfig: try generation.map(json),
            chatTemplate: template)
        return try Tokenizer(files.definition())
    }

    func encode(_ text: String, _ root: JSONObject, special: Bool = true) throws -> [String?] {
        let tokenizer = try Self.tokenizer(root)
        return tokenizer.encode(text, addSpecialTokens: true, parseSpecialTokens: special).map {
            tokenizer.vocabularyString($0)
        }
    }

    // MARK: - What is read

    @Test func byteLevelVocabulariesAreRead() throws {
        var root = try Self.byteLevel()
        #expect(try encode("hello w<|im_end|>", root) == ["hello", "Ġw", "<|im_end|>"])
        #expect(try encode("a  <tool> \n b", root) == ["a", "<tool>", "b"])
        #expect(try encode("e\u{301}", root) == ["Ã©"])
        // Found once the text is in form C, and after those that are found in the text as it is.
        #expect(try encode("e\u{301}!", root) == ["\u{E9}!"])
        #expect(try encode("<|im_end|>", root, special: false).count == 10)
        Self.set(
            &root, ["model", "merges"],
            .array([["h", "e"], ["l", "l"], ["he", "ll"]].map { .array($0.map { .string($0) }) }))
        #expect(try encode("hello", root) == ["hell", "o"])
        Self.set(&root, ["model", "ignore_merges"], .bool(true))
        #expect(try encode("hello", root) == ["hello"])
    }

    @Test func theOtherPreTokenizersAreKnown() throws {
        var root = try Self.byteLevel()
        let level = #"{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}"#
        for (text, words) in [
            (level, ["4", "2", "!"]),
            (
                #"{"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, \#(level)]}"#,
                nil
            ),
        ] {
            Self.set(&root, ["pre_tokenizer"], try Self.json(text))
            #expect(try encode("42!", root) == words ?? ["4", "2", "!"])
        }
        let reader = try TokenizerFiles(tokenizer: .object(root)).definition()
        #expect(reader.preTokenizer?.isolatesDigits == true && reader.preTokenizer?.pattern == .gpt2)
        let llama = Self.qwen.replacing(#"\p{N}|"#, with: #"\p{N}{1,3}|"#, maxReplacements: 1)
        #expect(PreTokenizer.Pattern(regularExpression: llama) == .llama3(digits: 3))
        #expect(PreTokenizer.Pattern(regularExpression: Self.qwen) == .llama3(digits: 1))
        #expect(PreTokenizer.Pattern(regularExpression: Self.qwen + " ") == nil)
    }

    @Test func spacedVocabulariesAreRead() throws {
        let root = try Self.spaced(normalizer: Self.spacesNormalizer, decoder: Self.spacesDecoder)
        #expect(try encode("ab", root) == ["<s>", "▁ab"])
        #expect(try encode(" ab</s>b é", root) == ["<s>", "▁", "▁ab", "</s>", "▁", "b", "▁", "<0xC3>", "<0xA9>"])
        let tokenizer = try Self.tokenizer(root)
        let ids = tokenizer.encode("ab é", addSpecialTokens: false, parseSpecialTokens: true)
        #expect(tokenizer.decode(ids, skipSpecialTokens: true) == "ab é")
        #expect(
            tokenizer.addsBOS == false && tokenizer.encode("", addSpecialTokens: true, parseSpecialTokens: true) == [1])
    }

    @Test func metaspaceSplitsBeforeSpaces() throws {
        func root(_ scheme: String, _ split: Bool) throws -> JSONObject {
            let metaspace = #""type": "Metaspace", "replacement": "▁", "prepend_scheme": "\#(scheme)""#
            return try Self.spaced(
                normalizer: "null", preTokenizer: #"{\#(metaspace), "split": \#(split)}"#,
                decoder: #"{"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {\#(metaspace)}]}"#)
        }
        #expect(try encode("ab</s>ab", root("always", true)) == ["<s>", "▁ab", "</s>", "▁ab"])
        #expect(try encode("ab</s>ab", root("first", true)) == ["<s>", "▁ab", "</s>", "ab"])
        #expect(try encode("</s>ab", root("first", true)) == ["<s>", "</s>", "ab"])
        #expect(try encode("ab", root("never", false)) == ["<s>", "ab"])
        #expect(try encode(" ab", root("always", false)) == ["<s>", "▁ab"])
    }

    @Test func unknownCharactersAreFused() throws {
        var root = try Self.spaced(normalizer: Self.spacesNormalizer, decoder: Self.spacesDecoder)
        Self.set(&root, ["model", "byte_fallback"], .bool(false))
        #expect(try encode("aéüb", root) == ["<s>", "▁a", "<unk>", "b"])
        Self.set(&root, ["model", "fuse_unk"], .bool(false))
        #expect(try encode("aéüb", root) == ["<s>", "▁a", "<unk>", "<unk>", "b"])
    }

    @Test func theConfigurationNamesTokensAndTemplate() throws {
        let root = try Self.spaced(normalizer: Self.spacesNormalizer, decoder: Self.spacesDecoder)
        let config = #"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "x", "#
        let plain = try Self.tokenizer(root, config: config + #""add_bos_token": true, "add_eos_token": true}"#)
        #expect(plain.bosToken == 1 && plain.eosToken == 2 && plain.addsBOS && plain.addsEOS)
        #expect(plain.encode("", addSpecialTokens: true, parseSpecialTokens: true) == [1, 2])
        #expect(plain.endOfGenerationTokens == [2] && plain.chatTemplateSource == "x")
        let without = try Self.tokenizer(root, config: #"{"bos_token": "<s>", "add_bos_token": false}"#)
        #expect(without.encode("", addSpecialTokens: true, parseSpecialTokens: true) == [])
        let named = #"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#
        #expect(try Self.tokenizer(root, config: named).chatTemplateSource == "d")
        #expect(try Self.tokenizer(root, config: named, template: "file").chatTemplateSource == "file")
        let several = try Self.tokenizer(root, generation: #"{"eos_token_id": [2, 300]}"#)
        #expect(several.endOfGenerationTokens == [2, 300])
        #expect(try Self.tokenizer(root, generation: #"{"eos_token_id": 4}"#).endOfGenerationTokens == [2, 4])
    }

    @Test func aDirectoryIsReadAndItsFingerprintIsThatOfItsTokenizer() throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("tandem-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let missing = #expect(throws: TokenizationError.self) { try Tokenizer(path: directory.path) }
        #expect(missing?.description.contains("tokenizer.json") == true)

        var writer = JSONWriter()
        writer.value(.object(try Self.byteLevel()))
        let bytes = writer.bytes
        try Data(bytes).write(to: directory.appendingPathComponent("tokenizer.json"))
        try Data("{{ x }}".utf8).write(to: directory.appendingPathComponent("chat_template.jinja"))
        try Data(#"{"eos_token_id": 7}"#.utf8).write(to: directory.appendingPathComponent("generation_config.json"))
        var hash = StableHash()
        bytes.withUnsafeBytes { hash.combine(buffer: $0) }
        for path in [directory.path, directory.path + "/", directory.path + "/tokenizer.json"] {
            let tokenizer = try Tokenizer(path: path)
            #expect(tokenizer.fingerprint == hash.digest())
            #expect(tokenizer.chatTemplateSource == "{{ x }}")
            #expect(tokenizer.endOfGenerationTokens == [7, 262])
        }
        try Data("{".utf8).write(to: directory.appendingPathComponent("tokenizer_config.json"))
        let broken = #expect(throws: TokenizationError.self) { try Tokenizer(path: directory.path) }
        #expect(broken?.file?.hasSuffix("tokenizer_config.json") == true)
        #expect(throws: TokenizationError.self) { try Tokenizer(path: directory.path + "/none") }
    }

    // MARK: - What is refused

    func refused(_ way: String, _ value: String?, field: String, _ root: JSONObject) throws {
        var root = root
        Self.set(&root, way.split(separator: ".").map(String.init), try value.map(Self.json))
        let error = #expect(throws: TokenizationError.self, "\(way)") { try Self.tokenizer(root) }
        #expect(error?.file == "tokenizer.json")
        #expect(error?.field == field, "\(way): \(error.map(String.init(describing:)) ?? "")")
    }

    @Test func whatIsNotSupportedIsRefusedByName() throws {
        let root = try Self.byteLevel()
        try refused("model", nil, field: "model", root)
        try refused("model.type", #""Unigram""#, field: "model.type", root)
        try refused("model.type", "7", field: "model.type", root)
        try refused("model.dropout", "0.1", field: "model.dropout", root)
        try refused("model.end_of_word_suffix", #""</w>""#, field: "model.end_of_word_suffix", root)
        try refused("model.unk_token", #""<none>""#, field: "model.unk_token", root)
        try refused("model.vocab", "[]", field: "model.vocab", root)
        for id in ["-1", "1.5", "1048576", "255", #""1""#] {
            try refused("model.vocab.hello", id, field: "model.vocab", root)
        }
        try refused("model.merges", nil, field: "model.merges", root)
        for merge in [#""h""#, #""x yz""#, "7", #"["h", "e"]"#, #""h e""#] {
            try refused("model.merges.3", merge, field: "model.merges", root)
        }
        try refused("added_tokens.0.id", "12", field: "added_tokens[0].id", root)
        try refused("added_tokens.1.id", "262", field: "added_tokens[1].id", root)
        try refused("added_tokens.1.id", "4000000000", field: "added_tokens[1].id", root)
        try refused("added_tokens.1.content", #""<|im_end|>""#, field: "added_tokens[1].id", root)
        try refused("added_tokens.1.single_word", "true", field: "added_tokens[1].single_word", root)
        try refused("normalizer.type", #""NFKC""#, field: "normalizer", root)
        try refused("pre_tokenizer", "null", field: "pre_tokenizer", root)
        try refused(
            "pre_tokenizer.pretokenizers.0.pattern.Regex", #""\\w+""#,
            field: "pre_tokenizer.pretokenizers[0].pattern", root)
        try refused(
            "pre_tokenizer.pretokenizers.0.behavior", #""Removed""#,
            field: "pre_tokenizer.pretokenizers[0].behavior", root)
        try refused(
            "pre_tokenizer.pretokenizers.1.add_prefix_space", "true",
            field: "pre_tokenizer.pretokenizers[1].add_prefix_space", root)
        try refused("decoder", nil, field: "decoder", root)
        try refused("decoder.type", #""WordPiece""#, field: "decoder", root)
        try refused("post_processor.type", #""RobertaProcessing""#, field: "post_processor", root)

        let spaced = try Self.spaced(normalizer: Self.spacesNormalizer, decoder: Self.spacesDecoder)
        try refused("post_processor.special_tokens", "{}", field: "post_processor.special_tokens.<s>.ids", spaced)
        try refused("post_processor.special_tokens.<s>.ids.0", "900", field: "post_processor", spaced)
        try refused("post_processor.single.1", #"{"Sequence": {"id": "B"}}"#, field: "post_processor.single[1]", spaced)
        try refused("normalizer.normalizers.0.prepend", #""x""#, field: "normalizer.normalizers[0].prepend", spaced)
        try refused("normalizer", "null", field: "pre_tokenizer", spaced)
    }

    @Test func configurationsThatContradictTheVocabularyAreRefused() throws {
        let root = try Self.byteLevel()
        for (config, field) in [
            (#"{"eos_token": "<none>"}"#, "eos_token"), (#"{"bos_token": 7}"#, "bos_token"),
            (#"{"add_bos_token": true}"#, "bos_token"), (#"{"chat_template": 7}"#, "chat_template"),
            (#"{"chat_template": [{"name": "a", "template": ""}, {"name": "b"}]}"#, "chat_template"),
        ] {
            let error = #expect(throws: TokenizationError.self) { try Self.tokenizer(root, config: config) }
            #expect(error?.file == "tokenizer_config.json" && error?.field == field)
        }
        for id in ["-1", "1.5", "[null]", "4294967296"] {
            let generation = #"{"eos_token_id": \#(id)}"#
            let error = #expect(throws: TokenizationError.self) { try Self.tokenizer(root, generation: generation) }
            #expect(error?.file == "generation_config.json")
        }
    }

    // MARK: - Hostile files

    /// Whatever stands in the file: an error, or a tokenizer that works.
    func survives(_ value: JSONValue) {
        guard
            let tokenizer = try? Tokenizer(
                TokenizerFiles(tokenizer: value, tokenizerConfig: value, generationConfig: value).definition())
        else { return }
        let ids = tokenizer.encode(
            "hello  w\u{E9}e\u{301}!<s> 42<tool>\n\u{1F600}", addSpecialTokens: true, parseSpecialTokens: true)
        #expect(ids.allSatisfy { $0 >= 0 && $0 < tokenizer.vocabularySize })
        _ = tokenizer.decode(ids, skipSpecialTokens: false)
        for token in -1...tokenizer.vocabularySize { _ = tokenizer.vocabularyString(TokenID(token)) }
    }

    static func mutate(_ value: JSONValue, _ random: inout SeededGenerator) -> JSONValue {
        switch value {
        case .object(var object) where !object.entries.isEmpty && Int.random(in: 0..<12, using: &random) > 0:
            guard let entry = object.entries.randomElement(using: &random) else { return value }
            object[entry.key] =
                Int.random(in: 0..<15, using: &random) == 0 ? nil : mutate(entry.value, &random)
            return .object(object)
        case .array(var array) where !array.isEmpty && Int.random(in: 0..<12, using: &random) > 0:
            let index = Int.random(in: 0..<array.count, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0: array.remove(at: index)
            case 1: array.append(array[index])
            default: array[index] = mutate(array[index], &random)
            }
            return .array(array)
        default:
            let others: [JSONValue] = [
                .null, .bool(true), .bool(false), .integer(0), .integer(-1), .integer(3), .integer(262), .integer(.max),
                .integer(.min), .number(0.5), .string(""), .string("a"), .string("▁"), .string(" "), .string("h e"),
                .string("<s>"), .string("Sequence"), .string("Metaspace"), .string("ByteLevel"), .array([]),
                .object(JSONObject()),
            ]
            return others.randomElement(using: &random) ?? .null
        }
    }

    @Test func mutatedFilesGiveAnErrorOrATokenizer() throws {
        let metaspace = #"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}"#
        let roots = try [
            Self.byteLevel(), Self.spaced(normalizer: Self.spacesNormalizer, decoder: Self.spacesDecoder),
            Self.spaced(normalizer: "null", preTokenizer: metaspace, decoder: metaspace),
        ]
        var random = SeededGenerator(seed: 21)
        for round in 0..<1500 {
            var value = JSONValue.object(roots[round % roots.count])
            for _ in 0..<Int.random(in: 1...4, using: &random) { value = Self.mutate(value, &random) }
            survives(value)
        }
    }

    @Test func mutatedBytesGiveAnErrorOrATokenizer() throws {
        var writer = JSONWriter()
        writer.value(.object(try Self.spaced(normalizer: Self.spacesNormalizer, decoder: Self.spacesDecoder)))
        let bytes = writer.bytes
        var random = SeededGenerator(seed: 22)
        for _ in 0..<1000 {
            var mutated = bytes
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                mutated[Int.random(in: 0..<mutated.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if let value = try? JSONParser.parse(mutated) { survives(value) }
        }
    }
}
