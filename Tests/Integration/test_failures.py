"""Parts of the server are killed; what must hold then holds.

A stream that loses its engine goes on elsewhere, and its text equals that of an undisturbed run.
"""
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import serving
from serving import Server, ServerTestCase, wait_until

COMPLETIONS = "/v1/completions"
LONG = 400
# Greedy and sampled requests, all long enough to be killed in the middle.
REQUESTS = [
    dict(prompt="Once upon a time, in a small village by the sea,", temperature=0),
    dict(prompt="The three laws of motion are", temperature=0, logprobs=2),
    dict(prompt="Dear diary, today", temperature=1, seed=5),
    dict(prompt="My favourite recipe:", temperature=0.8, seed=6, top_p=0.9, top_k=40),
    dict(prompt="List of rivers:", temperature=1, seed=7, n=2),
    dict(prompt="The quick brown fox", temperature=0, echo=True),
    dict(
        prompt="A story:", temperature=0.7, seed=9, frequency_penalty=0.5, presence_penalty=0.5, repetition_penalty=1.1),
    dict(prompt="Words:", temperature=1, seed=8, guided_regex="([a-z]{1,9} ){400}"),
    dict(
        prompt="Animals:", temperature=1, seed=10,
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "animals",
                "schema": {
                    "type": "array", "minItems": 300,
                    "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
                },
            },
        }),
]
REQUESTS = [dict(fields, max_tokens=LONG, ignore_eos=True) for fields in REQUESTS]


def tokens_of(choice):
    return choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"]


