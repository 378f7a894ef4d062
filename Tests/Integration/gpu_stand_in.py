"""The stand-in for CUDA's driver (Sources/CUDADouble), set up for a server under test."""
import atexit
import contextlib
import functools
import os
import pathlib
import shutil
import tempfile
import unittest

import chaos_model
import serving
from serving import wait_until

DOUBLE = os.path.abspath(
    os.environ.get("TANDEM_CUDA_DOUBLE") or serving.ROOT / ".build/debug/libtandem-cuda-double.so")
# A step that the stand-in computes takes milliseconds, and much longer on a machine that has other work.
STEP_TIMEOUT, STEP_TOKENS = "10s", "64"


def needs_double(test):
    if os.path.exists(DOUBLE):
        return test
    return unittest.skip(f"{DOUBLE} is missing: swift build --product tandem-cuda-double")(test)


@functools.cache
def small_model():
    """The directory of a model that the stand-in computes fast."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tmodel", dir="/tmp"))
    atexit.register(shutil.rmtree, directory, True)
    return str(chaos_model.write_small(directory))


class StandInGPU:
    """A GPU that can be made to fail. With `shared`, processes on it are clients of one MPS server."""

    def __init__(self, shared=False, **settings):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="tgpu", dir="/tmp"))
        self.faults = self.base / "faults"
        self.environment = {
            "TANDEM_CUDA_DRIVER": DOUBLE, "TANDEM_DOUBLE_FAULT_FILE": str(self.faults),
            # Its images are nobody's code.
            "XDG_CACHE_HOME": str(self.base / "cache"),
        }
        if shared:
            self.environment["TANDEM_DOUBLE_MPS_GROUP"] = str(self.base / "group")
        self.environment.update({f"TANDEM_DOUBLE_{name}": str(value) for name, value in settings.items()})

    def plan(self, text, pid=None):
        """Lays out faults for a process, or for the next one that computes: `launch=700`, `copy:3=719`, `launch=hang`,
        … Gives the file, which is there until they are taken."""
        hidden = self.base / "hidden"
        hidden.write_text(text)
        return hidden.rename(f"{self.faults}.{pid}" if pid else self.faults)

    def fail(self, text, pid=None):
        """The same, and waits until a process has them."""
        file = self.plan(text, pid)
        wait_until(lambda: not file.exists(), 30, f"nobody takes the fault {text}")

    def take_back(self):
        """What nobody took is planned no more."""
        for file in self.base.glob("faults*"):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()

    def discard(self):
        shutil.rmtree(self.base, ignore_errors=True)
