"""Several engines in one process: it is the process that fails, and all of its engines are back with it."""
import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import unittest

import chaos_model
from serving import Server, ServerTestCase, wait_until
from test_cuda import DOUBLE, needs_double
from test_failures import COMPLETIONS, REQUESTS


class SharedProcessTests(ServerTestCase):
    options = ("--engines-per-process", "2", "--threads", "1", "--device", "cpu")
    engines = 4
    # Greedy, sampled, with log-probabilities, and with a grammar.
    requests = [REQUESTS[place] for place in (0, 1, 2, 4, 7)]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            cls.undisturbed = [cls.server.ask(COMPLETIONS, **fields) for fields in cls.requests]
        except BaseException:
            cls.server.discard()
            raise

    def setUp(self):
        self.server.wait_for_all_engines()

    def tearDown(self):
        self.server.wait_idle()
        self.server.wait_for_all_engines()

    def engines_seen(self):
        return self.server.get("/engines").json["engines"]

    def start_streams(self, chunks):
        streams = [self.server.stream(COMPLETIONS, **fields) for fields in self.requests]
        for stream in streams:
            self.addCleanup(stream.close)
        for stream in streams:
            stream.read(chunks)
        return streams

    def check_streams(self, streams):
        for stream, whole in zip(streams, self.undisturbed):
            stream.finish()
            for choice in whole["choices"]:
                self.assertEqual(stream.text(choice["index"]), choice["text"])
                self.assertEqual(stream.finish_reason(choice["index"]), choice["finish_reason"])

    def test_every_engine_is_seen_and_works(self):
        engines = self.engines_seen()
        self.assertEqual([engine["index"] for engine in engines], [0, 1, 2, 3])
        self.assertTrue(all(engine["serving"] for engine in engines))
        pids = [engine["pid"] for engine in engines]
        self.assertEqual((pids[0], pids[2]), (pids[1], pids[3]))
        self.assertNotEqual(pids[0], pids[2])
        roles = sorted(process.role for process in self.server.processes())
        self.assertEqual(roles, ["engine", "engine", "gateway", "serve"])
        for stream in self.start_streams(1):
            stream.finish()
        self.assertTrue(all(engine["steps"] for engine in self.engines_seen()), self.engines_seen())

    def test_a_process_is_killed_and_its_streams_go_on(self):
        for number in (signal.SIGKILL, signal.SIGSEGV):
            with self.subTest(number=number):
                before = self.server.engine_pids()
                streams = self.start_streams(20)
                self.server.kill(self.server.engine(1), number)
                self.check_streams(streams)
                self.server.wait_for_all_engines()
                after = self.server.engine_pids()
                self.assertEqual(set(after), {"0", "1", "2", "3"})
                self.assertEqual((after["2"], after["3"]), (before["2"], before["3"]))
                self.assertEqual(after["0"], after["1"])
                self.assertNotEqual(after["0"], before["0"])
        restarts = [engine["restarts"] for engine in self.engines_seen()]
        self.assertEqual(restarts[0], restarts[1])

    def test_a_frozen_process_is_given_up_as_a_whole(self):
        streams = self.start_streams(20)
        frozen = self.server.engine(2)
        self.server.kill(frozen, signal.SIGSTOP)
        try:
            self.check_streams(streams)
        finally:
            # It is killed if that takes longer than the supervisor waits for a sign of life.
            with contextlib.suppress(ProcessLookupError):
                os.kill(frozen.pid, signal.SIGCONT)

    def test_a_drain_is_of_the_process(self):
        streams = self.start_streams(5)
        os.kill(self.server.engine(3).pid, signal.SIGTERM)
        self.check_streams(streams)
        wait_until(
            lambda: all(engine["serving"] for engine in self.engines_seen()), 30, lambda: str(self.engines_seen()))


@needs_double
class GPUTests(unittest.TestCase):
    """On the stand-in for a GPU, with a tiny model."""

    def start(self, *flags, engines=4, **variables):
        folder = pathlib.Path(tempfile.mkdtemp(dir="/tmp"))
        self.addCleanup(subprocess.run, ["rm", "-r", str(folder)])
        model = str(chaos_model.write_small(folder / "small"))
        server = Server(
            "--device", "cuda:0", "--mps", "off", "--max-model-len", "256",
            "--max-num-seqs", "8", *flags, engines=engines,
            environment={"TANDEM_CUDA_DRIVER": DOUBLE, "TANDEM_DOUBLE_MEMORY_MIB": "3000", **variables})
        command = server.command()
        command.insert(2, model)
        server.command = lambda: command
        self.addCleanup(server.discard)
        return server

    def ask(self, server, seed):
        return server.complete("w1 w2 w3", max_tokens=16, temperature=1, seed=seed, ignore_eos=True)["choices"][0]["text"]

    def test_processes_share_the_gpu_and_one_is_killed(self):
        # Streams that move go on with the same bits only if a prompt's bits are those of its tokens one by one.
        server = self.start("--engines-per-process", "2", "--deterministic").start()
        server.wait_for_all_engines(120)
        engines = server.get("/engines").json["engines"]
        self.assertEqual(len({engine["pid"] for engine in engines}), 2)
        self.assertTrue(all(engine["kv_blocks_total"] == engines[0]["kv_blocks_total"] > 0 for engine in engines))
        undisturbed = [self.ask(server, seed) for seed in range(4)]
        fields = dict(prompt="w1 w2 w3", max_tokens=16, temperature=1, ignore_eos=True)
        streams = [server.stream(COMPLETIONS, seed=seed, **fields) for seed in range(4)]
        for stream in streams:
            self.addCleanup(stream.close)
            stream.read(2)
        server.kill(server.engine(1))
        for stream, text in zip(streams, undisturbed):
            self.assertEqual(stream.finish().text(), text)
        server.wait_for_all_engines(120)
        self.assertEqual(len(server.engine_pids()), 4)
        server.wait_idle()
        server.stop()

    def test_priorities_and_parts(self):
        server = self.start(
            "--engines-per-process", "2", "--gpu-engine-priority", "normal,low", "--gpu-partition", "green",
            engines=2).start()
        for engine in server.get("/engines").json["engines"]:
            self.assertIn("64 multiprocessors", engine["device"])
        self.assertTrue(self.ask(server, 1))
        server.wait_idle()
        server.stop()

    def test_a_driver_without_parts_ends_the_start_with_the_remedy(self):
        server = self.start(
            "--engines-per-process", "2", "--gpu-partition", "green", engines=2,
            TANDEM_DOUBLE_GREEN_CONTEXTS="0").launch()
        wait_until(lambda: server.process.poll() is not None, 60, server.output)
        self.assertNotEqual(server.process.returncode, 0)
        self.assertIn("--gpu-partition none", server.output())


if __name__ == "__main__":
    unittest.main()
