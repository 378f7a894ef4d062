"""Runs a client's checks against a server of its own and writes down what came of them.

A module `check_NAME.py` describes its checks by the decorator and ends with `run(…)`; Scripts/clients starts it with
the Python that has the client. A check gets the Session, fails by any exception, and may raise `NotHere` where this
server offers nothing to check.
"""
import argparse
import asyncio
import collections
import importlib.metadata
import inspect
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Integration"))

import serving  # noqa: E402
from recorder import HOST, Recorder  # noqa: E402

CHECKS = []
QUESTION = "What is the capital of France? Answer with one word."


class NotHere(Exception):
    """What a check needs is not to be had; the text says why."""


def check(function=None, *, provokes=False):
    """Marks a function as a check. `provokes`: it asks for errors, so what is refused meanwhile is no finding."""
    def mark(function):
        CHECKS.append((function.__name__, function, provokes))
        return function

    return mark(function) if function else mark


class Session:
    """A server with a recorder before it, for as long as the `with` block runs."""

    def __init__(self, *options, model=None, engines=2, key=None):
        self.options, self.model_argument, self.engines, self.key = options, model, engines, key

    def __enter__(self):
        if self.model_argument:
            os.environ["TANDEM_INTEGRATION_MODEL"] = str(self.model_argument)
        try:
            options = list(self.options) + (["--api-key", self.key] if self.key else [])
            self.server = serving.Server(*options, engines=self.engines).start()
        finally:
            os.environ.pop("TANDEM_INTEGRATION_MODEL", None)
        self.server.wait_for_all_engines()
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        self.model_entry = self.server.get("/v1/models", headers=headers).json["data"][0]
        self.model = self.model_entry["id"]
        self.recorder = Recorder(self.server.port).__enter__()
        self.root = f"http://{HOST}:{self.recorder.port}"
        self.url = f"{self.root}/v1"
        return self

    def __exit__(self, kind, *reason):
        self.recorder.__exit__(kind, *reason)
        if kind is None:
            # It must stop cleanly and leave nothing behind.
            self.server.stop()
        else:
            self.server.discard()


def command(arguments, session=None, timeout=300, environment=None, input=None):
    """Runs a client's program, which must succeed; gives what it printed."""
    result = subprocess.run(
        [str(argument) for argument in arguments], capture_output=True, text=True, timeout=timeout, input=input,
        env={**os.environ, **(environment or {})})
    if result.returncode != 0:
        raise AssertionError(
            f"{arguments[0]} ended with {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
    return result.stdout


def version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _refusal(exchange, name):
    error = exchange.error
    return {
        "check": name, "request": f"{exchange.method} {exchange.path}", "status": exchange.status,
        "fields": {key: _short(value) for key, value in exchange.fields.items()},
        "message": error.get("message"), "param": error.get("param"), "code": error.get("code"),
    }


def _short(value):
    text = json.dumps(value)
    return value if len(text) <= 2000 else text[:2000] + "…"


def _shape(value):
    """How a field was sent, without its text."""
    if isinstance(value, (bool, int, float, type(None))):
        return json.dumps(value)
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        kinds = {"numbers" if isinstance(item, (int, float)) else _shape(item) for item in value}
        return "[" + ", ".join(sorted(kinds)) + "]"
    return "{" + ", ".join(sorted(value)) + "}"


def _sent(exchanges):
    """What was asked: by endpoint, how often, and the fields with the ways in which they were sent."""
    sent = {}
    for exchange in exchanges:
        entry = sent.setdefault(
            f"{exchange.method} {exchange.path.split('?')[0]}",
            {"requests": 0, "statuses": collections.Counter(), "fields": {}})
        entry["requests"] += 1
        entry["statuses"][str(exchange.status or "cut")] += 1
        for key, value in exchange.fields.items():
            shapes = entry["fields"].setdefault(key, [])
            shape = _shape(value)
            if shape not in shapes and len(shapes) < 4:
                shapes.append(shape)
    return sent


def run(client, distributions=(), *options, model=None, engines=2):
    """Runs all checks, or those that are named on the command line, and ends the process.

    `client` is the package whose version counts, `distributions` are others whose versions matter, `options` go to
    `tandem serve`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--result")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    results, refused = [], []

    def interrupted(number, frame):
        raise KeyboardInterrupt

    # So that the server ends when this is ended.
    signal.signal(signal.SIGTERM, interrupted)
    with Session(*options, model=model, engines=engines) as session:
        began = time.time()
        server_version = session.server.get("/version").json["version"]
        for name, function, provokes in CHECKS:
            if arguments.names and name not in arguments.names:
                continue
            start = time.time()
            outcome, detail = "passed", None
            try:
                note = function(session)
                if inspect.iscoroutine(note):
                    note = asyncio.run(note)
                detail = note
            except NotHere as reason:
                outcome, detail = "not here", str(reason)
            except Exception as error:
                outcome = "failed"
                frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(HERE) in frame.filename]
                detail = f"{type(error).__name__}: {str(error)[:3000]}"
                if frames:
                    detail += f" ({pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line})"
            end = time.time()
            exchanges = session.recorder.between(start, end)
            if not provokes:
                refused += [_refusal(exchange, name) for exchange in exchanges if exchange.error]
            results.append({"name": name, "outcome": outcome, "seconds": round(end - start, 2), "detail": detail})
            print(f"  {outcome:8} {name} ({end - start:.1f} s){': ' + str(detail) if detail else ''}", flush=True)
        document = {
            "client": client, "version": version(client), "server": server_version,
            "python": ".".join(map(str, sys.version_info[:3])),
            "with": {name: version(name) for name in distributions},
            "model": session.model, "checks": results, "refused": refused,
            "sent": _sent(session.recorder.between(began, time.time())),
        }
    if arguments.result:
        pathlib.Path(arguments.result).write_text(json.dumps(document, indent=2, ensure_ascii=False, default=str))
    sys.exit(0 if results and all(result["outcome"] != "failed" for result in results) else 1)
