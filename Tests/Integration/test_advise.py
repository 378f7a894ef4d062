"""`tandem advise`, as a person and a program use it."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from serving import BINARY, ROOT

PROBE = ROOT / "Results/gpu-probe/h100-2026-11-26"
CONFIGURATION = {
    "architectures": ["Qwen2ForCausalLM"], "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768, "vocab_size": 151936,
    "rope_theta": 1000000.0, "tie_word_embeddings": True,
}


def advise(*arguments, **environment):
    return subprocess.run(
        [BINARY, "advise", *arguments], capture_output=True, text=True, timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment})


def workload(context=256, output=128, concurrency=256):
    return ["--context", str(context), "--output", str(output), "--concurrency", str(concurrency)]


class AdviseTests(unittest.TestCase):
    def ask(self, *arguments):
        answer = advise(*arguments, "--json")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        return json.loads(answer.stdout)

    def refuse(self, *arguments):
        """The message of a refusal, which comes without half an answer."""
        answer = advise(*arguments)
        self.assertEqual(answer.returncode, 64, answer.stdout)
        self.assertEqual(answer.stdout, "")
        message = answer.stderr.splitlines()[0]
        self.assertTrue(message.startswith("Error: "), message)
        return message

    def test_text(self):
        answer = advise("qwen2.5-0.5b", "--gpu", "h100", *workload())
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertTrue(answer.stdout.isascii())
        self.assertNotIn("\x1b", answer.stdout)
        for words in [
            "A prediction of a model; nothing was measured.", "Verdict: ", "idle host time recovered", "2 under MPS ", " ###",
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "3 to 23 %", "asynchronous scheduling",
        ]:
            self.assertIn(words, answer.stdout)
        self.assertLessEqual(max(map(len, answer.stdout.splitlines())), 100)
        unicode = advise("qwen2.5-0.5b", "--gpu", "h100", *workload(), LANG="C.UTF-8")
        self.assertIn("█", unicode.stdout)

    def test_json(self):
        answer = self.ask("qwen2.5-0.5b", "--gpu", "h100", *workload())
        self.assertIn(answer["verdict"], ["yes", "no", "fix_engine_first"])
        low, high = answer["gain_interval"]
        self.assertLess(low, answer["gain"])
        self.assertLess(answer["gain"], high)
        self.assertAlmostEqual(sum(answer["decomposition"].values()), answer["gain"], places=9)
        self.assertEqual(answer["mps_active_thread_percentage"], 100)
        self.assertEqual(
            [arm["arm"] for arm in answer["arms"]],
            ["one", "one_asynchronous", "time_sliced", "in_process", "mps", "mps_asynchronous"])
        self.assertEqual([row["engines"] for row in answer["by_engines"]], list(range(1, 9)))

    def test_models(self):
        """The same model by name, as a configuration in a file and in a directory."""
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "config.json"
            path.write_text(json.dumps(CONFIGURATION))
            arguments = ["--gpu", "h100", *workload()]
            answers = [self.ask(model, *arguments) for model in ["Qwen/Qwen2.5-0.5B-Instruct", str(path), directory]]
        for answer in answers[1:]:
            self.assertEqual(answer["arms"], answers[0]["arms"])

    def test_gguf(self):
        files = sorted(pathlib.Path(os.environ.get("TANDEM_CACHE", ROOT / ".build-cache")).glob("models/*.gguf"))
        if not files:
            self.skipTest("no GGUF file in the cache")
        answer = self.ask(str(files[0]), "--gpu", "l4", *workload(context=100, output=100, concurrency=16))
        self.assertGreater(answer["arms"][0]["tokens_per_second"], 0)

    def test_probe(self):
        plain = self.ask("qwen2.5-3b", "--gpu", "h100", *workload(), "--host-time", "2ms")
        probed = self.ask("qwen2.5-3b", "--gpu", "h100", *workload(), "--host-time", "2ms", "--probe", str(PROBE))
        self.assertTrue(probed["sources"][0].startswith("probe file: 76 products"), probed["sources"])
        self.assertNotEqual(plain["arms"][0]["device_seconds_per_step"], probed["arms"][0]["device_seconds_per_step"])

    def test_latency(self):
        arguments = ["qwen2.5-1.5b", "--gpu", "h200", *workload(concurrency=1024)]
        free = self.ask(*arguments)
        bound = self.ask(*arguments, "--latency", "1500ms")
        for arm in bound["arms"] + bound["by_engines"]:
            self.assertLessEqual(arm["latency_seconds"], 1.55)
        self.assertLess(bound["arms"][0]["requests_in_flight"], free["arms"][0]["requests_in_flight"])

    def test_bad_input(self):
        good = ["--gpu", "h100", *workload()]
        self.assertIn("known: h100", self.refuse("qwen2.5-0.5b", "--gpu", "h1000", *workload()))
        self.assertIn("Known: qwen2.5-0.5b", self.refuse("nosuchmodel", *good))
        self.assertIn("does not fit", self.refuse("qwen2.5-32b", "--gpu", "l4", *workload()))
        self.assertIn("at most 1 fit", self.refuse("qwen2.5-7b", "--gpu", "l4", *workload(), "--engines", "2"))
        self.assertIn("at most 32768", self.refuse("qwen2.5-0.5b", "--gpu", "h100", *workload(context=40000)))
        for flag in ["context", "output", "concurrency"]:
            self.assertIn(f"--{flag}: 0", self.refuse("qwen2.5-0.5b", "--gpu", "h100", *workload(**{flag: 0})))
        self.assertIn("0s", self.refuse("qwen2.5-0.5b", *good, "--latency", "0s"))
        self.assertIn("alone is predicted", self.refuse("qwen2.5-0.5b", *good, "--latency", "1ms"))

    def test_bad_files(self):
        good = ["--gpu", "h100", *workload()]
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "probe.jsonl"
            self.assertIn("No such file", self.refuse("qwen2.5-0.5b", *good, "--probe", str(path)))
            self.assertIn("no .jsonl file", self.refuse("qwen2.5-0.5b", *good, "--probe", directory))
            path.write_text('{"m": 1}\n{"m": 2')
            self.assertIn("line 2", self.refuse("qwen2.5-0.5b", *good, "--probe", str(path)))
            path.write_text('{"m": 1}\n\n')
            self.assertIn("nothing in it can be used", self.refuse("qwen2.5-0.5b", *good, "--probe", str(path)))
            path.write_bytes(bytes(range(255, -1, -1)) * 10)
            self.assertIn("line 1", self.refuse("qwen2.5-0.5b", *good, "--probe", str(path)))
            self.assertIn("neither a config.json", self.refuse(directory, *good))
            broken = pathlib.Path(directory) / "config.json"
            broken.write_text("{}")
            self.assertIn("architectures", self.refuse(directory, *good))
            broken.write_text("{")
            self.assertIn("config.json", self.refuse(str(broken), *good))
        self.assertIn(
            "was measured on", self.refuse("qwen2.5-0.5b", "--gpu", "h200", *workload(), "--probe", str(PROBE)))


if __name__ == "__main__":
    unittest.main()
