"""Engines share a simulated GPU: what happens to it, and what clients see of it. No figure of this test is a speed."""
import json
import os
import signal
import subprocess
import time
import unittest

import serving
from serving import Server, wait_until

COMPLETIONS = "/v1/completions"
REQUESTS = [
    dict(prompt="Once upon a time, in a small village by the sea,", temperature=0),
    dict(prompt="Dear diary, today", temperature=1, seed=5),
    dict(prompt="List of rivers:", temperature=1, seed=7, n=2),
    dict(prompt="Words:", temperature=1, seed=8, guided_regex="([a-z]{1,9} ){800}"),
    dict(prompt="The three laws of motion are", temperature=0, logprobs=2),
    dict(prompt="A story: " * 300, temperature=0.7, seed=9, frequency_penalty=0.5),
]
REQUESTS = [dict(fields, max_tokens=800, ignore_eos=True) for fields in REQUESTS]


def device(server):
    return next((p for p in server.processes() if p.role == "virtual-device"), None)


def admin(server, *words):
    """Status and answer of `tandem admin device`."""
    directory = next(server.runtime.glob("tandem-*"))
    done = subprocess.run(
        [serving.BINARY, "admin", "device", *words, "--run", str(directory)], capture_output=True, text=True,
        timeout=60)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def status(server):
    directory = next(server.runtime.glob("tandem-*"))
    done = subprocess.run(
        [serving.BINARY, "status", "--json", "--run", str(directory)], capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)


