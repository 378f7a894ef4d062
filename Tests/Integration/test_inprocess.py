"""Several engines in one process: it is the process that fails, and all of its engines are back with it."""
import contextlib
import os
import signal

from serving import ServerTestCase, wait_until
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
