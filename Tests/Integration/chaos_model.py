"""Small random models, fast enough for thousands of requests: one with the default model's vocabulary and chat template,
and a smaller one with a tokenizer of its own, for what computes slowly.

Their weights are large enough that every token depends on all tokens before it: one that is lost, doubled or computed in
another place changes what follows.
"""
import dataclasses
import json
import pathlib
import random
import struct

import small_tokenizer


@dataclasses.dataclass(frozen=True)
class Shape:
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    head: int
    inner: int
    context: int = 2048
    # Of the default model, or of the small tokenizer.
    begin: int = 1
    end: int = 2
    # Bytes that begin the numbers of the layers: see below.
    layer_bytes: tuple = (0x3C, 0xBC, 0x3D, 0xBD)

    @property
    def config(self):
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "mlp_bias": False,
            "bos_token_id": self.begin, "eos_token_id": self.end, "pad_token_id": self.end, "hidden_act": "silu",
            "hidden_size": self.hidden, "intermediate_size": self.inner, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.key_heads, "head_dim": self.head,
            "max_position_embeddings": self.context, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
            "tie_word_embeddings": True, "vocab_size": self.vocabulary, "dtype": "bfloat16",
        }

    def tensors(self):
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield prefix + "input_layernorm.weight", (self.hidden,)
            yield prefix + "post_attention_layernorm.weight", (self.hidden,)
            yield prefix + "self_attn.q_proj.weight", (self.heads * self.head, self.hidden)
            yield prefix + "self_attn.k_proj.weight", (self.key_heads * self.head, self.hidden)
            yield prefix + "self_attn.v_proj.weight", (self.key_heads * self.head, self.hidden)
            yield prefix + "self_attn.o_proj.weight", (self.hidden, self.heads * self.head)
            yield prefix + "mlp.gate_proj.weight", (self.inner, self.hidden)
            yield prefix + "mlp.up_proj.weight", (self.inner, self.hidden)
            yield prefix + "mlp.down_proj.weight", (self.hidden, self.inner)
        yield "model.norm.weight", (self.hidden,)


TINY = Shape(vocabulary=49152, hidden=192, layers=4, heads=6, key_heads=2, head=32, inner=512)
# So narrow a model repeats itself unless its layers say more than its embeddings.
SMALL = Shape(
    vocabulary=512, hidden=64, layers=2, heads=2, key_heads=1, head=64, inner=128,
    layer_bytes=(0x3D, 0xBD, 0x3E, 0xBE))

# Sign and the upper part of the exponent: 0x3c stands for 0.008 to 0.03, 0x3d to 0.125, 0x3e to 0.5, 0x3f to 2.
_NORM_BYTES, _EMBEDDING_BYTES = (0x3F,), (0x3D, 0xBD, 0x3E, 0xBE)


def _numbers(generator, count, high_bytes):
    """So many bfloat16 numbers, little end first; the high bytes hold sign and exponent."""
    table = bytes(high_bytes[index % len(high_bytes)] for index in range(256))
    numbers = bytearray(generator.randbytes(2 * count))
    numbers[1::2] = bytes(numbers[1::2]).translate(table)
    return bytes(numbers)


def write(directory: pathlib.Path, seed=1, shape=TINY):
    """Makes the checkpoint, if it is not there."""
    weights = directory / "model.safetensors"
    if weights.exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(shape.config))
    generator = random.Random(seed)
    header, parts, offset = {}, [], 0
    for name, dimensions in shape.tensors():
        count = dimensions[0] * (dimensions[1] if len(dimensions) > 1 else 1)
        high = _NORM_BYTES if "norm" in name else _EMBEDDING_BYTES if "embed" in name else shape.layer_bytes
        data = _numbers(generator, count, high)
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        parts.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = weights.with_suffix(".part")
    part.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
    part.rename(weights)
    return directory


def write_small(directory: pathlib.Path, seed=1):
    """Makes the smaller one, with its tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    small_tokenizer.write(directory, SMALL.vocabulary)
    return write(directory, seed, SMALL)
