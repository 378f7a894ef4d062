"""What this machine is, how busy others keep it, and processes that are started and ended together."""
import os
import platform
import re
import signal
import subprocess
import time


def description():
    with open("/proc/cpuinfo") as file:
        text = file.read()
    name = re.search(r"model name\s*: (.*)", text)
    flags = set((re.search(r"flags\s*: (.*)", text) or [0, ""])[1].split())
    wanted = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]
    return {
        "cpu": name[1] if name else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "instruction_sets": [flag for flag in wanted if flag in flags],
        "system": platform.platform(),
    }


def busy_cores(seconds=0.5):
    """Cores that were busy on average while this process slept: what others take from the measurement."""

    def ticks():
        with open("/proc/stat") as file:
            values = [int(value) for value in file.readline().split()[1:]]
        return sum(values[:8]) - values[3] - values[4]

    before, began = ticks(), time.monotonic()
    time.sleep(seconds)
    spent = (ticks() - before) / os.sysconf("SC_CLK_TCK")
    return round(spent / (time.monotonic() - began), 2)


class Group:
    """A process and its descendants, in a process group of their own."""

    def __init__(self, command, log, environment=None, **options):
        self.command, self.log = [str(part) for part in command], log
        with open(log, "ab") as stream:
            self.process = subprocess.Popen(
                self.command, start_new_session=True, env={**os.environ, **(environment or {})},
                **{"stdin": subprocess.DEVNULL, "stdout": stream, **options}, stderr=stream,
            )

    def running(self):
        return self.process.poll() is None

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def pause(self):
        """Takes the group off the cores without ending it, so that it is ready for its next turn."""
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def end(self):
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        # Descendants may outlive the leader.
        self.signal(signal.SIGKILL)
        self.process.wait()

    def tail(self):
        with open(self.log, errors="replace") as file:
            return file.read()[-1500:]