class EngineTests(ServerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            cls.undisturbed = [cls.server.ask(COMPLETIONS, **fields) for fields in REQUESTS]
        except BaseException:
            cls.server.discard()
            raise

    def setUp(self):
        self.server.wait_for_all_engines()

    def tearDown(self):
        self.server.wait_idle()
        self.server.wait_for_all_engines()

    def start_streams(self, chunks):
        streams = [
            self.server.stream(COMPLETIONS, **fields, stream_options={"include_usage": True}) for fields in REQUESTS
        ]
        for stream in streams:
            self.addCleanup(stream.close)
        for stream in streams:
            stream.read(chunks)
        return streams

    def check_streams(self, streams):
        """All go on to their end as if nothing had happened."""
        for stream in streams:
            stream.finish()
        for stream, whole in zip(streams, self.undisturbed):
            for choice in whole["choices"]:
                self.assertEqual(stream.text(choice["index"]), choice["text"])
                self.assertEqual(stream.finish_reason(choice["index"]), choice["finish_reason"])
                if choice["logprobs"]:
                    streamed = [tokens_of(part) for part in stream.choices(choice["index"]) if part["logprobs"]]
                    tokens, values = tokens_of(choice)
                    self.assertEqual([token for part in streamed for token in part[0]], tokens)
                    self.assertEqual([value for part in streamed for value in part[1]], values)
            usage, expected = stream.chunks[-1]["usage"], whole["usage"]
            for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                self.assertEqual(usage[name], expected[name])

    def moved(self):
        """Sequences that lost their engine, before or after they had sent tokens."""
        metrics = self.server.metrics()
        return metrics.total("tandem_router_retries_total") + metrics.total("tandem_router_migrations_total")

    def restarts(self, index):
        return self.server.metrics().total("tandem_engine_restarts_total", engine=str(index))

    def test_processes_show_what_they_are(self):
        processes = self.server.processes()
        roles = sorted(process.role for process in processes)
        self.assertEqual(roles, ["engine", "engine", "gateway", "serve"])
        for process in processes:
            self.assertEqual(os.path.basename(process.arguments[0]), "tandem", process)
        (supervisor,) = [process for process in processes if process.role == "serve"]
        self.assertEqual(supervisor.pid, self.server.process.pid)
        for process in processes:
            if process is not supervisor:
                self.assertEqual(process.parent, supervisor.pid, process)
        self.assertEqual(set(self.server.engine_pids()), {"0", "1"})

    def test_engines_share_weights_and_leave_the_gateway_its_time(self):
        engines = [self.server.engine(index) for index in (0, 1)]
        first, second = (engine.shared_memory() for engine in engines)
        self.assertTrue(first & second, "the engines map no memory file in common")
        gateway = min(nice for nice, _ in self.server.gateway().threads().values())
        usable = os.sched_getaffinity(0)
        cores = []
        for engine in engines:
            threads = engine.threads().values()
            self.assertGreater(max(nice for nice, _ in threads), gateway, "engines compute at the gateway's priority")
            cores.append(set().union(*(affinity for _, affinity in threads)))
        if len(usable) >= 2:
            self.assertFalse(cores[0] & cores[1], "engines share cores")
        for _, affinity in self.server.gateway().threads().values():
            self.assertEqual(affinity, usable, "the gateway is pinned")

    def test_engine_killed_in_the_middle_of_streams(self):
        for index in (0, 1):
            with self.subTest(engine=index):
                self.server.wait_for_all_engines()
                moved, restarts = self.moved(), self.restarts(index)
                victim, other = self.server.engine(index), self.server.engine(1 - index)
                streams = self.start_streams(5)
                self.server.kill(victim)
                self.check_streams(streams)
                self.assertGreater(self.moved(), moved, "no stream was on the engine that was killed")
                self.server.wait_for_all_engines()
                self.assertNotEqual(self.server.engine(index).pid, victim.pid)
                self.assertEqual(self.server.engine(1 - index).pid, other.pid)
                self.assertEqual(self.restarts(index), restarts + 1)

    def test_engine_killed_before_the_first_byte(self):
        prompt = "All work and no play makes Jack a dull boy. " * 150
        fields = dict(prompt=prompt, max_tokens=8, temperature=0)
        expected = self.server.ask(COMPLETIONS, **fields)["choices"]
        answers = []

        def run(number):
            # Nothing of the prompt is found in the cache: each takes its time until its first token.
            answers.append(self.server.post(COMPLETIONS, dict(fields, cache_salt=f"{number}")))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: self.server.in_flight()[0] == 4, 20, "the requests were not admitted")
        self.server.kill(self.server.engine(0))
        for thread in threads:
            thread.join(120 * serving.PATIENCE)
        self.assertEqual(len(answers), 4, "an answer did not come")
        for answer in answers:
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(answer.json["choices"], expected)

    def test_both_engines_killed(self):
        streams = self.start_streams(5)
        pids = self.server.engine_pids()
        for index in (0, 1):
            self.server.kill(self.server.engine(index))
        self.check_streams(streams)
        self.server.wait_for_all_engines()
        self.assertFalse(set(pids.values()) & set(self.server.engine_pids().values()))

    def test_a_stopped_client_of_a_lost_engine_leaves_nothing(self):
        streams = self.start_streams(2)
        self.server.kill(self.server.engine(1))
        for stream in streams:
            stream.abort()
        self.server.wait_idle()

    def test_engine_killed_again_and_again(self):
        """Restarts begin with the weights already there and do not run out."""
        for _ in range(3):
            self.server.wait_for_all_engines()
            victim = self.server.engine(0)
            self.server.kill(victim)
            wait_until(lambda: (self.server.engine(0) or victim).pid != victim.pid, 20, "no new engine was started")
            self.assertEqual(self.server.health(), 200, "one engine is enough for /health")
        self.server.wait_for_all_engines(40)


