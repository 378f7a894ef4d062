"""The fake engine as a program, for servers that start their engines by a command.

    external_engine.py --port PORT --control DIRECTORY --index INDEX [--name NAME] [--mps DIRECTORY]

It does what `DIRECTORY/INDEX.json` says, attributes of a FakeEngine and of this program, also while it runs:

exit: ends at once with this code. deaf: does not listen. no_generation: answers every POST with 500. child: leaves a process
in a group of its own, which outlives it. ignore_term: does not end on SIGTERM.
With --mps it is a client of the daemon that its environment names, by the stand-in in that directory, and ends with status 1
at an error, as a program does that knows nothing of MPS.
Every start is a line in `DIRECTORY/starts`: index, pid, port and the environment's marks.
"""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from fake_engine import FakeEngine


class Program:
    def __init__(self):
        parser = argparse.ArgumentParser()
        for name in ("--port", "--index"):
            parser.add_argument(name, type=int, required=True)
        parser.add_argument("--control", type=pathlib.Path, required=True)
        parser.add_argument("--name", default="fake")
        parser.add_argument("--mps")
        parser.add_argument("rest", nargs="*")
        self.options = parser.parse_args()
        self.file = self.options.control / f"{self.options.index}.json"

    def settings(self):
        try:
            return json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}

    def note(self):
        marks = {name: os.environ.get(name) for name in ("TANDEM_ENGINE_INDEX", "TANDEM_RUN_DIRECTORY", "TANDEM_PORT",
                                                         "CUDA_VISIBLE_DEVICES", "GIVEN")}
        line = dict(
            index=self.options.index, pid=os.getpid(), port=self.options.port, name=self.options.name,
            rest=self.options.rest, group=os.getpgid(0), time=time.monotonic(), **marks)
        with open(self.options.control / "starts", "a") as starts:
            starts.write(json.dumps(line) + "\n")

    def attach(self):
        sys.path.insert(0, self.options.mps)
        import fake_mps
        try:
            connection = fake_mps.connect(fake_mps.CLIENT)
        except OSError:
            return  # by time slices, and without a word
        if connection.recv(64) != b"attached":
            sys.exit(1)

        def watch():
            print(f"CUDA error {connection.recv(64).decode() or 805}", file=sys.stderr, flush=True)
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()

    def run(self):
        self.note()
        if self.options.mps:
            self.attach()
        settings = self.settings()
        print(f"hello from {self.options.index}", flush=True)
        print("an error line", file=sys.stderr, flush=True)
        if "exit" in settings:
            sys.exit(settings["exit"])
        if settings.get("ignore_term"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        else:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        if settings.get("child"):
            child = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL)
            (self.options.control / f"child-{self.options.index}").write_text(str(child.pid))
        if settings.get("deaf"):
            threading.Event().wait()
        engine = FakeEngine(self.options.name, port=self.options.port)
        while True:
            settings = self.settings()
            engine.status = 500 if settings.get("no_generation") else 200
            engine.pause = settings.get("pause", 0)
            engine.frozen = settings.get("frozen", False)
            engine.health_status = settings.get("health_status", 200)
            engine.chat_only = settings.get("chat_only", False)
            (self.options.control / f"asked-{self.options.index}.new").write_text(
                json.dumps([request["target"] for request in engine.asked]))
            os.rename(
                self.options.control / f"asked-{self.options.index}.new",
                self.options.control / f"asked-{self.options.index}")
            time.sleep(0.02)


if __name__ == "__main__":
    Program().run()
