"""A model on a GPU, by the double of the CUDA driver, which computes on the CPU."""
import os
import pathlib
import subprocess
import unittest

import serving

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

    def test_old_gpu(self):
        code, text = self.generate("--device", "cuda:0", TANDEM_CUDA_DRIVER=DOUBLE, TANDEM_DOUBLE_CAPABILITY="7.5")
        self.assertNotEqual(code, 0)
        self.assertIn("7.5", text)

    def test_little_memory(self):
        code, text = self.generate("--device", "cuda:0", TANDEM_CUDA_DRIVER=DOUBLE, TANDEM_DOUBLE_MEMORY_MIB="64")
        self.assertNotEqual(code, 0)
        self.assertRegex(text, r"MiB.*free")

    def test_auto_takes_the_cpu(self):
        code, text = self.generate("--device", "auto", TANDEM_CUDA_DRIVER="/nonexistent/libcuda.so.1")
        self.assertEqual(code, 0, text)

    def test_auto_takes_the_gpu(self):
        # On the CPU there would be memory enough.
        code, text = self.generate(
            "--device", "auto", TANDEM_CUDA_DRIVER=DOUBLE, TANDEM_DOUBLE_MEMORY_MIB="64")
        self.assertNotEqual(code, 0)
        self.assertRegex(text, r"MiB.*free")


if __name__ == "__main__":
    unittest.main()
