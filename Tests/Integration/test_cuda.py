"""A model on a GPU, by the double of the CUDA driver, which computes on the CPU."""
import os
import pathlib
import subprocess
import unittest

import serving
from serving import Server

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOUBLE = os.environ.get("TANDEM_CUDA_DOUBLE") or str(ROOT / ".build/debug/libtandem-cuda-double.so")


def needs_double(test):
    if os.path.exists(DOUBLE):
        return test
    return unittest.skip(f"{DOUBLE} is missing: swift build --product tandem-cuda-double")(test)


@needs_double
class StartTests(unittest.TestCase):
    """What stands in the way is said, with what to do about it."""

    def generate(self, *flags, **variables):
        environment = {**os.environ, **variables}
        done = subprocess.run(
            [serving.BINARY, "generate", "--max-tokens", "2", "--raw", *flags, "Hello"], capture_output=True, text=True,
            env=environment, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def test_no_driver(self):
        code, text = self.generate("--device", "cuda:0", TANDEM_CUDA_DRIVER="/nonexistent/libcuda.so.1")
        self.assertNotEqual(code, 0)
        self.assertIn("/nonexistent/libcuda.so.1", text)
        self.assertIn("--device cpu needs none", text)

    def test_old_driver(self):
        code, text = self.generate("--device", "cuda:0", TANDEM_CUDA_DRIVER=DOUBLE, TANDEM_DOUBLE_DRIVER="11080")
        self.assertNotEqual(code, 0)
        self.assertRegex(text, r"CUDA 11\.8, and 12\.0 is needed")

    def test_old_gpu(self):
        code, text = self.generate("--device", "cuda:0", TANDEM_CUDA_DRIVER=DOUBLE, TANDEM_DOUBLE_CAPABILITY="7.5")
        self.assertNotEqual(code, 0)
        self.assertIn("7.5", text)

    def test_little_memory(self):
        code, text = self.generate("--device", "cuda:0", TANDEM_CUDA_DRIVER=DOUBLE, TANDEM_DOUBLE_MEMORY_MIB="64")
        self.assertNotEqual(code, 0)
        self.assertRegex(text, r"MiB.*free")

    def test_auto_takes_the_cpu_and_says_why(self):
        server = Server(environment={"TANDEM_CUDA_DRIVER": "/nonexistent/libcuda.so.1"}).start()
        self.addCleanup(server.stop)
        self.assertRegex(server.output(), r"computing on the CPU: .*/nonexistent/libcuda\.so\.1")
        self.assertIn("each cpu (", server.output())

    def test_auto_takes_the_gpu(self):
        # On the CPU there would be memory enough.
        code, text = self.generate(
            "--device", "auto", TANDEM_CUDA_DRIVER=DOUBLE, TANDEM_DOUBLE_MEMORY_MIB="64")
        self.assertNotEqual(code, 0)
        self.assertRegex(text, r"MiB.*free")


if __name__ == "__main__":
    unittest.main()
