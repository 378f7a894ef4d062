"""`tandem study`, as a person uses it: simulated figures, engines of this machine, interruptions and rubbish."""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import unittest

import serving
from serving import BINARY, wait_until

SMALL = ["--models", "qwen2.5-0.5b", "--contexts", "128"]


def environment():
    return {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_") or key == "TANDEM_CACHE"}


def study(*arguments):
    return subprocess.run(
        [BINARY, "study", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=300 * serving.PATIENCE, env=environment())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class StudyTests(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.out = self.directory / "deep" / "results"

    def run_study(self, *arguments, code=0):
        run = study(*arguments, "--out", self.out)
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        return run

    def test_figures_are_made_and_gone_on_with(self):
        self.run_study("F1", "T1", *SMALL)
        figure = lines(self.out / "F1.jsonl")
        header = figure[0]["header"]
        self.assertEqual((header["kind"], header["device"]), ("simulated", "simulated:h100"))
        self.assertEqual(header["definition"]["contexts"], [128])
        measurements = [line["measurement"] for line in figure[1:]]
        self.assertEqual(len(measurements), 3 * 6 * 2 * 2 * 2)
        self.assertTrue(all(measurement["generated_tokens_per_second"] > 0 for measurement in measurements))
        self.assertEqual(len(lines(self.out / "T1.jsonl")), 1 + 6)

        before = (self.out / "F1.jsonl").read_bytes()
        whole = before.splitlines(keepends=True)
        (self.out / "F1.jsonl").write_bytes(b"".join(whole[:11]) + whole[11][:40])
        again = self.run_study("F1", *SMALL)
        self.assertIn("10 measurements are there already", again.stderr)

        def results(text):
            return sorted(
                json.dumps({key: value for key, value in json.loads(line)["measurement"].items() if key != "seconds"})
                for line in text.splitlines()[1:])
        self.assertEqual(results((self.out / "F1.jsonl").read_bytes()), results(before))

        other = self.run_study("F1", *SMALL, "--repetitions", 4, code=64)
        self.assertIn("--no-resume", other.stderr)
        self.run_study("F1", *SMALL, "--repetitions", 1, "--no-resume")
        self.assertEqual(len(lines(self.out / "F1.jsonl")), 1 + 48)

    def test_definitions_are_printed_and_taken(self):
        names = [line.split()[0] for line in study("--list").stdout.splitlines()]
        self.assertEqual(names[:2], ["F1", "F2"])
        path = self.directory / "mine.json"
        path.write_text(study("--print", "F4").stdout)
        self.run_study(path, "--quick", "--repetitions", 1)
        ablations = {line["measurement"]["cell"]["ablation"] for line in lines(self.out / "F4.jsonl")[1:]}
        self.assertEqual(ablations, {"full", "attentionOnly", "mlpOnly"})

    def test_bad_input_is_refused_before_anything_is_written(self):
        for arguments, words in [
            (["F9"], "neither a figure nor a file"), ([], "name a figure"),
            (["F1", "--device", "simulated:h1000"], "known: h100"), (["F1", "--device", "tpu"], "simulated:h100"),
            (["CPU1", "--device", "cuda:0"], "cannot run on a GPU"), (["F1", "--device", "cpu"], "tandem study cpu"),
            (["F1", "--device", "simulated:l4"], "do not fit"), (["F1", "--models", "nosuch"], "known: qwen2.5-0.5b"),
            (["F1", "--models", ","], "names no model"), (["F1", "--contexts", "x"], "is no number"),
            (["F1", "--contexts", "100000"], "exceed"), (["F1", "--repetitions", "0"], "1 to 1000"),
            (["F1", "f1"], "named twice"), (["F1", "--probe", "/nowhere"], "/nowhere"),
            (["CPU1", "--device", "simulated:h100"], "cannot be simulated"), ([__file__], "no definition"),
        ]:
            with self.subTest(arguments):
                run = self.run_study(*arguments, code=64)
                self.assertIn(words, run.stderr)
                self.assertEqual(run.stdout, "")
                self.assertFalse(self.out.exists())

    def test_a_corrupt_file_is_named_and_left_alone(self):
        self.run_study("F1", *SMALL, "--repetitions", 1)
        path = self.out / "F1.jsonl"
        path.write_text(path.read_text().replace('"decode"', '"dekode"', 2))
        before = path.read_bytes()
        self.assertIn("line", self.run_study("F1", *SMALL, "--repetitions", 1, code=64).stderr)
        self.assertEqual(path.read_bytes(), before)

    def test_an_interruption_leaves_whole_lines(self):
        self.interrupt("F6", self.out / "F6.jsonl")

    def test_an_interruption_ends_engines(self):
        runtime = self.directory / "run"
        runtime.mkdir()
        self.interrupt(self.definition(repetitions=1000), self.out / "small.jsonl", XDG_RUNTIME_DIR=str(runtime))
        self.assertEqual(list(runtime.iterdir()), [])

    def interrupt(self, name, path, **more):
        process = subprocess.Popen(
            [BINARY, "study", name, "--out", self.out], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment() | more)
        self.addCleanup(process.kill)
        wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") > 1, 120, "no measurement was written")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120 * serving.PATIENCE)
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn("goes on with the others", errors)
        self.assertGreater(len(lines(path)), 1)

    def definition(self, **changes):
        definition = {
            "figure": "small", "title": "small", "question": "?", "phase": "decode",
            "models": [os.environ.get("TANDEM_INTEGRATION_MODEL") or "smollm2-135m-instruct"], "contexts": [16],
            "batches": [2], "output_tokens": 8, "caches": ["equal"], "repetitions": 2, "device": "cpu",
            "arms": [
                {"id": "one", "title": "one", "engines": 1, "sharing": "alone", "cores": 1},
                {"id": "ahead", "title": "ahead", "engines": 1, "sharing": "alone", "cores": 1, "asynchronous": True},
            ],
        }
        definition.update(changes)
        path = self.directory / "small.json"
        path.write_text(json.dumps(definition))
        return path

    def test_engines_of_this_machine_are_measured(self):
        self.run_study(self.definition())
        figure = lines(self.out / "small.jsonl")
        self.assertEqual(figure[0]["header"]["kind"], "measured")
        self.assertEqual(len(figure), 1 + 4)
        for line in figure[1:]:
            measurement = line["measurement"]
            self.assertEqual(measurement["completed"], 2)
            self.assertGreater(measurement["generated_tokens_per_second"], 0)
            self.assertGreater(measurement["step_time"]["attention"], 0)

        load = {"phase": "serving", "loads": [4], "arrival_seconds": 3, "repetitions": 1}
        path = self.definition(**load)
        path.write_text(path.read_text().replace('"batches": [2], ', ""))
        self.run_study(path, "--no-resume")
        for line in lines(self.out / "small.jsonl")[1:]:
            self.assertGreater(line["measurement"]["end_to_end"]["mean"], 0)

    def test_an_arm_that_does_not_start_fails_and_the_others_go_on(self):
        arms = [
            {"id": "one", "title": "one", "engines": 1, "sharing": "alone", "cores": 1},
            {"id": "bad", "title": "bad", "engines": 1, "sharing": "alone", "command": "/bin/false {port}"},
        ]
        run = self.run_study(
            self.definition(phase="serving", loads=[4], arrival_seconds=3, repetitions=1, arms=arms, batches=[]),
            code=1)
        self.assertIn("1 failed", run.stdout)
        failed = [line["measurement"] for line in lines(self.out / "small.jsonl")[1:] if "failure" in line["measurement"]]
        self.assertEqual([measurement["cell"]["arm"] for measurement in failed], ["bad"])
        self.assertIn("exited with code 1", failed[0]["failure"])


if __name__ == "__main__":
    unittest.main()
