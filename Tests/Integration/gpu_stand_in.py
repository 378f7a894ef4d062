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
STEP_TIMEOUT = "10s"


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

    def plan(self, text):
        """Lays out faults for the next process that computes: `launch=700`, `copy:3=719`, `launch=hang`, …"""
        hidden = self.base / "faults.new"
        hidden.write_text(text)
        hidden.rename(self.faults)

    @property
    def is_taken(self):
        return not self.faults.exists()

    def fail(self, text):
        """The same, and waits until a process has them."""
        self.plan(text)
        wait_until(lambda: self.is_taken, 30, f"nobody takes the fault {text}")

    def take_back(self):
        """What nobody took is planned no more."""
        with contextlib.suppress(FileNotFoundError):
            self.faults.unlink()

    def discard(self):
        shutil.rmtree(self.base, ignore_errors=True)
