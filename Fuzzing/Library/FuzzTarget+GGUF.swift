// Tandem — Apache-2.0

import LanguageModel
import TestSupport
import Tokenization
import Weights

extension FuzzTarget {
    private static let path = "hostile.gguf"

    /// A GGUF file: its metadata, every tensor, the model it describes and its tokenizer.
    static func gguf() -> FuzzTarget {
        let seeds = [
            GGUFSeeds.everything(), GGUFSeeds.model("llama", tokenizer: .byteLevel),
            GGUFSeeds.model("gemma3", tokenizer: .scored), GGUFSeeds.model("qwen2", tokenizer: .byteLevel),
        ]
        return FuzzTarget(name: "gguf", dialect: .binary, seeds: seeds, consume: read)
    }

    private static func read(_ input: [UInt8]) -> FuzzOutcome {
        let file: GGUFFile
        do {
            file = try GGUFFile(bytes: input, name: path)
        } catch {
            guard let offset = error.offset, offset <= UInt64(input.count) else {
                return .fault("a refusal without an offset in the file: \(error)")
            }
            return refusal(error, names: [path, "byte \(offset)"])
        }
        if let fault = readMetadata(file) ?? readTensors(of: file, size: input.count) { return .fault(fault) }
        var refused: FuzzOutcome?
        do {
            ModelUse.use(try DecoderDescription(gguf: file))
        } catch {
            let outcome = refusal(error, names: [path, error.subject])
            guard outcome == .refused else { return outcome }
            refused = outcome
        }
        do {
            let tokenizer = try Tokenizer(gguf: file)
            if let fault = TokenizerUse.fault(of: tokenizer) { return .fault(fault) }
        } catch {
            let outcome = refusal(error, names: [path, error.field])
            guard outcome == .refused else { return outcome }
            refused = outcome
        }
        return refused ?? .accepted
    }

    private static func readMetadata(_ file: GGUFFile) -> String? {
        for key in file.metadata.keys {
            guard let value = file.metadata[key] else { return "the key \(key.debugDescription) has no value" }
            if let fault = walk(value) { return "the key \(key.debugDescription): \(fault)" }
        }
        return nil
    }

    private static func walk(_ value: GGUFValue) -> String? {
        guard let array = value.array else { return nil }
        guard let elements = array.elements, elements.count == array.count else {
            return "an array that was checked cannot be decoded"
        }
        _ = (array.strings, array.integers, array.floats)
        return elements.lazy.compactMap(walk).first
    }

    /// Of large tensors only the first block is decoded.
    static func readTensors(of source: some TensorSource, size: Int) -> String? {
        for tensor in source.tensors {
            guard tensor.byteCount > 0, tensor.offset <= UInt64(size),
                UInt64(tensor.byteCount) <= UInt64(size) - tensor.offset,
                source.bytes(of: tensor).count == tensor.byteCount
            else { return "a tensor beyond the file's end: \(tensor)" }
            guard source.tensor(named: tensor.name)?.offset == tensor.offset else {
                return "a tensor not found: \(tensor)"
            }
            if tensor.byteCount <= 4096 {
                guard source.floats(of: tensor).count == tensor.shape.reduce(1, *) else {
                    return "a tensor of another size than its shape: \(tensor)"
                }
            } else {
                let block = UnsafeRawBufferPointer(rebasing: source.bytes(of: tensor).prefix(tensor.type.blockBytes))
                withUnsafeTemporaryAllocation(of: Float.self, capacity: tensor.type.blockElements) { floats in
                    tensor.type.dequantize(block, into: floats)
                }
            }
        }
        return nil
    }
}

/// Small valid GGUF files.
private enum GGUFSeeds {
    enum Vocabulary { case byteLevel, scored }

    /// Every type of metadata and every type of tensor.
    static func everything() -> [UInt8] {
        var builder = GGUFBuilder()
        builder.alignment = 64
        builder.add("general.architecture", .string("llama"))
        builder.add("general.alignment", .uint32(64))
        builder.add("a.u8", .uint8(1))
        builder.add("a.i8", .int8(-1))
        builder.add("a.u16", .uint16(2))
        builder.add("a.i16", .int16(-2))
        builder.add("a.i32", .int32(-3))
        builder.add("a.u64", .uint64(1 << 40))
        builder.add("a.i64", .int64(-1 << 40))
        builder.add("a.f32", .float32(0.5))
        builder.add("a.f64", .float64(0.25))
        builder.add("a.bool", .bool(true))
        builder.add("a.strings", .strings(["", "é", "long enough not to fit into the string itself"]))
        builder.add("a.nested", .array(9, [.int32s([1, 2]), .array(9, [.floats([1]), .array(7, [])])]))
        builder.add("a.empty", .array(4, []))
        for encoding in GGUFBuilder.Encoding.allCases {
            let count = encoding.blockElements * (encoding.blockElements == 1 ? 6 : 2)
            let values = (0..<count).map { Float($0 % 17) - 8 }
            builder.addTensor("t.\(encoding)", shape: [count / 2, 2], encoding, values: values)
        }
        return builder.build()
    }

