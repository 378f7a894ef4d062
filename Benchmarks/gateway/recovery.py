"""How long a stream pauses when its engine is killed: a real `tandem serve`, two engines, nothing else to do."""
import json
import os
import pathlib
import signal
import socket
import time
import urllib.request

import proxies
from comparison import machine

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def default_model():
    """The default model's file where `tandem` keeps it, or `None`."""
    cache = os.environ.get("TANDEM_CACHE") or os.path.expanduser("~/.cache/tandem")
    path = pathlib.Path(cache) / "models" / MODEL
    return str(path) if path.exists() else None


def engines(leader):
    """The engine processes of a server, with the time each has used."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or os.getsid(int(entry.name)) != leader:
                continue
            if b"\0engine\0" in (entry / "cmdline").read_bytes():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                found[int(entry.name)] = int(fields[11]) + int(fields[12])
        except (OSError, ProcessLookupError):
            pass
    return found


def wait(port, group, wanted, limit=90):
    """Waits until so many engines serve."""
    began = time.monotonic()
    while time.monotonic() - began < limit:
        if not group.running():
            raise RuntimeError(f"tandem serve ended: {group.tail()}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                for line in answer.read().decode().splitlines():
                    if line.startswith("tandem_engines_serving") and float(line.split()[-1]) >= wanted:
                        return
        except (OSError, ValueError):
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{wanted} engines do not serve after {limit} s: {group.tail()}")


def pause(port, leader):
    """Kills the engine of a stream after some tokens; milliseconds from the kill to the next token, and between tokens."""
    body = json.dumps({
        "prompt": "Once upon a time", "max_tokens": 200, "temperature": 0, "ignore_eos": True, "stream": True,
    }).encode()
    before = engines(leader)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        tokens, killed, resumed, times, rest = 0, None, None, [], b""
        while True:
            piece = connection.recv(65536)
            now = time.monotonic()
            if not piece:
                raise RuntimeError("the stream was cut")
            lines = (rest + piece).split(b"\n")
            rest = lines.pop()
            new = sum(line.startswith(b"data: {") and b'"text":""' not in line for line in lines)
            if killed and new and not resumed:
                resumed = now
            tokens += new
            times.append(now)
            if any(b"[DONE]" in line for line in lines):
                break
            if tokens >= 60 and not killed:
                used = {pid: ticks - before.get(pid, 0) for pid, ticks in engines(leader).items()}
                victim = max(used, key=used.get)
                # What is under way already is no sign of life.
                os.kill(victim, signal.SIGKILL)
                killed = time.monotonic()
                connection.settimeout(0.0)
                time.sleep(0.002)
                try:
                    piece = connection.recv(65536)
                    lines = (rest + piece).split(b"\n")
                    rest = lines.pop()
                    tokens += sum(line.startswith(b"data: {") for line in lines)
                except BlockingIOError:
                    pass
                connection.settimeout(60)
    steps = sorted(b - a for a, b in zip(times[5:55], times[6:56]))
    return {"milliseconds": (resumed - killed) * 1e3, "token_milliseconds": steps[len(steps) // 2] * 1e3, "tokens": tokens}


def run(binary, folder, repetitions, say):
    port = proxies.free_port()
    group = machine.Group(
        [binary, "serve", "--port", port, "--engines", 2, "--log-level", "warning"], f"{folder}/serve.log")
    rows = []
    try:
        wait(port, group, 2)
        for repetition in range(repetitions):
            row = pause(port, group.process.pid)
            rows.append(row)
            say(f"recovery {repetition + 1}/{repetitions}: {row['milliseconds']:.0f} ms from kill -9 to the next token")
            wait(port, group, 2)
    except (RuntimeError, OSError) as error:
        say(f"recovery: {error}")
        return {"rows": rows, "error": str(error)}
    finally:
        group.end()
    return {"rows": rows}
