// Tandem — Apache-2.0

import CPUExecutor
import Foundation
import LanguageModel
import Requests
import TestSupport
import Testing
import Weights

/// A random checkpoint with float32 logits of another implementation.
@Suite struct TinyReferenceTests {
    struct Reference: Decodable {
        struct Case: Decodable {
            var name: String
            var input_ids: [TokenID]
            var prompt_logprobs: [Double?]?
            var greedy16: [TokenID]?
            var logits_last: [Float]?
        }
        var cases: [Case]
    }

    /// The checkpoint's tensors under GGUF names, query and key rows in the order that GGUF files have.
    static func checkpoint() throws -> TinyModel {
        let data = try ModelFixture.data("tiny/llama-tied/model.safetensors")
        let headerBytes = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
        struct Entry: Decodable {
            var data_offsets: [Int]?
            var shape: [Int]?
        }
        let header = try JSONDecoder().decode([String: Entry].self, from: data[8..<8 + headerBytes])
        var model = TinyModel(
            hidden: 64, intermediate: 160, layers: 2, queryHeads: 4, keyValueHeads: 1, vocabulary: 320,
            ropeBase: 100_000)
        // The reference was loaded as bfloat16, its rotary frequencies too; the file's divisors say so.
        model.rotaryFactors = (0..<8).map { pair in
            let exact = Float(1 / pow(100_000, Double(pair) / 8))
            let bits = exact.bitPattern
            return exact / Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
        }
        let names = [
            "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
            "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
            "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down",
        ]
        for (name, entry) in header {
            guard let offsets = entry.data_offsets, let shape = entry.shape else { continue }
            let bytes = [UInt8](data[(8 + headerBytes + offsets[0])..<(8 + headerBytes + offsets[1])])
            var values = stride(from: 0, to: bytes.count, by: 2).map {
                Float(bitPattern: (UInt32(bytes[$0]) | UInt32(bytes[$0 + 1]) << 8) << 16)
            }
            var target = ["model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"][
                name]
            let parts = name.split(separator: ".")
            if parts.count > 3, parts[1] == "layers" {
                let inner = parts[3...].dropLast().joined(separator: ".")
                target = "blk.\(parts[2]).\(try #require(names[inner])).weight"
                if inner.hasSuffix("q_proj") || inner.hasSuffix("k_proj") {
                    let dimension = 16
                    var permuted = values
                    for row in 0..<shape[0] {
                        let (head, within) = row.quotientAndRemainder(dividingBy: dimension)
                        let place = within < 8 ? 2 * within : 2 * (within - 8) + 1
                        let to = head * dimension + place
                        permuted.replaceSubrange(
                            to * shape[1]..<(to + 1) * shape[1], with: values[row * shape[1]..<(row + 1) * shape[1]])
                    }
                    values = permuted
                }
            }
            model.tensors[try #require(target)] = values
        }
        return model
    }

    @Test(arguments: [0, 1, 2]) func everyInstructionSetAgreesWithFloat32(_ instructionSet: Int) throws {
        let tiny = try Self.checkpoint()
        let file = try tiny.file()
        let model = try DecoderDescription(gguf: file)
        let options = CPUExecutor.Options(compute: .f32, threads: 2, instructionSet: instructionSet)
        guard let harness = try? Harness(model: model, file: file, options: options) else {
            // Only an instruction set that the processor lacks may be refused.
            #expect(instructionSet > 0)
            return
        }
        let cases = try JSONDecoder().decode(
            Reference.self, from: ModelFixture.data("tiny/llama-tied/reference.json")
        ).cases
        #expect(!cases.isEmpty)
        var compared = 0
        for reference in cases {
            let greedy = reference.greedy16 ?? []
            let outcome = try harness.run([
                Request(tokens: reference.input_ids, newTokens: max(1, greedy.count), promptTop: 0, top: 20)
            ])[0]
            if !greedy.isEmpty { #expect(outcome.tokens == greedy) }
            for (ours, truth) in zip(outcome.prompt, (reference.prompt_logprobs ?? []).dropFirst()) {
                let difference = abs(Double(ours.chosen.logProbability) - (try #require(truth)))
                #expect(difference <= 1e-4)
                compared += 1
            }
            if let logits = reference.logits_last {
                let total = log(logits.reduce(0.0) { $0 + exp(Double($1)) })
                for entry in outcome.sampled[0].top {
                    let exact = Double(logits[Int(entry.token)]) - total
                    #expect(abs(Double(entry.logProbability) - exact) <= 1e-4)
                    compared += 1
                }
            }
        }
        #expect(compared > 50)
    }
}
