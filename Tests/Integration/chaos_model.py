"""A small random model with the default model's vocabulary and chat template: fast enough for thousands of requests.

Its weights are large enough that every token depends on all tokens before it: one that is lost, doubled or computed in
another place changes what follows.
"""
import json
import pathlib
import random
import struct

VOCABULARY = 49152
HIDDEN, LAYERS, HEADS, KEY_HEADS, HEAD, INNER = 192, 4, 6, 2, 32, 512
CONTEXT = 2048

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "mlp_bias": False,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "hidden_act": "silu", "hidden_size": HIDDEN,
    "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS, "head_dim": HEAD, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0, "tie_word_embeddings": True, "vocab_size": VOCABULARY, "dtype": "bfloat16",
}


def _shapes():
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (HIDDEN,)
        yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
        yield prefix + "self_attn.q_proj.weight", (HEADS * HEAD, HIDDEN)
        yield prefix + "self_attn.k_proj.weight", (KEY_HEADS * HEAD, HIDDEN)
        yield prefix + "self_attn.v_proj.weight", (KEY_HEADS * HEAD, HIDDEN)
        yield prefix + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        yield prefix + "mlp.gate_proj.weight", (INNER, HIDDEN)
        yield prefix + "mlp.up_proj.weight", (INNER, HIDDEN)
        yield prefix + "mlp.down_proj.weight", (HIDDEN, INNER)
    yield "model.norm.weight", (HIDDEN,)


# Sign and the upper part of the exponent: 0x3c stands for 0.008 to 0.03, 0x3d to 0.125, 0x3e to 0.5, 0x3f to 2.
_HIGH_BYTES = {
    "norm": [0x3F], "embed_tokens": [0x3D, 0xBD, 0x3E, 0xBE], "layers": [0x3C, 0xBC, 0x3D, 0xBD],
}


def _numbers(generator, count, high_bytes):
    """So many bfloat16 numbers, little end first; the high bytes hold sign and exponent."""
    table = bytes(high_bytes[index % len(high_bytes)] for index in range(256))
    numbers = bytearray(generator.randbytes(2 * count))
    numbers[1::2] = bytes(numbers[1::2]).translate(table)
    return bytes(numbers)


def write(directory: pathlib.Path, seed=1):
    """Makes the checkpoint, if it is not there."""
    weights = directory / "model.safetensors"
    if weights.exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    generator = random.Random(seed)
    header, parts, offset = {}, [], 0
    for name, shape in _shapes():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        data = _numbers(generator, count, _HIGH_BYTES["norm" if "norm" in name else name.split(".")[1]])
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        parts.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = weights.with_suffix(".part")
    part.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
    part.rename(weights)
    return directory
