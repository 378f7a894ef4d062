"""Runs inside vLLM's own Python: writes a GGUF model as a folder of bfloat16 safetensors, which is what vLLM reads.

    dequantize.py MODEL.gguf FOLDER

The folder appears only when it is complete. Knows the architectures llama, qwen2 and gemma3.
"""
import json
import os
import re
import shutil
import sys

import numpy
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file

NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}
GEMMA_NAMES = {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}


class Source:
    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.architecture = self.field("general.architecture")

    def field(self, name, default=None):
        entry = self.reader.fields.get(name)
        return default if entry is None else entry.contents()

    def number(self, name, default=None):
        return self.field(f"{self.architecture}.{name}", default)


def tensor_name(name, gemma):
    names = {**NAMES, **GEMMA_NAMES} if gemma else NAMES
    plain = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}
    if name in plain:
        return plain[name]
    layer, part, kind = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name).groups()
    return f"model.layers.{layer}.{names[part]}.{kind}"


def half_split(values, heads):
    """Undoes the interleaving of rotary pairs that llama's GGUF files have in queries and keys."""
    rows = values.shape[0]
    return values.reshape(heads, rows // heads // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def configuration(source, tied, vocabulary):
    heads, width = source.number("attention.head_count"), source.number("embedding_length")
    shared = {
        "hidden_size": width, "intermediate_size": source.number("feed_forward_length"),
        "num_hidden_layers": source.number("block_count"), "num_attention_heads": heads,
        "num_key_value_heads": source.number("attention.head_count_kv"),
        "head_dim": source.number("attention.key_length", width // heads),
        "rms_norm_eps": source.number("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": source.number("context_length"), "rope_theta": source.number("rope.freq_base", 1e4),
        "vocab_size": vocabulary, "tie_word_embeddings": tied, "torch_dtype": "bfloat16",
        "bos_token_id": source.field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": source.field("tokenizer.ggml.eos_token_id"),
    }
    if source.architecture == "llama":
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", **shared}
    if source.architecture == "qwen2":
        return {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
                "use_sliding_window": False, **shared}
    if source.architecture == "gemma3":
        layers = ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(shared["num_hidden_layers"])]
        return {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
                "hidden_activation": "gelu_pytorch_tanh", "sliding_window": source.number("attention.sliding_window"),
                "layer_types": layers, "rope_local_base_freq": 10000.0, "query_pre_attn_scalar": shared["head_dim"],
                **shared}
    sys.exit(f"dequantize: the architecture {source.architecture} is unknown")


def main():
    path, folder = sys.argv[1:]
    source = Source(path)
    gemma = source.architecture == "gemma3"
    tensors, vocabulary = {}, 0
    for tensor in source.reader.tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        values = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        values = values.reshape([int(n) for n in reversed(tensor.shape)])
        if source.architecture == "llama" and re.search(r"attn_[qk]\.", tensor.name):
            heads = source.number("attention.head_count" + ("_kv" if "attn_k" in tensor.name else ""))
            values = half_split(values, heads)
        if gemma and "norm" in tensor.name:
            # Gemma's own checkpoints store the weight less one.
            values = values - 1
        if tensor.name == "token_embd.weight":
            vocabulary = values.shape[0]
        tensors[tensor_name(tensor.name, gemma)] = torch.from_numpy(values.copy()).to(torch.bfloat16).contiguous()
    unfinished = f"{folder}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    os.makedirs(unfinished)
    tied = "lm_head.weight" not in tensors
    save_file(tensors, f"{unfinished}/model.safetensors", metadata={"format": "pt"})
    with open(f"{unfinished}/config.json", "w") as file:
        json.dump(configuration(source, tied, vocabulary), file, indent=2)
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(os.path.dirname(os.path.abspath(path)), gguf_file=os.path.basename(path)) \
        .save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(unfinished, folder)


if __name__ == "__main__":
    main()
