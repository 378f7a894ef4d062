// Tandem — Apache-2.0

import Foundation
import LanguageModel
import Requests
import TestSupport
import Weights

/// A random checkpoint below `Tests/Fixtures/tiny`, with float32 outputs of another implementation (the README there
/// says how they were made).
struct TinyCheckpoint {
    struct Case: Decodable {
        var name: String
        var input_ids: [TokenID]
        var greedy16: [TokenID]
    }

    static let names = [
        "llama-tied", "llama3-rope-untied", "qwen2-tied", "qwen2-untied", "qwen3-tied", "qwen3-untied", "gemma3-text",
    ]

    let name: String
    let model: DecoderDescription
    let tensors: any TensorSource
    let cases: [Case]
    /// `logits.CASE` and `hiddenI.CASE`, row after row.
    let outputs: [String: [Float]]

    init(_ name: String) throws {
        struct File: Decodable {
            var cases: [Case]
        }
        self.name = name
        cases = try JSONDecoder().decode(File.self, from: ModelFixture.data("tiny/\(name)/reference.json")).cases
        let file = try SafetensorsFile(path: ModelFixture.fixturePath("tiny/\(name)/reference.safetensors"))
        outputs = Dictionary(uniqueKeysWithValues: file.tensors.map { ($0.name, file.floats(of: $0)) })
        let checkpoint = try Checkpoint(path: ModelFixture.fixturePath("tiny/\(name)"))
        (model, tensors) = (checkpoint.description, checkpoint.tensors)
    }

    /// What the references did to rotary frequencies; null for nothing, as the product has it.
    ///
    /// All but Qwen3's were computed with whole models, buffers included, rounded to bfloat16 and widened again. With
    /// exact frequencies their logits differ by 0.003 (Gemma) to 0.08.
    var rotaryRounding: (@Sendable (Float) -> Float)? {
        if name.hasPrefix("qwen3") { return nil }
        return { frequency in
            let bits = frequency.bitPattern
            return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
        }
    }
}
