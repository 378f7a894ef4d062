"""`tandem bench` against a real server: its counts must be exact, and what it cannot do it must say."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import unittest

import serving
from serving import BINARY, HOST, ServerTestCase, free_port, wait_until

# What vLLM's benchmark writes, and readers of its files look for.
FIELDS = [
    "date", "endpoint_type", "backend", "model_id", "tokenizer_id", "num_prompts", "request_rate", "burstiness",
    "max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens",
    "request_throughput", "request_goodput", "output_throughput", "total_token_throughput", "max_output_tokens_per_s",
    "max_concurrent_requests",
] + [
    f"{kind}_{name}_ms" for name in ("ttft", "tpot", "itl", "e2el")
    for kind in ("mean", "median", "std", "p50", "p90", "p95", "p99")
]


def bench(*arguments, **more):
    return subprocess.run(
        [BINARY, "bench", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120 * serving.PATIENCE, **more)


class BenchTests(ServerTestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.url = f"http://{HOST}:{self.server.port}/v1"
        # The tokenizer of the model that is served.
        self.tokenizer = os.environ.get("TANDEM_INTEGRATION_MODEL") or self.model["id"]

    def result(self, *arguments, code=0):
        path = self.directory / "result.json"
        run = bench(self.url, *arguments, "--output", path)
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        self.assertFalse(list(self.directory.glob("*.part")))
        return json.loads(path.read_text()), run.stdout

    def counts(self, result):
        return [result[name] for name in ("completed", "failed", "total_input_tokens", "total_output_tokens")]

    def test_counts_are_exact(self):
        result, table = self.result(
            "--concurrency", 4, "--requests", 10, "--model", self.tokenizer, "--input-tokens", 50,
            "--output-tokens", 7, "--warmup", 1, "--save-detailed", "--goodput", "ttft:1e9,itl:1e9")
        self.assertEqual(self.counts(result), [10, 0, 500, 70])
        self.assertEqual([name for name in FIELDS if name not in result], [])
        self.assertEqual(result["input_lens"], [50] * 10)
        self.assertEqual(result["output_lens"], [7] * 10)
        self.assertEqual(result["token_counts"], "usage")
        self.assertEqual(result["good_requests"], 10)
        self.assertEqual(result["max_concurrency"], 4)
        self.assertEqual(result["latency_from"], "sent")
        self.assertLessEqual(result["max_concurrent_requests"], 4)
        self.assertFalse([text for text in result["warnings"] if "generator" not in text], result["warnings"])
        self.assertGreater(result["mean_ttft_ms"], 0)
        self.assertAlmostEqual(result["output_throughput"] * result["duration"], 70, places=3)
        self.assertIn("10 complete, 0 failed", table)

    def test_chats_have_their_length_with_the_template(self):
        result, _ = self.result(
            "--chat", "--requests", 4, "--model", self.tokenizer, "--input-tokens", "60-90", "--output-tokens", 3,
            "--save-detailed")
        self.assertEqual(self.counts(result)[:2] + self.counts(result)[3:], [4, 0, 12])
        self.assertTrue(all(60 <= length <= 90 for length in result["input_lens"]), result["input_lens"])
        self.assertFalse([text for text in result["warnings"] if "generator" not in text], result["warnings"])

    def test_open_loops(self):
        for pace in (["--rate", 20], ["--rate", 20, "--arrivals", "bursty"], ["--rate", 20, "--arrivals", "constant"],
                     ["--rate", 200, "--max-in-flight", 2]):
            with self.subTest(pace):
                result, table = self.result(*pace, "--requests", 6, "--output-tokens", 4, "--save-detailed")
                self.assertEqual(self.counts(result)[:2] + self.counts(result)[3:], [6, 0, 24])
                self.assertEqual(result["latency_from"], "scheduled")
                self.assertGreaterEqual(result["mean_e2el_ms"], result["from_sent"]["mean_e2el_ms"])
                self.assertTrue(
                    all(due <= sent for due, sent in zip(result["scheduled_times"], result["start_times"])))
                self.assertIn("ms from sending", table)

    def test_ramps_have_slices(self):
        result, _ = self.result("--ramp", "5-30", "--duration", "1s", "--output-tokens", 2, "--seed", 1)
        self.assertEqual(len(result["slices"]), 10)
        self.assertEqual(sum(part["requests"] for part in result["slices"]), result["completed"])

    def test_traces_and_datasets(self):
        trace = self.directory / "trace.jsonl"
        trace.write_text("".join(
            json.dumps({"timestamp": 100 * i, "input_length": 20 + i, "output_length": 2 + i, "hash_ids": [1]}) + "\n"
            for i in range(3)))
        result, _ = self.result("--trace", trace, "--trace-speed", 10, "--model", self.tokenizer)
        self.assertEqual(self.counts(result), [3, 0, 63, 9])
        dataset = self.directory / "dataset.jsonl"
        dataset.write_text('{"prompt": "The river", "output_tokens": 3}\n{"prompt": "A day", "max_tokens": 2}\n')
        result, _ = self.result("--dataset", dataset, "--ignore-eos")
        self.assertEqual((result["completed"], result["total_output_tokens"]), (2, 5))

    def links(self):
        sockets = sorted(self.server.runtime.glob("*/engine-*.sock"))
        self.assertEqual(len(sockets), 2)
        return [part for path in sockets for part in ("--link", f"link+unix:{path}")]

    def test_static_batches(self):
        path = self.directory / "result.json"
        arguments = [
            "--batch", 6, "--batches", 2, *self.links(), "--model", self.tokenizer, "--input-tokens", 40,
            "--output-tokens", 5]
        # Not even the same prompts are taken from a cache: a warning would say so.
        run = bench(*arguments, "--seed", 3, "--output", path)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        result = json.loads(path.read_text())
        self.assertEqual(self.counts(result), [12, 0, 480, 60])
        self.assertEqual([batch["output_tokens"] for batch in result["batches"]], [30, 30])
        self.assertEqual(result["max_concurrent_requests"], 6)
        self.assertFalse([text for text in result["warnings"] if "generator" not in text], result["warnings"])
        run = bench(*arguments, "--input-tokens", 1_000_000)
        self.assertEqual(run.returncode, 1)
        self.assertIn("0 complete, 12 failed", run.stdout)
        self.assertIn("refused", run.stdout)
        self.server.wait_idle()

    def test_refused_requests_are_counted(self):
        result, table = self.result("--requests", 3, "--extra-body", '{"temperature": 99}', code=1)
        self.assertEqual((result["completed"], result["failed"]), (0, 3))
        self.assertEqual([(f["reason"], f["count"]) for f in result["failures"]], [("HTTP 400", 3)])
        self.assertIn("temperature", result["failures"][0]["example"])
        self.assertIn("3 x HTTP 400", table)
        self.assertIsNone(result["mean_ttft_ms"])

    def test_interrupted_runs_show_what_they_have(self):
        path = self.directory / "result.json"
        process = subprocess.Popen(
            [BINARY, "bench", self.url, "--concurrency", "2", "--duration", "10m", "--output-tokens", "30",
             "--output", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        before = self.server.metrics().total("vllm:request_success_total")
        wait_until(
            lambda: self.server.metrics().total("vllm:request_success_total") >= before + 3, 60, "nothing is answered")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30 * serving.PATIENCE)
        self.assertEqual(process.returncode, 130, out + err)
        result = json.loads(path.read_text())
        self.assertTrue(result["interrupted"])
        self.assertGreaterEqual(result["completed"], 1)
        self.assertEqual(result["failed"], 0)
        self.assertIn("(interrupted)", out)
        self.server.wait_idle()


class BenchRefusalTests(unittest.TestCase):
    def test_nobody_listens(self):
        run = bench(f"http://{HOST}:{free_port()}")
        self.assertEqual(run.returncode, 1)
        self.assertIn("does the server run?", run.stderr)
        run = bench(f"http://{HOST}:{free_port()}", "--served-model-name", "m", "--requests", 3)
        self.assertEqual(run.returncode, 1)
        self.assertIn("3 x unreachable", run.stdout)

    def test_wrong_flags(self):
        for arguments, said in [
            (["--rate", 3, "--concurrency", 2], "--max-in-flight"),
            (["--ramp", "1-2"], "--duration"),
            (["--ramp", "5", "--duration", "1s"], "two rates"),
            (["--burstiness", 1], "--arrivals bursty"),
            (["--arrivals", "poisson"], "--rate"),
            (["--concurrency", 0], "--concurrency must be"),
            (["--requests", -1], "--requests"),
            (["--rate", "nan"], "--rate"),
            (["--duration", "soon"], "--duration"),
            (["--input-tokens", "9-3"], "--input-tokens"),
            (["--output-tokens", "0"], "--output-tokens"),
            (["--prefixes", 3], "--prefix-tokens"),
            (["--preset", "retrieval", "--input-tokens", 9], "lengths of its own"),
            (["--preset", "poem"], "completion"),
            (["--goodput", "speed:3"], "ttft"),
            (["--no-stream", "--goodput", "ttft:3"], "e2el"),
            (["--extra-body", "[1]"], "JSON object"),
            (["--save-detailed"], "--output"),
            (["--batch", 4], "--link"),
            (["--link", "link+unix:/x"], "--batch"),
            (["--batch", 4, "--link", "link+unix:/x", "--requests", 4], "--batches"),
            (["https://example.com"], "http://"),
            (["ftp://example.com"], "http://"),
        ]:
            with self.subTest(arguments):
                run = bench(*arguments)
                self.assertEqual(run.returncode, 64, run.stderr)
                self.assertIn(said, run.stderr)

    def test_wrong_files(self):
        with socket.create_server((HOST, 0)) as server, tempfile.TemporaryDirectory() as directory:
            url = f"http://{HOST}:{server.getsockname()[1]}"
            broken = pathlib.Path(directory) / "broken.jsonl"
            broken.write_text('{"prompt": "a"}\n{"promt": "b"}\n')
            for arguments, said in [
                (["--dataset", broken], "line 2"), (["--trace", broken], "line 1: `timestamp`"),
                (["--dataset", directory], directory), (["--dataset", "/nonexistent"], "/nonexistent"),
                (["--output", "/nonexistent/result.json"], "--output"),
            ]:
                with self.subTest(arguments):
                    run = bench(url, "--served-model-name", "m", *arguments)
                    self.assertEqual(run.returncode, 1, run.stderr)
                    self.assertIn(said, run.stderr)
