#!/usr/bin/env python3
"""Writes blocks.json: random blocks of every tensor format, and the numbers that gguf-py makes of them.

    python3 -m venv venv && venv/bin/pip install gguf==0.19.0 && venv/bin/python make_references.py
"""
import json
import pathlib

import gguf
import numpy

# Where a block keeps half-precision numbers; everything else in it may hold any bits.
HALVES = {
    "F32": [], "F16": [0], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}

generator = numpy.random.default_rng(20)
types = {}
for name, halves in HALVES.items():
    quantization = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[quantization]
    count = 3 if elements == 256 else 128 // elements
    blocks = generator.integers(0, 256, (count, size), dtype=numpy.uint8)
    for at in halves:
        # Any sign and magnitude, subnormal numbers included, but neither infinity nor NaN (exponent 31).
        blocks[:, at + 1] &= 0xFB
    if not halves:
        # The same for the exponents of the wider formats.
        blocks[:, size - 1] &= 0xBF
    if elements > 1:
        # The first block has numbers as those of weights.
        for at in halves:
            blocks[0, at : at + 2] = numpy.array([0.0123], dtype="<f2").view(numpy.uint8)
    values = gguf.quants.dequantize(blocks, quantization).astype("<f4").reshape(-1)
    assert values.size == count * elements and numpy.isfinite(values).all()
    types[name] = {"blocks": blocks.tobytes().hex(), "values": values.tobytes().hex()}
file = pathlib.Path(__file__).parent / "blocks.json"
file.write_text(json.dumps(types, indent=1) + "\n")
