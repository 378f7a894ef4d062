"""Engines without a server: tokens per second of prompts and of decoding, as {"prompt 512": …, "decode 16": …}.

Every engine decodes after prompts of `PROMPT` tokens, `shape.decode` tokens a sequence.
"""
import ctypes.util
import json
import pathlib
import select
import subprocess
import time
from dataclasses import dataclass

from .machine import Group

PROMPT = 128
LIMIT = 420


@dataclass
class Shape:
    """What to measure."""

    threads: int
    prompts: list
    batches: list
    decode: int

    def keys(self):
        return [f"prompt {n}" for n in self.prompts] + [f"decode {n}" for n in self.batches]


class Failed(Exception):
    """An engine that could not be measured, and why."""


def output(command, limit=LIMIT):
    """What a command printed; as much as there is if it takes too long."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode()
    if done.returncode != 0:
        raise Failed(f"{pathlib.Path(command[0]).name} exited with {done.returncode}: {done.stderr[-600:].strip()}")
    return done.stdout


def commas(numbers):
    return ",".join(str(number) for number in numbers)


class Tandem:
    name = "tandem"

    def __init__(self, program, model):
        self.program, self.model = program, model
        self.setup = "engine-benchmark, one engine, int8"
        # Shares of the compute time of the last measurement.
        self.profile = None

    def measure(self, shape):
        command = [
            self.program, self.model, "--threads", shape.threads, "--compute", "int8", "--prompts",
            commas(shape.prompts), "--batches", commas(shape.batches), "--prompt-length", PROMPT, "--decode",
            shape.decode, "--repetitions", 1,
        ]
        rows = [json.loads(line) for line in output(command).splitlines()]
        for row in rows:
            if row["kind"] == "profile":
                self.profile = {part: round(row[part], 3) for part in ("attention", "mlp", "rest")}
        return {
            f"{row['kind']} {row['size']}": row["tokens_per_second"]
            for row in rows if row["kind"] in ("prompt", "decode")
        }

    def floor(self, shape):
        """The machine's rates and the fastest that this model could be on it."""
        command = [
            self.program, "floor", self.model, "--threads", shape.threads, "--prompts", commas(shape.prompts),
            "--batches", commas(shape.batches), "--prompt-length", PROMPT, "--decode", shape.decode,
        ]
        result = {"peaks": {}, "figures": {}, "bound": {}}
        for line in output(command).splitlines():
            row = json.loads(line)
            if row["kind"] == "weights":
                result["weight_bytes_per_step"] = row["bytes_per_step"]
            elif row["kind"] == "bandwidth":
                result["bytes_per_second"] = row["bytes_per_second"]
            elif row["kind"] == "peak":
                result["peaks"][row["instruction"]] = row["operations_per_second"]
            elif row["kind"] == "floor":
                key = f"{row['what']} {row['size']}"
                result["figures"][key], result["bound"][key] = row["tokens_per_second"], row["bound"]
        return result


class LlamaCpp:
    def __init__(self, name, folder, model):
        self.name, self.folder, self.model = name, pathlib.Path(folder), model
        self.setup = f"llama-bench and llama-batched-bench, {pathlib.Path(model).name}"

    def measure(self, shape):
        figures = {}
        # A long prompt needs no warming up, which would compute it twice.
        for prompts, more in (
            ([n for n in shape.prompts if n <= 512], []), ([n for n in shape.prompts if n > 512], ["--no-warmup"])
        ):
            if not prompts:
                continue
            text = output(
                [self.folder / "llama-bench", "-m", self.model, "-t", shape.threads, "-p", commas(prompts), "-n", 0,
                 "-r", 1, "-o", "jsonl", *more])
            for line in text.splitlines():
                if line.startswith("{"):
                    row = json.loads(line)
                    figures[f"prompt {row['n_prompt']}"] = row["avg_ts"]
        if shape.batches:
            context = max(shape.batches) * (PROMPT + shape.decode) + 256
            text = output(
                [self.folder / "llama-batched-bench", "-m", self.model, "-t", shape.threads, "-c", context, "-npp",
                 PROMPT, "-ntg", shape.decode, "-npl", commas(shape.batches)])
            for line in text.splitlines():
                cells = [cell.strip() for cell in line.strip("| ").split("|")]
                if len(cells) == 10 and cells[0].isdigit():
                    figures[f"decode {cells[2]}"] = float(cells[7])
        return figures


# vLLM finds its build's kind and its cores by these; nothing may be looked up elsewhere.
VLLM_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def vllm_environment(python, cores):
    environment = {**VLLM_ENVIRONMENT, "VLLM_CPU_OMP_THREADS_BIND": f"0-{cores - 1}" if cores > 1 else "0"}
    # What vLLM asks to be loaded first for best performance: the OpenMP of a package it depends on, and an allocator.
    openmp = pathlib.Path(python).parent.parent / "lib/libiomp5.so"
    libraries = [str(openmp) if openmp.exists() else None, ctypes.util.find_library("tcmalloc_minimal")]
    return {**environment, "LD_PRELOAD": ":".join(library for library in libraries if library)}


class VLLM:
    """vLLM's `LLM` class in a process that stays and is paused between its turns, since it takes minutes to start."""

    name = "vllm"

    def __init__(self, python, model, cores, log):
        self.setup = "vLLM's LLM class, bfloat16 weights dequantised from the same file, prefix caching off"
        environment = {**vllm_environment(python, cores), "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        worker = pathlib.Path(__file__).with_name("vllm_worker.py")
        self.group = Group(
            [python, worker, model], log, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.versions = None

    def wait(self, limit):
        self.versions = self.answer(limit)["versions"]

    def answer(self, limit):
        stream, ends = self.group.process.stdout, time.monotonic() + limit
        while True:
            if not select.select([stream], [], [], max(0, ends - time.monotonic()))[0]:
                raise Failed(f"vLLM gave no answer within {limit} s")
            line = stream.readline()
            if not line:
                raise Failed(f"vLLM ended: {self.group.tail()}")
            if line.startswith(b"{"):
                return json.loads(line)

    def measure(self, shape):
        order = {
            "threads": shape.threads, "prompts": shape.prompts, "batches": shape.batches, "prompt_length": PROMPT,
            "decode": shape.decode,
        }
        self.group.resume()
        try:
            self.group.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.group.process.stdin.flush()
            return self.answer(LIMIT)["figures"]
        except BrokenPipeError:
            raise Failed(f"vLLM ended: {self.group.tail()}") from None
        except Failed:
            # A late answer must not be taken for the next order's.
            self.group.end()
            raise
        finally:
            self.group.pause()