class GatewayTests(ServerTestCase):
    def test_gateway_killed(self):
        fields = dict(prompt="The capital of France is", max_tokens=8, temperature=0)
        expected = self.server.ask(COMPLETIONS, **fields)["choices"]
        stream = self.server.stream(COMPLETIONS, prompt="Once", max_tokens=1000, ignore_eos=True)
        self.addCleanup(stream.close)
        stream.read(3)
        engines, gateway = self.server.engine_pids(), self.server.gateway()
        self.server.kill(gateway)
        # A connection made now waits in the backlog, which the supervisor holds open.
        began = time.monotonic()
        answer = self.server.post(COMPLETIONS, fields, timeout=30)
        seconds = time.monotonic() - began
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(answer.json["choices"], expected)
        print(f"a request was answered {seconds:.2f} s after the gateway's death")
        self.assertLess(seconds, 10 * serving.PATIENCE)
        with self.assertRaises((ConnectionError, http.client.HTTPException, AssertionError)):
            stream.finish()
        self.assertEqual(self.server.engine_pids(), engines, "engines did not outlive the gateway")
        self.assertNotEqual(self.server.gateway().pid, gateway.pid)
        self.server.wait_for_all_engines()
        # What the dead gateway had asked for is given up.
        self.server.wait_idle()

    def test_gateway_killed_under_load(self):
        """Open connections break, those that come now wait and are served by the next gateway, engines keep what they
        have cached, and nothing of the old gateway's requests is left in them."""
        prompt = "All work and no play makes Jack a dull boy. " * 20
        fields = dict(prompt=prompt, max_tokens=8, temperature=0)
        expected = self.server.ask(COMPLETIONS, **fields)["choices"]
        streams = [
            self.server.stream(COMPLETIONS, prompt=f"Story {number}:", max_tokens=1000, ignore_eos=True)
            for number in range(8)
        ]
        for stream in streams:
            self.addCleanup(stream.close)
            stream.read(2)
        engines, gateway = self.server.engine_pids(), self.server.gateway()
        answers = []

        def ask():
            answers.append((self.server.post(COMPLETIONS, fields, timeout=30), time.monotonic() - began))

        began = time.monotonic()
        self.server.kill(gateway)
        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30 * serving.PATIENCE)
        self.assertEqual(len(answers), 10, "a connection that waited was not served")
        for answer, _ in answers:
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(answer.json["choices"], expected)
        times = sorted(seconds for _, seconds in answers)
        print(f"10 requests were answered {times[0]:.2f} to {times[-1]:.2f} s after the gateway's death under load")
        self.assertLess(times[0], 10 * serving.PATIENCE)
        for stream in streams:
            with self.assertRaises((ConnectionError, http.client.HTTPException, AssertionError)):
                stream.finish()
        self.assertEqual(self.server.engine_pids(), engines, "engines did not outlive the gateway")
        cached = self.server.metrics().total("vllm:prefix_cache_hits_total")
        self.assertGreater(cached, 0, "the engines forgot their prefixes")
        self.server.wait_idle()


