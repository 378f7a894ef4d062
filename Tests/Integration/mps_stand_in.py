"""The stand-ins for MPS's programs (Tests/Fixtures/mps/fake_mps.py), set up for a server under test."""
import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import serving
from serving import wait_until

LAUNCHER = """#!{python} -SE
import sys
sys.path.insert(0, {fixtures!r})
import fake_mps
sys.exit(fake_mps.main())
"""
FAULT = "fault"


class FakeMPS:
    """The stand-ins in a directory of their own."""

    def __init__(self, *quirks, device="0"):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="tmps", dir="/tmp"))
        self.programs = self.base / "bin"
        self.programs.mkdir()
        self.run = self.base / "run"
        self.run.mkdir(mode=0o700)
        text = LAUNCHER.format(
            python=os.path.realpath(sys.executable), fixtures=str(serving.ROOT / "Tests/Fixtures/mps"))
        for name in ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server"):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o700)
        self.environment = {"PATH": f"{self.programs}:{os.environ['PATH']}", "FAKE_MPS": ",".join(quirks)}
        # Of the daemon that a supervisor starts.
        self.parent = self.run / f"tandem-mps-{os.getuid()}-{device}"
        self.pipe = self.parent / "pipe"
        self.daemons = []

    def ask(self, *lines, pipe=None):
        """Answers of a session with the daemon; while others hold it, it may be cut off."""
        for _ in range(50):
            run = subprocess.run(
                [self.programs / "nvidia-cuda-mps-control"], input="\n".join(lines + ("zz_end", "")), text=True,
                capture_output=True, timeout=30 * serving.PATIENCE,
                env={**os.environ, **self.environment, "CUDA_MPS_PIPE_DIRECTORY": str(pipe or self.pipe)})
            answer = run.stdout.splitlines()
            if answer and "zz_end" in answer[-1]:
                return answer[:-1]
            time.sleep(0.05)
        raise AssertionError("the daemon does not answer")

    def clients(self, pipe=None):
        servers = self.ask("get_server_list", pipe=pipe)
        return {int(pid) for server in servers for pid in self.ask(f"get_client_list {server}", pipe=pipe)}

    def processes(self, name, pipe=None):
        """Living processes of MPS in the daemon's directory."""
        wanted = f"CUDA_MPS_PIPE_DIRECTORY={pipe or self.pipe}".encode()
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    if any(word.endswith(name.encode()) for word in words):
                        if "control" not in name or b"-f" in words:
                            found.append(int(entry.name))
        return found

    def daemon(self):
        return self.processes("nvidia-cuda-mps-control")

    def servers(self):
        return self.processes("nvidia-cuda-mps-server")

    def fault(self, code=700):
        """A fatal fault of the device; gone once all clients are."""
        hidden = self.parent / "fault.new"
        hidden.write_text(str(code))
        hidden.rename(self.parent / FAULT)

    def start_daemon(self, directory):
        """Somebody else's daemon."""
        directory.mkdir(mode=0o700, exist_ok=True)
        environment = {
            **os.environ, **self.environment, "CUDA_MPS_PIPE_DIRECTORY": str(directory / "pipe"),
            "CUDA_MPS_LOG_DIRECTORY": str(directory / "log"),
        }
        process = subprocess.Popen(
            [self.programs / "nvidia-cuda-mps-control", "-f"], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, start_new_session=True)
        self.daemons.append(process)
        wait_until(lambda: (directory / "pipe/control").exists(), 20, "the daemon does not start")
        return process

    def discard(self):
        if not self.base.exists():
            return
        for process in self.daemons:
            process.kill()
            process.wait(10)
        # A daemon that is killed leaves its server.
        pipes = {self.pipe, *(path / "pipe" for path in self.base.iterdir())}
        for name, pipe in itertools.product(("nvidia-cuda-mps-control", "nvidia-cuda-mps-server"), pipes):
            for pid in self.processes(name, pipe):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.base, ignore_errors=True)


def real_control():
    """NVIDIA's program, as Scripts/fetch-mps got it."""
    places = [pathlib.Path(os.environ["TANDEM_CACHE"])] if os.environ.get("TANDEM_CACHE") else []
    for place in places + [serving.ROOT / ".build-cache"]:
        program = place / "mps/bin/nvidia-cuda-mps-control"
        if os.access(program, os.X_OK):
            return program
    return None
