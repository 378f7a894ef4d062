"""Servers under the closed loop of `Benchmarks/serve-closed-loop`, as {16: {"output_throughput": …}, …}."""
import http.client
import json
import pathlib
import socket
import subprocess
import sys
import time

from .machine import Group
from .offline import Failed, vllm_environment

CLIENT = pathlib.Path(__file__).resolve().parent.parent / "serve-closed-loop"
INPUT, OUTPUT = 128, 64
MODEL = "measured"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(group, port, limit):
    """Waits until the server says that it is well; the seconds it took."""
    began = time.monotonic()
    while time.monotonic() - began < limit:
        if not group.running():
            raise Failed(f"the server ended: {group.tail()}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return round(time.monotonic() - began, 2)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise Failed(f"the server was not ready after {limit} s: {group.tail()}")


def load(port, concurrency, requests, seconds, limit=420):
    command = [
        sys.executable, CLIENT, "--url", f"http://127.0.0.1:{port}", "--model", MODEL, "--input", INPUT, "--output",
        OUTPUT, "--concurrency", concurrency, "--requests", requests, "--seconds", seconds,
    ]
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"concurrency {concurrency} took more than {limit} s") from None
    row = json.loads(done.stdout) if done.returncode == 0 else {"completed": 0}
    if row["completed"] == 0:
        raise Failed(f"no request succeeded at concurrency {concurrency}: {done.stderr[-600:].strip()}")
    return row


class Server:
    """A server that is started for each turn."""

    # Whether it is started anew for each concurrency, because its number of slots is fixed at the start.
    per_concurrency = False

    def __init__(self, name, setup, log):
        self.name, self.setup, self.log = name, setup, log

    def measure(self, concurrencies, requests, seconds):
        rows = {}
        turns = [[c] for c in concurrencies] if self.per_concurrency else [concurrencies]
        for turn in turns:
            port = free_port()
            group = Group(self.command(port, max(turn)), self.log)
            try:
                ready = wait(group, port, 120)
                load(port, 1, 1, 0)
                for concurrency in turn:
                    rows[concurrency] = {**load(port, concurrency, requests, seconds), "ready_seconds": ready}
            finally:
                group.end()
        return rows


class TandemServer(Server):
    def __init__(self, program, model, engines, log):
        name = "tandem" if engines == 2 else "tandem, 1 engine"
        super().__init__(name, f"tandem serve --engines {engines}, the cores shared out among them, int8", log)
        self.program, self.model, self.engines = program, model, engines

    def command(self, port, concurrency):
        # The peers guess nothing ahead either; answers to random prompts repeat themselves more than real ones do.
        return [self.program, "serve", self.model, "--port", port, "--engines", self.engines, "--cpu-compute", "int8",
                "--prompt-lookup", "0", "--served-model-name", MODEL]


class LlamaServer(Server):
    per_concurrency = True

    def __init__(self, name, folder, model, cores, log):
        super().__init__(
            name, f"llama-server -t {cores}, a slot a client, continuous batching, {pathlib.Path(model).name}", log)
        self.folder, self.model, self.cores = pathlib.Path(folder), model, cores

    def command(self, port, concurrency):
        return [self.folder / "llama-server", "-m", self.model, "--host", "127.0.0.1", "--port", port, "-t", self.cores,
                "-tb", self.cores, "-np", concurrency, "-c", concurrency * 256, "--cont-batching", "--cache-ram", 0,
                "--alias", MODEL]


class VLLMServer:
    """vLLM's server, which stays and is paused between its turns, since it takes minutes to start."""

    name = "vllm"

    def __init__(self, python, model, cores, log):
        self.setup = f"vllm serve on {cores} cores, bfloat16, prefix caching off"
        self.port = free_port()
        command = [
            pathlib.Path(python).with_name("vllm"), "serve", model, "--host", "127.0.0.1", "--port", self.port,
            "--served-model-name", MODEL, "--dtype", "bfloat16", "--max-model-len", 2304, "--max-num-seqs", 64,
            "--no-enable-prefix-caching",
        ]
        self.group, self.ready = Group(command, log, vllm_environment(python, cores)), None

    def wait(self, limit):
        self.ready = wait(self.group, self.port, limit)

    def measure(self, concurrencies, requests, seconds):
        self.group.resume()
        try:
            load(self.port, 1, 1, 0)
            return {c: {**load(self.port, c, requests, seconds), "ready_seconds": self.ready} for c in concurrencies}
        finally:
            self.group.pause()
