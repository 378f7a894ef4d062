// Tandem — Apache-2.0

import LanguageModel
import TestSupport
import Weights

extension FuzzTarget {
    /// `model.safetensors.index.json` beside two files of tensors.
    static func index(directory path: String) -> FuzzTarget {
        let directory = HostileDirectory(path)
        directory.write(SafetensorsSeeds.small(), as: "one.safetensors")
        directory.write(SafetensorsSeeds.unreadable(), as: "two.safetensors")
        let seed = #"""
            {"metadata":{"total_size":48},"weight_map":{"a":"one.safetensors","b":"one.safetensors","c":"one.safetensors",
            "d":"two.safetensors","f":"two.safetensors"}}
            """#
        return FuzzTarget(name: "index", dialect: .json, seeds: [Array(seed.utf8)]) { input in
            directory.write(input, as: "model.safetensors.index.json")
            let model: SafetensorsModel
            do throws(WeightsError) {
                model = try SafetensorsModel(directory: path)
            } catch {
                // Of an empty file there is no more to say; and the index may name files that are not there: then that file is at fault.
                let place =
                    error.offset.map { "byte \($0)" } ?? (error.path.hasSuffix("index.json") ? "weight_map" : path)
                return refusal(error, names: [error.path, input.isEmpty ? path : place, path])
            }
            for tensor in model.tensors where model.floats(of: tensor).count != tensor.shape.reduce(1, *) {
                return .fault("a tensor of another size than its shape: \(tensor)")
            }
            return .accepted
        }
    }

    /// `config.json` beside the tensors that it describes.
    static func config(directory path: String) -> FuzzTarget {
        let directory = HostileDirectory(path)
        directory.write(SafetensorsSeeds.model(), as: "model.safetensors")
        return FuzzTarget(name: "config", dialect: .json, seeds: ConfigurationSeeds.all) { input in
            let file = directory.write(input, as: "config.json")
            do throws(LanguageModelError) {
                // Also without tensors, as these refuse most changes.
                let configuration = try ModelConfiguration(path: file)
                _ = try configuration.storedType()
                ModelUse.use(try configuration.description(name: "hostile"))
                _ = try Checkpoint(path: path)
                return .accepted
            } catch {
                // Tensors that do not fit are the directory's.
                return refusal(error, names: [error.subject.hasPrefix("tensor ") ? path : file, error.subject])
            }
        }
    }

    /// `generation_config.json` beside a model that is valid.
    static func generationConfig(directory path: String) -> FuzzTarget {
        let directory = HostileDirectory(path)
        directory.write(SafetensorsSeeds.model(), as: "model.safetensors")
        directory.write(ConfigurationSeeds.all[0], as: "config.json")
        let seed = #"""
            {"_from_model_config":true,"bos_token_id":1,"eos_token_id":[2,3],"temperature":0.6,"top_p":0.95,"top_k":20,
            "repetition_penalty":1.1,"do_sample":true}
            """#
        return FuzzTarget(name: "generation-config", dialect: .json, seeds: [Array(seed.utf8)]) { input in
            let file = directory.write(input, as: "generation_config.json")
            do throws(LanguageModelError) {
                _ = try Checkpoint(path: path)
                return .accepted
            } catch {
                return refusal(error, names: [file, error.subject])
            }
        }
    }
}

/// Small valid configurations; the first describes ``SafetensorsSeeds/model()``.
private enum ConfigurationSeeds {
    private static let sizes = #"""
        "hidden_size":16,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":1,"num_key_value_heads":1,
        "head_dim":16,"max_position_embeddings":512,"rms_norm_eps":1e-05,"vocab_size":4,"tie_word_embeddings":true,
        "eos_token_id":2,"dtype":"bfloat16"
        """#

    static let all = [
        #"""
        {"architectures":["LlamaForCausalLM"],"attention_bias":false,"hidden_act":"silu","mlp_bias":false,\#(sizes),
        "rope_parameters":{"rope_theta":100000.0,"rope_type":"default"}}
        """#,
        #"""
        {"architectures":["LlamaForCausalLM"],"hidden_act":"silu","rope_theta":500000.0,\#(sizes),
        "rope_scaling":{"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,
        "original_max_position_embeddings":8192,"rope_type":"llama3"}}
        """#,
        #"""
        {"architectures":["Qwen2ForCausalLM"],"hidden_act":"silu","use_sliding_window":true,"max_window_layers":0,
        "sliding_window":32,\#(sizes)}
        """#,
        #"""
        {"architectures":["Gemma3ForConditionalGeneration"],"eos_token_id":[1,106],"vision_config":{},"text_config":{
        "hidden_activation":"gelu_pytorch_tanh","layer_types":["sliding_attention"],"query_pre_attn_scalar":16,
        "sliding_window":32,"rope_local_base_freq":10000,
        "rope_parameters":{"full_attention":{"rope_type":"linear","factor":8.0,"rope_theta":1000000},
        "sliding_attention":{"rope_type":"default","rope_theta":10000}},\#(sizes)}}
        """#,
    ].map { Array($0.utf8) }
}
