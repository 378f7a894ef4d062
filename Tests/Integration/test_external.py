"""`tandem serve --engine-command`: servers of others as engines. The fake engine is the command."""
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

import serving
from fake_engine import FakeEngine
from serving import Server, wait_until
from test_proxy import CHAT, COMPLETIONS, text_of, words

PROGRAM = pathlib.Path(__file__).with_name("external_engine.py")


class ExternalServer(Server):
    """One `tandem serve` whose engines are fakes."""

    def __init__(self, *options, control, command=None, engines=2, **more):
        super().__init__(*options, engines=engines, **more)
        self.control = control
        self.template = command or (
            f"{shlex.quote(sys.executable)} {shlex.quote(str(PROGRAM))} --port {{port}} --index {{index}} "
            f"--control {shlex.quote(str(control))} --name {{name}}")

    def command(self):
        return [
            serving.BINARY, "serve", "--port", str(self.port), "--engines", str(self.engines),
            "--engine-command", self.template, "--served-model-name", "fake", *self.options]


class ExternalTestCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="tdx", dir="/tmp")
        self.addCleanup(directory.cleanup)
        self.control = pathlib.Path(directory.name)

    def make(self, *options, **more):
        server = ExternalServer(*options, control=self.control, **more)
        self.addCleanup(server.discard)
        return server

    def start(self, *options, **more):
        server = self.make(*options, **more).start()
        server.wait_for_all_engines()
        return server

    def tell(self, index, **settings):
        """The engine does so within a moment, or when it starts."""
        new = self.control / f"{index}.new"
        new.write_text(json.dumps(settings))
        os.rename(new, self.control / f"{index}.json")

    def starts(self, index=None):
        try:
            lines = (self.control / "starts").read_text().splitlines()
        except OSError:
            return []
        starts = [json.loads(line) for line in lines]
        return [start for start in starts if index in (None, start["index"])]

    def asked(self, index):
        try:
            return json.loads((self.control / f"asked-{index}").read_text())
        except (OSError, ValueError):
            return []

    def engines(self, server):
        return server.get("/engines").json["engines"]

    def wait_for_start(self, server, index, count):
        wait_until(
            lambda: len(self.starts(index)) >= count, 60,
            lambda: f"{len(self.starts(index))} starts of engine {index}\n{server.output()}")
        return self.starts(index)[count - 1]

    def wait_for_text(self, server, text, seconds=60):
        wait_until(lambda: text in server.output(), seconds, lambda: f"no {text!r} in\n{server.output()}")

    def wait_until_gone(self, pid):
        def gone():
            try:
                return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            except OSError:
                return True
        wait_until(gone, 30, f"process {pid} lives")

    def busy(self, server):
        return wait_until(
            lambda: next((engine for engine in self.engines(server) if engine["outstanding_requests"]), None), 20,
            "no engine has the request")


