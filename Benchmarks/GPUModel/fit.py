#!/usr/bin/env python3
"""Fits the kernel parameters of Sources/GPUModel to published measurements, and writes the sample that tests compare with.

The measurements are the operator tables of NVIDIA's aiconfigurator (Apache-2.0), bfloat16, kernels of vLLM:

    python3 -m venv venv && venv/bin/pip install numpy scipy pyarrow && venv/bin/pip download --no-deps aiconfigurator-core==0.12.0
    unzip aiconfigurator_core-0.12.0-*.whl && venv/bin/python fit.py aiconfigurator_core/systems/data [sample.tsv]

Forms (seconds; P tensor FLOP/s, W bytes/s and S SMs of the data sheet):
    product         t0 + ((flops / (e P))^p + (bytes / (b W))^p)^(1/p)
    decode          t0 + bytes / (b W) + ctas / S * c              one block a sequence and key-value head
    prefill         t0 + padded flops / (e P) + ctas / S * c       causal tiles of 128, one block a tile and query head
Errors are relative and in-sample but for the sample, whose rows the fit leaves out.
"""
import glob
import math
import random
import sys

import numpy
import pyarrow.parquet
from scipy.optimize import least_squares

DATA_SHEET = {  # FLOP/s dense bfloat16, bytes/s, SMs
    "h100_sxm": (989e12, 3.35e12, 132),
    "h200_sxm": (989e12, 4.8e12, 132),
    "a100_sxm": (312e12, 2.039e12, 108),
    "b200_sxm": (2250e12, 7.7e12, 148),
    "l40s": (362.05e12, 0.864e12, 142),
}


def rows_of(root, gpu, kind, name):
    path = sorted(glob.glob(f"{root}/{gpu}/{kind}/vllm/*/{name}_perf.parquet"))[-1]
    return path.split("/")[-2], pyarrow.parquet.read_table(path).to_pylist()


def column(rows, name):
    return numpy.array([row.get(name) or 0 for row in rows], float)


def products(root, gpu):
    version, rows = rows_of(root, gpu, "gemm", "gemm")
    rows = [
        row for row in rows
        if row["gemm_dtype"] == "bfloat16" and row["m"] <= 8192 and row["n"] >= 512 and row["k"] >= 512
        and row["m"] * row["n"] * 4 < 2**34
    ]
    random.Random(1).shuffle(rows)
    rows = rows[:3000]
    m, n, k = (column(rows, name) for name in "mnk")
    keys = [f"{r['m']} {r['n']} {r['k']}" for r in rows]
    return version, keys, column(rows, "latency") * 1e-3, {"flops": 2 * m * n * k, "bytes": 2 * (m * k + n * k + m * n)}


def attention_rows(rows):
    return [
        row for row in rows
        if row["attn_dtype"] == "bfloat16" and row["kv_cache_dtype"] == "bfloat16" and not row.get("window_size")
        and row.get("beam_width", 1) == 1 and row["head_dim"] in (64, 128, 256)
        and row["num_key_value_heads"] and 2 <= row["num_heads"] // row["num_key_value_heads"] <= 8
    ]


def decode(root, gpu):
    version, rows = rows_of(root, gpu, "attention", "generation_attention")
    rows = [r for r in attention_rows(rows) if r["num_key_value_heads"] <= 8 and 64 <= r["isl"] + r["step"] <= 32768]
    batch, heads, kv, width = (column(rows, n) for n in ("batch_size", "num_heads", "num_key_value_heads", "head_dim"))
    context = column(rows, "isl") + column(rows, "step")
    keys = [f"{r['batch_size']} {r['isl'] + r['step']} {r['num_heads']} {r['num_key_value_heads']} {r['head_dim']}" for r in rows]
    data = {"bytes": 4 * batch * context * kv * width + 4 * batch * heads * width, "ctas": batch * kv}
    return version, keys, column(rows, "latency") * 1e-3, data


def prefill(root, gpu):
    version, rows = rows_of(root, gpu, "attention", "context_attention")
    rows = [r for r in attention_rows(rows) if not r.get("step") and r["isl"] >= 32]
    batch, heads, width, length = (column(rows, n) for n in ("batch_size", "num_heads", "head_dim", "isl"))
    keys = [f"{r['batch_size']} {r['isl']} {r['num_heads']} {r['num_key_value_heads']} {r['head_dim']}" for r in rows]
    tiles = numpy.ceil(length / 128)
    data = {"flops": 4 * batch * heads * width * 128 * 128 * tiles * (tiles + 1) / 2, "ctas": batch * heads * tiles}
    return version, keys, column(rows, "latency") * 1e-3, data


def forms(gpu):
    peak, width, sms = DATA_SHEET[gpu]
    return {
        "product": (products, [3, 0.7, 0.8, 2], lambda x, d: x[0] * 1e-6 + (
            (d["flops"] / (x[1] * peak)) ** x[3] + (d["bytes"] / (x[2] * width)) ** x[3]) ** (1 / x[3])),
        "decode": (decode, [9, 0.85, 0.5], lambda x, d: x[0] * 1e-6 + d["bytes"] / (x[1] * width) + d["ctas"] / sms * x[2] * 1e-6),
        "prefill": (prefill, [9, 0.5, 0.5], lambda x, d: x[0] * 1e-6 + d["flops"] / (x[1] * peak) + d["ctas"] / sms * x[2] * 1e-6),
    }


def main():
    root, sample = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    lines = []
    for gpu in DATA_SHEET:
        for kind, (read, start, form) in forms(gpu).items():
            version, keys, times, data = read(root, gpu)
            order = list(range(len(keys)))
            random.Random(2).shuffle(order)
            held, rest = numpy.array(sorted(order[:60])), numpy.array(order[60:])
            part = {name: values[rest] for name, values in data.items()}
            found = least_squares(
                lambda x: numpy.log(form(numpy.exp(x), part) / times[rest]), numpy.log(start), loss="soft_l1", f_scale=0.1)
            parameters = numpy.exp(found.x)
            error = numpy.abs(form(parameters, data) / times - 1)
            print(gpu, kind, f"vLLM {version}", len(keys), "parameters", " ".join(f"{v:.3g}" for v in parameters),
                  f"error mean {error[rest].mean():.1%} median {numpy.median(error[rest]):.1%}",
                  f"90th {numpy.quantile(error[rest], 0.9):.1%}; held out mean {error[held].mean():.1%}",
                  f"median {numpy.median(error[held]):.1%}")
            lines += [f"{gpu}\t{kind}\t{keys[i]}\t{times[i] * 1e6:.4g}" for i in held]
    if sample:
        with open(sample, "w") as file:
            file.write("# GPU, kernel, sizes (product: m n k; decode: batch context heads kv-heads head-size; prefill: the same"
                       " with the prompt's length), microseconds.\n"
                       "# A random part of the operator tables of NVIDIA's aiconfigurator-core 0.12.0 (Apache-2.0), bfloat16, vLLM's"
                       " kernels;\n# written by Benchmarks/GPUModel/fit.py, whose fit leaves these rows out.\n")
            file.write("\n".join(lines) + "\n")


main()
