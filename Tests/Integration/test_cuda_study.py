"""`tandem study` on a GPU, by the double of the CUDA driver: a worker that dies, a GPU that fails, interruptions. No figure
of this test is a speed."""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import unittest
import uuid

import serving
from gpu_stand_in import StandInGPU, needs_double
from serving import BINARY, MARK, marked_processes, wait_until

MODEL = "qwen2.5-0.5b"


@needs_double
class StudyTests(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.gpu = StandInGPU()
        self.addCleanup(self.gpu.discard)
        self.mark = uuid.uuid4().hex
        self.path = self.directory / "results/small.jsonl"

    def definition(self, repetitions):
        path = self.directory / "small.json"
        path.write_text(json.dumps({
            "figure": "small", "title": "small", "question": "?", "phase": "decode", "models": [MODEL], "contexts": [32],
            "batches": [2], "caches": ["memory"], "repetitions": repetitions, "device": "cuda:0",
            "arms": [
                {"id": "one", "title": "one", "engines": 1, "sharing": "alone"},
                {"id": "ahead", "title": "ahead", "engines": 1, "sharing": "alone", "asynchronous": True},
                {"id": "two", "title": "two", "engines": 2, "sharing": "time-sliced"},
                {"id": "mps", "title": "mps", "engines": 2, "sharing": "mps"},
            ],
        }))
        return path

    def start(self, repetitions):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
        environment.update(self.gpu.environment)
        environment[MARK] = self.mark
        process = subprocess.Popen(
            [BINARY, "study", str(self.definition(repetitions)), "--out", str(self.path.parent)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            start_new_session=True)
        self.addCleanup(self.discard, process)
        return process

    def discard(self, process):
        for found in marked_processes(self.mark):
            os.kill(found.pid, signal.SIGKILL)
        process.wait(20)
        process.stdout.close()
        process.stderr.close()

    def workers(self):
        return [p for p in marked_processes(self.mark) if p.arguments[1:3] == ("gpu", "worker")]

    def finish(self, process, code):
        """Waits for the end; nothing is left but whole lines."""
        out, errors = process.communicate(timeout=240 * serving.PATIENCE)
        self.assertEqual(process.returncode, code, out + errors)
        wait_until(lambda: not marked_processes(self.mark), 20, lambda: f"processes are left: {self.workers()}")
        return out, errors

    def measurements(self):
        return [
            entry["measurement"] for entry in map(json.loads, self.path.read_text().splitlines())
            if "measurement" in entry]

    def wait_for_measurements(self, count):
        wait_until(
            lambda: self.path.exists() and self.path.read_bytes().count(b"\n") > count, 180,
            f"not {count} measurements were written")

    def check_complete(self, repetitions, failed=0):
        """Every cell is there as often as it should, and all but `failed` have a figure."""
        found = self.measurements()
        names = [json.dumps([entry["cell"], entry["repetition"]], sort_keys=True) for entry in found]
        self.assertEqual(len(names), 4 * repetitions)
        self.assertEqual(len(set(names)), len(names), "a cell was measured twice")
        failures = [entry for entry in found if "failure" in entry]
        self.assertEqual(len(failures), failed, failures)
        for entry in found:
            if "failure" not in entry:
                self.assertGreater(entry["generated_tokens_per_second"], 0)
        return failures

    def test_a_worker_is_killed(self):
        process = self.start(2)
        self.wait_for_measurements(1)
        victim = wait_until(self.workers, 60, "no worker")[0]
        os.kill(victim.pid, signal.SIGKILL)
        out, _ = self.finish(process, 1)
        self.assertIn("1 failed", out)
        (failure,) = self.check_complete(2, failed=1)
        self.assertRegex(failure["failure"], "worker.*was killed by SIGKILL")

    def test_the_gpu_fails(self):
        process = self.start(2)
        self.wait_for_measurements(1)
        self.gpu.fail("launch=700")
        self.finish(process, 1)
        (failure,) = self.check_complete(2, failed=1)
        self.assertRegex(failure["failure"], r"CUDA_ERROR_ILLEGAL_ADDRESS \(700\)")

    def test_interrupted_twice_and_gone_on_with(self):
        for count in (1, 4):
            process = self.start(2)
            self.wait_for_measurements(count)
            process.send_signal(signal.SIGINT)
            _, errors = self.finish(process, 130)
            self.assertIn("the same command goes on with the others", errors)
            self.assertLess(len(self.measurements()), 8)
        process = self.start(2)
        _, errors = self.finish(process, 0)
        self.assertIn("measurements are there already", errors)
        self.check_complete(2)

    def test_a_worker_that_hangs_is_given_up_at_an_interruption(self):
        process = self.start(2)
        self.wait_for_measurements(1)
        self.gpu.fail("launch=hang")
        process.send_signal(signal.SIGINT)
        self.finish(process, 130)
        self.assertFalse([entry for entry in self.measurements() if "failure" in entry])


if __name__ == "__main__":
    unittest.main()