class ServingTests(ExternalTestCase):
    def test_engines_serve(self):
        server = self.start("--device", "cuda:GPU-7", environment={"TANDEM_HOST": "127.0.0.1", "GIVEN": "yes"})
        self.assertIn("fake is served by 2 engines, each " + pathlib.Path(sys.executable).name, server.output())
        # Who prints what can be told, and both streams come.
        for text in ("engine 0: hello from 0\n", "engine 1: hello from 1\n", "engine 1: an error line\n"):
            self.wait_for_text(server, text)
        starts = self.starts()
        self.assertEqual([start["index"] for start in starts], [0, 1])
        for start in starts:
            self.assertEqual(start["pid"], start["group"])
            self.assertEqual(start["TANDEM_ENGINE_INDEX"], str(start["index"]))
            self.assertTrue(start["TANDEM_RUN_DIRECTORY"].startswith(str(server.runtime)))
            self.assertEqual((start["CUDA_VISIBLE_DEVICES"], start["GIVEN"]), ("GPU-7", "yes"))
        self.assertNotEqual(starts[0]["port"], starts[1]["port"])
        for engine, start in zip(self.engines(server), starts):
            self.assertEqual(engine["address"], f"http://127.0.0.1:{start['port']}")
            self.assertEqual((engine["pid"], engine["state"], engine["serving"]), (start["pid"], "ready", True))
            self.assertEqual(engine["model"], "fake")
        self.assertEqual([card["id"] for card in server.get("/v1/models").json["data"]], ["fake"])
        self.assertEqual(server.complete("a w4", model="fake", max_tokens=3)["choices"][0]["text"], words(5, 3))
        self.assertEqual(server.post(COMPLETIONS, {"model": "x", "prompt": "w1"}).error["code"], "model_not_found")
        server.wait_idle()
        server.stop()

    def test_each_has_to_compute_before_the_next_starts(self):
        self.tell(0, no_generation=True)
        server = self.make()
        server.launch()
        # Its /health says yes, and that is not enough.
        self.wait_for_text(server, "POST /v1/completions answered 500: as told")
        self.assertIn("engine 0 at http://127.0.0.1:", server.output())
        self.assertEqual(server.health(), 503)
        self.assertEqual(len(self.starts(1)), 0)
        self.tell(0)
        wait_until(lambda: server.health() == 200, 60, server.output)
        server.wait_for_all_engines()
        self.assertEqual(len(self.starts()), 2)
        # Asked once until it did, and not again.
        wait_until(lambda: self.asked(1) == [COMPLETIONS], 10, lambda: self.asked(1))
        asked = len(self.asked(0))
        for _ in range(3):
            self.assertEqual(server.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
        wait_until(lambda: len(self.asked(0)) + len(self.asked(1)) == asked + 4, 10, "other requests came")
        server.stop()

    def test_ports_and_single_engines(self):
        base, single = serving.free_port(), serving.free_port()
        server = self.start(
            "--engine-port-base", str(base), "--engine-ports", str(single), engines=1)
        self.assertEqual(self.starts(0)[0]["port"], base)
        self.assertEqual(self.engines(server)[0]["address"], f"http://127.0.0.1:{base}")
        server.port, port = single, server.port
        self.assertEqual(server.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
        server.port = port
        os.kill(self.starts(0)[0]["pid"], signal.SIGKILL)
        again = self.wait_for_start(server, 0, 2)
        self.assertEqual(again["port"], base)
        server.wait_for_all_engines()
        server.stop()

    def test_a_port_that_another_program_has_is_not_taken_for_an_engine(self):
        foreign = FakeEngine("foreign")
        self.addCleanup(foreign.vanish)
        server = self.make("--engine-port-base", str(foreign.port), engines=1)
        server.launch()
        self.assertEqual(server.process.wait(60 * serving.PATIENCE), 1)
        self.assertIn(f"engine 0 could not be started: port {foreign.port} is in use", server.output())
        self.assertEqual(foreign.requests, [])

    def test_a_gateway_that_comes_back_takes_the_engines_as_they_are(self):
        server = self.start("--gateway-threads", "2")
        server.kill(server.gateway())
        self.wait_for_text(server, "gateway was killed by SIGKILL")
        wait_until(lambda: server.serving_engines() == 2, 60, server.output)
        self.assertEqual(server.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
        self.assertEqual(len(self.starts()), 2)
        wait_until(lambda: len(self.asked(0)) + len(self.asked(1)) == 3, 10, "it was asked to prove itself again")
        server.stop()


class FailureTests(ExternalTestCase):
    def stream_and_kill(self, path, **request):
        for index in range(2):
            self.tell(index, pause=0.02)
        server = self.start()
        stream = server.stream(path, max_tokens=60, **request).read(6)
        self.addCleanup(stream.close)
        engine = self.busy(server)
        os.kill(engine["pid"], signal.SIGKILL)
        stream.finish()
        self.assertEqual(text_of(stream), words(5, 60))
        again = self.wait_for_start(server, engine["index"], 2)
        self.assertNotEqual(again["pid"], engine["pid"])
        server.wait_for_all_engines()
        self.wait_for_text(server, f"engine {engine['index']} is ready again")
        self.assertEqual(self.engines(server)[engine["index"]]["restarts"], 1)
        self.assertEqual(server.metrics().total("tandem_router_migrations_total", outcome="continued"), 1)
        server.wait_idle()
        server.stop()

    def test_a_completion_goes_on(self):
        self.stream_and_kill(COMPLETIONS, prompt="a w4")

    def test_a_chat_goes_on(self):
        self.stream_and_kill(CHAT, messages=[{"role": "user", "content": "w4"}])

    def test_requests_wait_for_the_only_engine(self):
        server = self.start(engines=1)
        os.kill(self.starts(0)[0]["pid"], signal.SIGKILL)
        for _ in range(3):
            answer = server.complete("a w4", model="fake", max_tokens=3)
            self.assertEqual(answer["choices"][0]["text"], words(5, 3))
        server.stop()

    def test_a_command_that_ends_is_tried_again_and_given_up(self):
        for index in range(2):
            self.tell(index, exit=3)
        server = self.make()
        server.launch()
        self.assertEqual(server.process.wait(60 * serving.PATIENCE), 1)
        self.assertIn("engine 0 exited with code 3; starting it again in 0.1 s", server.output())
        self.assertIn("cannot start: engine", server.output())
        server.check_nothing_is_left()

    def test_one_that_ends_does_not_keep_the_other_from_serving(self):
        self.tell(0, exit=3)
        server = self.make().start()
        self.wait_for_start(server, 0, 3)
        self.assertEqual(server.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
        self.tell(0)
        server.wait_for_all_engines(60)
        server.stop()

    def test_one_that_never_listens_is_killed_in_time(self):
        self.tell(0, deaf=True)
        server = self.make("--engine-start-timeout", "2s", engines=1)
        server.launch()
        self.wait_for_text(server, "engine 0: it answered no request within 2 s of its start")
        self.wait_until_gone(self.starts(0)[0]["pid"])
        self.tell(0)
        self.wait_for_start(server, 0, 2)
        wait_until(lambda: server.health() == 200, 60, server.output)
        server.stop()

    def test_one_that_never_computes_is_killed_in_time_with_the_reason(self):
        self.tell(0, no_generation=True)
        server = self.make("--engine-start-timeout", "2s", engines=1)
        server.launch()
        self.assertEqual(server.process.wait(120 * serving.PATIENCE), 1)
        self.assertIn(
            "it answered no request within 2 s of its start (POST /v1/completions answered 500: as told); killing it",
            server.output())
        server.check_nothing_is_left()

    def test_one_that_freezes_has_to_compute_again(self):
        server = self.start()
        pid = self.starts(1)[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(self.thaw, pid)
        self.wait_for_text(server, "engine 1 is in doubt: ")
        for _ in range(3):
            self.assertEqual(server.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
        self.tell(1, no_generation=True)
        os.kill(pid, signal.SIGCONT)
        # It answers /health again, which does not bring it back.
        self.wait_for_text(server, "does not compute: POST /v1/completions answered 500")
        self.assertEqual(server.serving_engines(), 1)
        self.tell(1)
        self.wait_for_text(server, "engine 1 computes again")
        server.wait_for_all_engines()
        self.assertEqual(len(self.starts()), 2)
        server.stop()

    def test_one_that_stays_frozen_is_started_again(self):
        server = self.start("--step-timeout", "2s")
        pid = self.starts(1)[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(self.thaw, pid)
        self.wait_for_start(server, 1, 2)
        self.wait_until_gone(pid)
        server.wait_for_all_engines()
        server.stop()

    @staticmethod
    def thaw(pid):
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def test_the_end_is_not_put_off(self):
        self.tell(0, ignore_term=True)
        server = self.start()
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(60 * serving.PATIENCE), 0)
        self.assertIn("engine 0 did not finish in time and is killed", server.output())
        self.assertNotIn("engine 1 did not finish", server.output())
        server.check_nothing_is_left()


class AdministrationTests(ExternalTestCase):
    def administer(self, server, *words):
        return subprocess.run(
            [serving.BINARY, *words], capture_output=True, text=True, timeout=60 * serving.PATIENCE,
            env={**os.environ, "XDG_RUNTIME_DIR": str(server.runtime), serving.MARK: server.mark})

    def test_an_engine_finishes_what_it_has_before_it_is_started_again(self):
        for index in range(2):
            self.tell(index, pause=0.05)
        server = self.start("--gateway-threads", "2")
        stream = server.stream(COMPLETIONS, prompt="a w4", max_tokens=60).read(6)
        engine = self.busy(server)
        answer = self.administer(server, "admin", "restart", str(engine["index"]))
        self.assertEqual(answer.returncode, 0, answer)
        stream.finish()
        self.assertEqual(text_of(stream), words(5, 60))
        self.wait_for_start(server, engine["index"], 2)
        server.wait_for_all_engines()
        metrics = server.metrics()
        self.assertEqual(metrics.total("tandem_router_migrations_total"), 0)
        self.assertEqual(metrics.total("tandem_router_retries_total"), 0)
        server.stop()

    def test_an_engine_idles_and_serves_again(self):
        for index in range(2):
            self.tell(index, pause=0.05)
        server = self.start()
        stream = server.stream(COMPLETIONS, prompt="a w4", max_tokens=40).read(6)
        engine = self.busy(server)
        answer = self.administer(server, "admin", "drain", str(engine["index"]))
        self.assertEqual(answer.returncode, 0, answer)
        # It returned when the stream was done.
        self.assertEqual(self.engines(server)[engine["index"]]["outstanding_requests"], 0)
        self.assertEqual(text_of(stream.finish()), words(5, 40))
        self.assertEqual(server.serving_engines(), 1)
        self.assertEqual(server.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
        self.assertEqual(self.administer(server, "admin", "resume", str(engine["index"])).returncode, 0)
        server.wait_for_all_engines()
        self.assertEqual(len(self.starts()), 2)
        server.stop()

    def test_all_are_started_again_and_no_request_notices(self):
        for index in range(2):
            self.tell(index, pause=0.01)
        server = self.start()
        wrong, over = [], threading.Event()

        def ask(number):
            while not over.is_set():
                stream = server.stream(COMPLETIONS, prompt=f"w{number}", max_tokens=20).finish()
                if text_of(stream) != words(number + 1, 20):
                    wrong.append(text_of(stream))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        answer = self.administer(server, "admin", "restart", "--all")
        self.assertEqual(answer.returncode, 0, answer)
        for index in range(2):
            self.wait_for_start(server, index, 2)
        self.wait_for_text(server, "the rolling restart is done")
        over.set()
        for thread in threads:
            thread.join(60 * serving.PATIENCE)
        self.assertEqual(wrong, [])
        self.assertEqual(server.metrics().total("tandem_router_migrations_total"), 0)
        server.stop()


class LeftoverTests(ExternalTestCase):
    def child(self, index):
        file = self.control / f"child-{index}"
        wait_until(file.exists, 30, "no child")
        return int(wait_until(lambda: file.read_text(), 5, "no child"))

    def test_workers_of_a_dead_engine_are_ended_before_it_starts_again(self):
        self.tell(1, child=True)
        server = self.start()
        child = self.child(1)
        self.tell(1)
        os.kill(self.starts(1)[0]["pid"], signal.SIGKILL)
        self.wait_for_text(server, f"engine 1 left a process behind, killed now: {child}")
        self.wait_until_gone(child)
        server.wait_for_all_engines()
        # The other engine was not touched.
        self.assertEqual(len(self.starts(0)), 1)
        # Nothing stays of it that nobody has waited for.
        wait_until(lambda: not pathlib.Path(f"/proc/{child}").exists(), 10, "a zombie is left")
        server.stop()

    def test_workers_do_not_outlive_the_server(self):
        self.tell(0, child=True)
        server = self.start()
        child = self.child(0)
        server.stop()
        self.wait_until_gone(child)

    def test_a_server_that_is_started_again_ends_what_the_killed_one_left(self):
        self.tell(0, child=True)
        server = self.start()
        child = self.child(0)
        foreign = subprocess.Popen(
            ["sleep", "600"], env={"TANDEM_RUN_DIRECTORY": str(server.runtime), "TANDEM_ENGINE_INDEX": "0"})
        self.addCleanup(foreign.wait)
        self.addCleanup(foreign.kill)
        server.process.kill()
        server.process.wait(30)
        self.tell(0)
        wait_until(
            lambda: [process.pid for process in server.processes()] == [child], 30,
            lambda: f"more than the worker is left: {server.processes()}")
        second = ExternalServer(control=self.control, runtime=server.runtime)
        self.addCleanup(second.discard)
        second.start()
        self.assertIn(f"a server that was killed left a process behind, killed now: {child}", second.output())
        self.wait_until_gone(child)
        self.assertIsNone(foreign.poll())
        second.wait_for_all_engines()
        second.stop()


class RefusalTests(ExternalTestCase):
    def refused(self, *arguments, expected):
        process = subprocess.run(
            [serving.BINARY, "serve", "--port", "0", *arguments], capture_output=True, text=True, timeout=60,
            env={**os.environ, "XDG_RUNTIME_DIR": str(self.control)})
        self.assertNotEqual(process.returncode, 0)
        self.assertIn(expected, process.stderr)
        self.assertEqual(len(process.stderr.strip().splitlines()), 1, process.stderr)
        self.assertEqual(self.starts(), [])

    def test_what_cannot_be_run(self):
        self.refused("--engine-command", "nosuchprogram {port}", expected="cannot run nosuchprogram: it is in no directory")
        self.refused("--engine-command", "/etc/passwd {port}", expected="it is not executable")
        self.refused("--engine-command", "x {prot}", expected="--engine-command: at character 3: {prot} is unknown")
        self.refused("--engine-command", "x 'a {port}", expected="at character 3: the quote ' is not closed")
        self.refused("--engine-command", "sh -c x", expected="it has no {port}")
        self.refused("--engine-command", "sh {port} {model}", expected="it needs a model: tandem serve MODEL")
        self.refused("--engine-command", "sh {port} | cat", expected="means something to a shell")


if __name__ == "__main__":
    unittest.main()