class FaultTests(unittest.TestCase):
    """One server; its simulated GPU is hurt in every way, and every stream goes on."""

    mps = "on"

    @classmethod
    def setUpClass(cls):
        cls.server = Server(
            "--device", "simulated:h100", "--mps", cls.mps, "--step-timeout", "3s",
            "--async-scheduling" if cls.mps == "on" else "--no-async-scheduling")
        cls.server.start()
        try:
            cls.server.wait_for_all_engines()
            cls.undisturbed = [cls.server.ask(COMPLETIONS, **fields) for fields in REQUESTS]
        except BaseException:
            cls.server.discard()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.server.stop(seconds=40)

    def setUp(self):
        self.server.wait_for_all_engines()

    def hurt(self, what, expected, restarted):
        """Streams run, something happens, and all end as if nothing had."""
        before, old = self.server.engine_pids(), device(self.server)
        seen = len(self.server.output())
        streams = [self.server.stream(COMPLETIONS, **fields) for fields in REQUESTS]
        for stream in streams:
            self.addCleanup(stream.close)
        for stream in streams:
            stream.read(20)
        what()
        for stream in streams:
            stream.finish()
        for stream, whole in zip(streams, self.undisturbed):
            for choice in whole["choices"]:
                self.assertEqual(stream.text(choice["index"]), choice["text"])
                self.assertEqual(stream.finish_reason(choice["index"]), choice["finish_reason"])
        wait_until(
            lambda: all(self.server.engine_pids().get(str(i)) not in (None, before[str(i)]) for i in restarted), 60,
            lambda: f"engines {restarted} did not start again\n{self.server.output()}")
        self.server.wait_for_all_engines()
        self.assertRegex(self.server.output()[seen:], expected)
        for index in set(before) - {str(i) for i in restarted}:
            self.assertEqual(self.server.engine_pids()[index], before[index])
        return old

    def test_everybody_says_that_it_is_simulated(self):
        self.assertIn("simulated h100", self.server.output())
        found = status(self.server)
        self.assertEqual(found["simulated_device"]["name"], "h100")
        self.assertEqual(found["simulated_device"]["pid"], device(self.server).pid)
        for engine in found["engines"]:
            self.assertIn("simulated h100", engine["device"])
        wait_until(lambda: status(self.server)["simulated_device"]["clients"] == 2, 20, "two clients are not reported")

    def test_a_fatal_fault(self):
        restarted = (0, 1) if self.mps == "on" else (0,)
        self.hurt(lambda: admin(self.server, "fault", "fatal", "0"), "CUDA error 700", restarted)

    def test_an_engine_is_killed(self):
        self.hurt(lambda: self.server.kill(self.server.engine(1)), "engine 1 was killed by SIGKILL", (1,))

    def test_the_device_is_killed(self):
        old = self.hurt(
            lambda: self.server.kill(device(self.server)), "the simulated h100 was killed by SIGKILL", (0, 1))
        self.assertNotEqual(device(self.server).pid, old.pid)

    def test_an_engine_hangs_on_the_device(self):
        old = self.hurt(lambda: admin(self.server, "fault", "hang", "1"), "engine 1 hangs: its work got nowhere", (1,))
        self.assertEqual(device(self.server).pid, old.pid)

    def test_the_device_hangs(self):
        old = self.hurt(lambda: admin(self.server, "fault", "hang"), "does not drop the work of engine", (0, 1))
        self.assertNotEqual(device(self.server).pid, old.pid)

    def test_the_device_stands_still_and_goes_on(self):
        def still():
            process = device(self.server)
            self.server.kill(process, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(process.pid, signal.SIGCONT)

        self.hurt(still, "(?s).*", ())

    def test_an_engine_runs_out_of_memory(self):
        self.hurt(lambda: admin(self.server, "fault", "oom", "1"), r"CUDA error 2 \(out of memory\)", (1,))

    def test_slow_and_clear(self):
        def slow():
            code, answer = admin(self.server, "fault", "slow", "3")
            self.assertEqual((code, answer), (0, {"ok": True}))
            code, answer = admin(self.server, "clients")
            self.assertEqual({client["slowness"] for client in answer["clients"]}, {3})
            self.assertEqual(admin(self.server, "clear"), (0, {"ok": True}))

        self.hurt(slow, "(?s).*", ())

    def test_commands_that_make_no_sense(self):
        for words in (["dance"], ["fault"], ["fault", "slow", "0"], ["share", "0", "101"], ["fault", "hang", "-1"]):
            code, answer = admin(self.server, "--", *words) if words[-1].startswith("-") else admin(self.server, *words)
            self.assertEqual(code, 1, words)
            self.assertIn("is not understood", answer)
        code, answer = admin(self.server, "fault", "fatal", "7")
        self.assertEqual((code, answer), (1, {"error": "there is no client of engine 7"}))

    def test_shares_change_times_and_no_token(self):
        def share():
            self.assertEqual(admin(self.server, "share", "0", "25"), (0, {"ok": True}))

        self.hurt(share, "(?s).*", ())
        self.assertEqual(admin(self.server, "share", "0", "100"), (0, {"ok": True}))


class TimeSliceTests(FaultTests):
    """The same without MPS: a fault is its engine's own."""

    mps = "off"


class RefusalTests(unittest.TestCase):
    """What cannot be served is refused before anything starts."""

    def refused(self, *options, engines=2):
        server = Server(*options, engines=engines).launch()
        try:
            wait_until(lambda: server.process.poll() is not None, 30, server.output)
            self.assertNotEqual(server.process.returncode, 0)
            self.assertFalse(server.processes())
            return server.output()
        finally:
            server.discard()

    def test_an_unknown_gpu(self):
        text = self.refused("--device", "simulated:h1000")
        self.assertIn('"h1000" is not known; known: simulated:h100, simulated:h200', text)

    def test_an_unknown_model(self):
        text = self.refused("--device", "simulated:h100", "--simulated-model", "gpt-9")
        self.assertIn('"gpt-9" is not known; known: qwen2.5-0.5b', text)

    def test_a_model_without_a_device(self):
        self.assertIn("only with --device simulated:NAME", self.refused("--simulated-model", "qwen2.5-3b"))

    def test_weights_that_do_not_fit(self):
        text = self.refused("--device", "simulated:l4", "--simulated-model", "qwen2.5-7b", engines=3)
        self.assertIn("3 engines need", text)
        self.assertIn("lower --engines", text)

    def test_caches_that_do_not_fit(self):
        text = self.refused("--device", "simulated:h100", "--kv-cache-memory", "60GiB")
        self.assertIn("--kv-cache-memory", text)
        self.assertIn("are left beside weights", text)

    def test_more_engines_than_clients(self):
        self.assertIn("49 are more than the 48 clients", self.refused("--device", "simulated:h100", engines=49))

    def test_mps_of_somebody_else(self):
        self.assertIn("MPS server of its own", self.refused("--device", "simulated:h100", "--mps", "external"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