    /// A model that is described and whose tokenizer is read.
    static func model(_ architecture: String, tokenizer: Vocabulary) -> [UInt8] {
        var builder = GGUFBuilder()
        builder.add("general.architecture", .string(architecture))
        builder.add("general.name", .string("tiny"))
        let sizes: [(String, UInt32)] = [
            ("embedding_length", 32), ("block_count", 1), ("feed_forward_length", 32), ("attention.head_count", 2),
            ("attention.head_count_kv", 1), ("context_length", 128), ("attention.key_length", 16),
            ("attention.value_length", 16), ("rope.dimension_count", 16),
        ]
        for (key, value) in sizes { builder.add("\(architecture).\(key)", .uint32(value)) }
        builder.add("\(architecture).attention.layer_norm_rms_epsilon", .float32(1e-5))
        builder.add("\(architecture).rope.freq_base", .float32(10000))
        if architecture == "gemma3" { builder.add("gemma3.attention.sliding_window", .uint32(16)) }
        switch tokenizer {
        case .byteLevel: addByteLevelTokenizer(to: &builder)
        case .scored: addScoredTokenizer(to: &builder)
        }
        var shapes: [(name: String, shape: [Int])] = [
            ("token_embd.weight", [32, 4]), ("output_norm.weight", [32]), ("blk.0.attn_norm.weight", [32]),
            ("blk.0.attn_q.weight", [32, 32]), ("blk.0.attn_k.weight", [32, 16]), ("blk.0.attn_v.weight", [32, 16]),
            ("blk.0.attn_output.weight", [32, 32]), ("blk.0.ffn_norm.weight", [32]),
            ("blk.0.ffn_gate.weight", [32, 32]), ("blk.0.ffn_up.weight", [32, 32]),
            ("blk.0.ffn_down.weight", [32, 32]),
        ]
        if architecture == "qwen2" {
            shapes += [("blk.0.attn_q.bias", [32]), ("blk.0.attn_k.bias", [16]), ("blk.0.attn_v.bias", [16])]
        }
        if architecture == "gemma3" {
            shapes += [
                ("blk.0.attn_q_norm.weight", [16]), ("blk.0.attn_k_norm.weight", [16]),
                ("blk.0.post_attention_norm.weight", [32]), ("blk.0.post_ffw_norm.weight", [32]),
            ]
        }
        let encodings: [GGUFBuilder.Encoding] = [.q4_0, .q4_1, .q5_0, .q5_1, .q8_0]
        for (index, (name, shape)) in shapes.enumerated() {
            let encoding = shape.count == 1 ? .f32 : encodings[index % encodings.count]
            builder.addTensor(name, shape: shape, encoding, values: [Float](repeating: 0.5, count: shape.reduce(1, *)))
        }
        return builder.build()
    }

    private static func addByteLevelTokenizer(to builder: inout GGUFBuilder) {
        let letters = "abcdehlorw Ġ123!".filter { $0 != " " }.map(String.init)
        let merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r"]
        let special = ["<|im_start|>", "<|im_end|>", "[user]"]
        let tokens = letters + merges.map { $0.filter { $0 != " " } } + special
        builder.add("tokenizer.ggml.model", .string("gpt2"))
        builder.add("tokenizer.ggml.pre", .string("qwen2"))
        builder.add("tokenizer.ggml.tokens", .strings(tokens))
        let types = tokens.map { Int32($0 == "[user]" ? 4 : special.contains($0) ? 3 : 1) }
        builder.add("tokenizer.ggml.token_type", .int32s(types))
        builder.add("tokenizer.ggml.merges", .strings(merges))
        builder.add("tokenizer.ggml.bos_token_id", .uint32(UInt32(tokens.count - 3)))
        builder.add("tokenizer.ggml.eos_token_id", .uint32(UInt32(tokens.count - 2)))
        builder.add("tokenizer.ggml.add_bos_token", .bool(true))
        builder.add("tokenizer.chat_template", .string("{% for m in messages %}{{ m.content }}{% endfor %}"))
    }

    private static func addScoredTokenizer(to builder: inout GGUFBuilder) {
        let control = ["<unk>", "<bos>", "<eos>"]
        let bytes = ["<0x0A>", "<0x41>", "<0xC3>", "<0xA9>"]
        let text = ["\u{2581}", "h", "e", "l", "o", "he", "ll", "hell", "hello", "\u{2581}hello", "w", "é"]
        builder.add("tokenizer.ggml.model", .string("llama"))
        builder.add("tokenizer.ggml.tokens", .strings(control + bytes + text))
        builder.add("tokenizer.ggml.scores", .floats((0..<control.count + bytes.count + text.count).map { Float(-$0) }))
        builder.add(
            "tokenizer.ggml.token_type",
            .int32s([2, 3, 3] + bytes.map { _ in 6 } + text.map { _ in 1 }))
        builder.add("tokenizer.ggml.bos_token_id", .uint32(1))
        builder.add("tokenizer.ggml.eos_token_id", .uint32(2))
        builder.add("tokenizer.ggml.unknown_token_id", .uint32(0))
        builder.add("tokenizer.ggml.add_space_prefix", .bool(true))
    }
}