class StoppingTests(unittest.TestCase):
    """Each test has a server of its own, which it ends in its own way."""

    def start(self, **more):
        server = Server(**more)
        self.addCleanup(server.discard)
        server.start()
        server.wait_for_all_engines()
        return server

    def check_drain(self, send):
        server = self.start()
        fields = dict(prompt="Once upon a time", temperature=0, max_tokens=200, ignore_eos=True)
        expected = server.ask(COMPLETIONS, **fields)["choices"][0]["text"]
        stream = server.stream(COMPLETIONS, **fields)
        stream.read(3)
        send(server)
        # Nobody new is let in while the open stream goes on to its end.
        wait_until(lambda: server.port not in serving.listening_ports(), 10, "it still listens after the signal")
        with self.assertRaises(OSError):
            server.connect(timeout=5)
        stream.finish()
        self.assertEqual(stream.text(), expected)
        wait_until(lambda: server.process.poll() is not None, 10, lambda: f"it did not end\n{server.output()}")
        self.assertEqual(server.process.returncode, 0, server.output())
        server.check_nothing_is_left()

    def test_interrupt_drains(self):
        self.check_drain(lambda server: server.process.send_signal(signal.SIGINT))

    def test_termination_drains(self):
        self.check_drain(lambda server: server.process.send_signal(signal.SIGTERM))

    def test_interrupt_of_the_whole_process_group_drains(self):
        """As a terminal does on Ctrl-C."""
        self.check_drain(lambda server: os.killpg(server.process.pid, signal.SIGINT))

    def test_idle_server_stops_soon(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            server = self.start()
            keep_alive = server.connect()
            self.addCleanup(keep_alive.close)
            keep_alive.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(serving.read_answer(keep_alive).status, 200)
            began = time.monotonic()
            server.stop(number, seconds=8)
            self.assertLess(time.monotonic() - began, 8 * serving.PATIENCE)

    def test_second_interrupt_ends_at_once(self):
        server = self.start()
        stream = server.stream(COMPLETIONS, prompt="Once", max_tokens=4000, ignore_eos=True)
        self.addCleanup(stream.close)
        stream.read(3)
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: server.port not in serving.listening_ports(), 10, "it still listens after the signal")
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: server.process.poll() is not None, 5, "it goes on after a second signal")
        self.assertNotEqual(server.process.returncode, 0)
        server.check_nothing_is_left()

    def test_kill_of_the_supervisor_leaves_no_orphan(self):
        server = self.start()
        stream = server.stream(COMPLETIONS, prompt="Once", max_tokens=4000, ignore_eos=True)
        self.addCleanup(stream.close)
        stream.read(3)
        server.process.kill()
        server.process.wait(10)
        wait_until(lambda: not server.processes(), 5, lambda: f"orphans: {server.processes()}")
        server.check_nothing_is_left(directory=False)
        # Nobody could remove its directory; the next supervisor does, and takes the port.
        following = self.start(port=server.port, runtime=server.runtime)
        following.stop()

    def test_stop_while_an_engine_is_down(self):
        server = self.start()
        server.kill(server.engine(0))
        server.stop()

    def test_engines_killed_while_the_last_requests_finish(self):
        server = self.start()
        server.wait_for_all_engines()
        fields = dict(REQUESTS[0], max_tokens=1500)
        expected = server.complete(**fields)["choices"][0]["text"]
        stream = server.stream(COMPLETIONS, **fields)
        self.addCleanup(stream.close)
        stream.read(20)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "finishing open requests" in server.output(), 5, server.output)
        for index in range(2):
            server.kill(server.engine(index))
        self.assertEqual(stream.finish().text(), expected)
        self.assertEqual(server.process.wait(20), 0, server.output())
        self.assertIn("is ready again", server.output())
        server.check_nothing_is_left()

    def test_a_run_directory_that_is_removed_is_made_again(self):
        server = self.start()
        server.wait_for_all_engines()
        before = server.engine_pids()
        directory = server.runtime / f"tandem-{os.getuid()}-{server.process.pid}"
        stream = server.stream(COMPLETIONS, **REQUESTS[0])
        self.addCleanup(stream.close)
        stream.read(5)
        shutil.rmtree(directory)
        wait_until(lambda: "the rolling restart is done" in server.output(), 60, server.output)
        self.assertEqual(stream.finish().text(), server.complete(**REQUESTS[0])["choices"][0]["text"])
        # A gateway that is new finds everybody.
        server.kill(server.gateway())
        server.wait_for_all_engines()
        self.assertFalse(set(before.values()) & set(server.engine_pids().values()))
        self.assertEqual({path.name for path in directory.iterdir()}, {
            "admin.sock", "engine-0.sock", "engine-1.sock", "lock"})
        server.wait_idle()
        server.stop()

    def test_stop_during_the_start(self):
        server = Server()
        self.addCleanup(server.discard)
        server.launch()
        wait_until(lambda: len(server.processes()) > 1, 20, "nothing was started")
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: server.process.poll() is not None, 10, lambda: f"it did not end\n{server.output()}")
        server.check_nothing_is_left()

    def test_port_in_use(self):
        first = self.start()
        second = Server(port=first.port)
        self.addCleanup(second.discard)
        second.launch()
        wait_until(lambda: second.process.poll() is not None, 10, "it does not give up")
        self.assertNotEqual(second.process.returncode, 0)
        self.assertIn(str(first.port), second.output())
        self.assertIn("--port", second.output())
        self.assertFalse(second.processes())
        self.assertEqual(list(second.runtime.iterdir()), [])
        self.assertEqual(first.health(), 200)
        first.stop()

    def test_two_servers_side_by_side(self):
        first, second = self.start(engines=1), self.start(engines=1)
        for server in (first, second):
            self.assertEqual(server.complete("Hello", max_tokens=2)["object"], "text_completion")
        first.stop()
        self.assertEqual(second.health(), 200)
        second.stop()

    def test_the_printed_command_works(self):
        server = self.start()
        wait_until(lambda: "curl " in server.output(), 10, "no command was printed")
        command = re.search(r"^.*?(curl .*)$", server.output(), re.MULTILINE)[1]
        self.assertIn(str(server.port), command)
        result = subprocess.run(
            ["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, timeout=120 * serving.PATIENCE)
        self.assertEqual(result.returncode, 0, result.stderr)
        pieces = [json.loads(line[6:]) for line in result.stdout.splitlines() if line.startswith(b"data: {")]
        text = "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces)
        self.assertGreater(len(pieces), 3, result.stdout)
        self.assertTrue(text.strip(), result.stdout)
        self.assertTrue(result.stdout.rstrip().endswith(b"data: [DONE]"))
        server.stop()


class CommandLineTests(unittest.TestCase):
    def run_tandem(self, *arguments):
        return subprocess.run(
            [serving.BINARY, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60 * serving.PATIENCE)

    def test_help(self):
        result = self.run_tandem("serve", "--help")
        self.assertEqual(result.returncode, 0, result.stderr)
        for option in ("--port", "--engines", "--threads", "--host", "--cpu-compute"):
            self.assertIn(option, result.stdout)

    def test_wrong_options_are_refused(self):
        for arguments in (
            ["serve", "--no-such-option"], ["serve", "--port", "99999"], ["serve", "--port", "x"],
            ["serve", "--engines", "0"], ["serve", "--engines", "-1"], ["serve", "--threads", "0"],
            ["serve", "--cpu-compute", "int3"], ["no-such-command"],
        ):
            with self.subTest(arguments):
                result = self.run_tandem(*arguments)
                self.assertGreater(result.returncode, 0)
                self.assertTrue(result.stderr)

    def test_generate_answers_without_a_server(self):
        model = os.environ.get("TANDEM_INTEGRATION_MODEL")
        options = ["--model", model] if model else []
        result = self.run_tandem("generate", "The capital of France is", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(result.stdout.strip())

    def test_pull_of_what_is_there_names_the_file(self):
        if os.environ.get("TANDEM_INTEGRATION_MODEL"):
            self.skipTest("the model is a file of the caller's")
        result = self.run_tandem("pull")
        self.assertEqual(result.returncode, 0, result.stderr)
        path = result.stdout.strip()
        self.assertTrue(path.endswith(".gguf") and os.path.isfile(path), result.stdout)

    def test_missing_and_broken_model_files_are_refused(self):
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            broken = os.path.join(directory, "broken.gguf")
            with open(broken, "wb") as file:
                file.write(b"GGUF\x03\0\0\0" + b"\xff" * 64)
            for path in (os.path.join(directory, "missing.gguf"), broken):
                server = Server("--host", serving.HOST)
                stack.callback(server.discard)
                server.command = lambda path=path, port=server.port: [
                    serving.BINARY, "serve", path, "--port", str(port)]
                server.launch()
                wait_until(lambda: server.process.poll() is not None, 20, "it does not give up")
                self.assertGreater(server.process.returncode, 0)
                self.assertIn(os.path.basename(path), server.output())
                server.check_nothing_is_left()


if __name__ == "__main__":
    unittest.main()
