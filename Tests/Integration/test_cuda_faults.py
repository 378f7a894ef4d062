"""Engines on a GPU, by the double of the CUDA driver: what it answers, how it fails, and what clients see of that."""
import json
import os
import re
import signal
import subprocess
import sys
import unittest

import gpu_stand_in
import serving
from disturbance import longest_pause
from gpu_stand_in import StandInGPU, needs_double, small_model
from mps_stand_in import FakeMPS
from serving import Server, wait_until

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
REQUESTS = [
    dict(prompt="Once upon a time, in a small village by the sea,", temperature=0),
    dict(prompt="Dear diary, today", temperature=1, seed=5),
    dict(prompt="List of rivers:", temperature=1, seed=7, n=2),
    dict(prompt="Words:", temperature=1, seed=8, guided_regex="([a-z]{1,9} ){300}"),
    dict(prompt="The three laws of motion are", temperature=0, logprobs=2),
    dict(prompt="A story: " * 20, temperature=0.7, seed=9, frequency_penalty=0.5),
]
REQUESTS = [dict(fields, max_tokens=200, ignore_eos=True) for fields in REQUESTS]


def gpu_server(gpu, *options, fake=None, engines=2, **more):
    environment = dict(gpu.environment)
    if fake:
        options = ("--mps", "on", "--fault-port", "--mps-time-scale", "0.1", *options)
        environment.update(fake.environment)
        more["runtime"] = fake.run
    return Server(
        "--device", "cuda:0", "--max-model-len", "1024", "--kv-cache-memory", "16MiB", "--max-num-seqs", "16",
        "--max-num-batched-tokens", gpu_stand_in.STEP_TOKENS,
        "--step-timeout", gpu_stand_in.STEP_TIMEOUT, *options, engines=engines, environment=environment,
        model=small_model(), **more)


@needs_double
class ServingTests(unittest.TestCase):
    """Every kind of answer comes from a GPU as from a CPU."""

    @classmethod
    def setUpClass(cls):
        cls.gpu = StandInGPU()
        cls.server = gpu_server(cls.gpu, "--mps", "off", "--async-scheduling")
        try:
            cls.server.start()
            cls.server.wait_for_all_engines()
        except BaseException:
            cls.server.discard()
            cls.gpu.discard()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop()
        finally:
            cls.gpu.discard()

    def test_engines_say_what_they_compute_on(self):
        directory = next(self.server.runtime.glob("tandem-*"))
        done = subprocess.run(
            [serving.BINARY, "status", "--json", "--run", str(directory)], capture_output=True, text=True, timeout=60)
        for engine in json.loads(done.stdout)["engines"]:
            self.assertRegex(engine["device"], r"cuda:0 \(Tandem double of an H100, bf16")

    def test_completions_and_their_streams(self):
        fields = dict(prompt="Once upon a time", max_tokens=20, temperature=0, ignore_eos=True)
        whole = self.server.ask(COMPLETIONS, **fields)
        self.assertEqual(whole["usage"]["completion_tokens"], 20)
        self.assertEqual(whole["choices"][0]["finish_reason"], "length")
        stream = self.server.stream(COMPLETIONS, **fields).finish()
        self.assertEqual(stream.finish_reason(), "length")
        self.assertTrue(stream.text())

    def test_chat(self):
        answer = self.server.chat("What is a river?", max_tokens=12, temperature=0.8, seed=3, ignore_eos=True)
        self.assertEqual(answer["choices"][0]["message"]["role"], "assistant")
        self.assertEqual(answer["usage"]["completion_tokens"], 12)

    def test_several_choices_differ(self):
        answer = self.server.complete("A", n=3, max_tokens=16, temperature=1, seed=11, ignore_eos=True)
        self.assertEqual(len({choice["text"] for choice in answer["choices"]}), 3)

    def test_log_probabilities(self):
        answer = self.server.complete("To be or not", max_tokens=6, temperature=0, logprobs=3, ignore_eos=True)
        found = answer["choices"][0]["logprobs"]
        self.assertEqual(len(found["token_logprobs"]), 6)
        for chosen, top in zip(found["token_logprobs"], found["top_logprobs"]):
            self.assertLess(chosen, 0)
            # Greedy: the likeliest.
            self.assertAlmostEqual(chosen, max(top.values()), places=5)
            self.assertGreaterEqual(len(top), 3)

    def test_the_prompts_log_probabilities(self):
        tokens = self.server.tokenize("To be or not to be", add_special_tokens=False)
        answer = self.server.complete(tokens, max_tokens=1, temperature=0, prompt_logprobs=1)
        found = answer["choices"][0]["prompt_logprobs"]
        self.assertEqual(len(found), len(tokens))
        self.assertIsNone(found[0])
        for token, entries in zip(tokens[1:], found[1:]):
            self.assertIn(str(token), entries)

    def test_answers_of_a_form(self):
        schema = {
            "type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer",
                "minimum": 0, "maximum": 99}}, "required": ["name", "age"], "additionalProperties": False}
        answer = self.server.chat(
            "Who?", max_tokens=200, temperature=1, seed=2,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
        person = json.loads(answer["choices"][0]["message"]["content"])
        self.assertEqual(set(person), {"name", "age"})
        answer = self.server.complete("Date:", max_tokens=40, temperature=1, seed=4, guided_regex="\\d{4}-\\d\\d-\\d\\d")
        self.assertRegex(answer["choices"][0]["text"], r"^\d{4}-\d\d-\d\d$")

    def test_vectors(self):
        answer = self.server.ask("/v1/embeddings", input=["a river", "a stone"])
        self.assertEqual([len(entry["embedding"]) for entry in answer["data"]], [64, 64])

    def test_rubbish_is_refused_and_nothing_is_lost(self):
        for fields in (dict(prompt="x", max_tokens=-1), dict(prompt="x " * 3000), dict(prompt=[512], max_tokens=2)):
            self.assertEqual(self.server.post(COMPLETIONS, fields).status, 400, fields)
        self.server.wait_idle()


class FaultTests(unittest.TestCase):
    """One server; its GPU is hurt in every way, and every stream goes on, byte for byte."""

    shared = False

    @classmethod
    def setUpClass(cls):
        cls.fake = FakeMPS("new") if cls.shared else None
        cls.gpu = StandInGPU(shared=cls.shared)
        options = ["--deterministic", "--no-async-scheduling" if cls.shared else "--async-scheduling"]
        if not cls.shared:
            options += ["--mps", "off"]
        cls.server = gpu_server(cls.gpu, *options, fake=cls.fake)
        try:
            cls.server.start()
            cls.server.wait_for_all_engines()
            cls.undisturbed = [cls.server.ask(COMPLETIONS, **fields) for fields in REQUESTS]
        except BaseException:
            print(cls.server.output(), file=sys.stderr)
            cls.discard()
            raise

    @classmethod
    def discard(cls):
        cls.server.discard()
        cls.gpu.discard()
        if cls.fake:
            cls.fake.discard()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.process.send_signal(signal.SIGINT)
            wait_until(lambda: cls.server.process.poll() is not None, 40, cls.server.output)
            assert cls.server.process.returncode == 0, cls.server.output()
            # The logs of MPS stay.
            cls.server.check_nothing_is_left(directory=not cls.shared)
        finally:
            cls.discard()

    def setUp(self):
        self.server.wait_for_all_engines(60)
        self.addCleanup(self.gpu.take_back)

    def moved(self):
        """Sequences that were begun anew, or gone on with."""
        metrics = self.server.metrics()
        return metrics.total("tandem_router_migrations_total") + metrics.total("tandem_router_retries_total")

    def hurt(self, what, expected, restarted):
        """Streams run, something happens, and all end as if nothing had; `restarted` engines are others then."""
        before = self.server.engine_pids()
        seen, moved = len(self.server.output()), self.moved()
        pause = longest_pause(self, self.server, REQUESTS, self.undisturbed, what, tokens=3)

        def changed():
            now = self.server.engine_pids()
            return {index for index in before if now.get(index) not in (None, before[index])}

        wait_until(
            lambda: len(changed()) >= restarted, 60,
            lambda: f"{changed()} of the engines started again, not {restarted}\n{self.server.output()[seen:]}")
        self.server.wait_for_all_engines(60)
        output = self.server.output()[seen:]
        self.assertEqual(len(changed()), restarted, output)
        self.assertGreater(self.moved(), moved, "nothing ran where it happened")
        self.assertRegex(output, expected)
        name = self.id().rpartition(".")[2]
        print(f"{type(self).__name__}.{name}: longest pause of a stream {pause:.2f} s", file=sys.stderr)
        return output


class AloneTests(FaultTests):
    """Without MPS: a fault is its engine's own."""

    def test_an_engine_is_killed(self):
        self.hurt(lambda: self.server.kill(self.server.engine(1)), "engine 1 was killed by SIGKILL", 1)

    def test_a_lost_context(self):
        output = self.hurt(
            lambda: self.gpu.fail("launch=700"),
            r"engine \d: the device failed: .*CUDA_ERROR_ILLEGAL_ADDRESS \(700\).*the engine must be started again", 1)
        self.assertRegex(output, r"engine \d exited with code 11")

    def test_a_copy_that_fails(self):
        self.hurt(lambda: self.gpu.fail("copy:3=719"), r"CUDA_ERROR_LAUNCH_FAILED \(719\)", 1)

    def test_memory_runs_out_within_a_step(self):
        self.hurt(lambda: self.gpu.fail("launch:5=2"), r"CUDA_ERROR_OUT_OF_MEMORY \(2\)", 1)

    def test_memory_runs_out_when_a_step_needs_more(self):
        # Its results take more room than those of other steps, on the engine that has it first and then on the other.
        large = dict(prompt=list(range(3, 103)), max_tokens=4, temperature=0, logprobs=20, echo=True)

        def begin():
            # Each takes its own when it computes next; one of the two may have nothing to do just now.
            for pid in self.server.engine_pids().values():
                self.gpu.plan("allocate=2", pid)
            self.stream = self.server.stream(COMPLETIONS, **large)

        self.hurt(begin, r"(?s)CUDA_ERROR_OUT_OF_MEMORY \(2\).*lower --gpu-memory-fraction.*\(2\)", 2)
        self.assertEqual(self.stream.finish().text(), self.server.ask(COMPLETIONS, **large)["choices"][0]["text"])

    def test_a_step_that_never_ends(self):
        self.hurt(
            lambda: self.gpu.fail("launch:40=hang"),
            rf"engine \d hangs: its work got nowhere for {gpu_stand_in.STEP_TIMEOUT[:-1]} s", 1)

    def test_the_gateway_is_killed(self):
        pid = self.server.gateway().pid
        before = self.server.engine_pids()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: (g := self.server.gateway()) and g.pid != pid, 30, self.server.output)
        whole = self.server.ask(COMPLETIONS, **REQUESTS[0])
        self.assertEqual(whole["choices"][0]["text"], self.undisturbed[0]["choices"][0]["text"])
        self.assertEqual(self.server.engine_pids(), before)


class SharedTests(FaultTests):
    """Engines are clients of one MPS server (of stand-ins): some faults are everybody's."""

    shared = True

    def check_clients(self):
        self.assertEqual(self.fake.clients(), set(self.server.engine_pids().values()))

    def everybody(self, fault, expected):
        output = self.hurt(lambda: self.gpu.fail(fault), expected, 2)
        self.assertRegex(output, r"engine \d had a fatal fault of its device")
        self.check_clients()
        return output

    def test_engines_are_proved_clients(self):
        self.check_clients()

    def test_a_fatal_fault(self):
        self.everybody("launch:3=700", r"the device failed: .*CUDA_ERROR_ILLEGAL_ADDRESS \(700\)")

    def test_a_launch_that_fails(self):
        self.everybody("launch:9=719", r"CUDA_ERROR_LAUNCH_FAILED \(719\)")

    def test_the_server_is_gone(self):
        self.everybody("launch=806", r"CUDA_ERROR_MPS_RPC_FAILURE \(806\).*the MPS server is gone")

    def test_a_fault_twice_in_a_row(self):
        def twice():
            before = set(self.server.engine_pids().values())
            self.gpu.fail("launch=700")
            wait_until(lambda: not before & set(self.server.engine_pids().values()), 60, self.server.output)
            self.gpu.fail("launch:30=700")

        self.hurt(twice, r"(?s)\(700\).*\(700\)", 2)

    def test_a_fatal_fault_of_one_that_starts(self):
        """The others rest and would not notice; the server takes nobody as long as they live."""
        before = set(self.server.engine_pids().values())
        self.gpu.plan("launch=700")
        self.server.kill(self.server.engine(1))
        wait_until(
            lambda: len(now := self.server.engine_pids()) == 2 and not before & set(now.values()), 60,
            self.server.output)
        self.server.wait_for_all_engines(60)
        self.check_clients()

    def test_one_engine_is_killed(self):
        self.hurt(lambda: self.server.kill(self.server.engine(1)), "engine 1 was killed", 1)
        self.check_clients()

    def test_the_daemon_ends_one_client(self):
        self.hurt(lambda: self.gpu.fail("launch=810"), r"CUDA_ERROR_MPS_CLIENT_TERMINATED \(810\)", 1)

    def test_memory_runs_out_within_a_step(self):
        self.hurt(lambda: self.gpu.fail("launch=2"), r"CUDA_ERROR_OUT_OF_MEMORY \(2\)", 1)

    def test_refusals_in_the_middle(self):
        for code in (805, 808):
            with self.subTest(code):
                self.hurt(lambda: self.gpu.fail(f"launch={code}"), rf"the device failed: .*\({code}\)", 1)

    def test_an_engine_hangs_and_its_work_is_dropped_before_it_is_killed(self):
        self.hurt(lambda: self.gpu.fail("launch=hang"), r"engine \d is stuck", 1)

    def test_the_mps_server_is_killed(self):
        self.hurt(
            lambda: os.kill(self.fake.servers()[0], signal.SIGKILL), "MPS server ended|CUDA error 805", 2)

    def test_requests_that_come_in_the_middle_are_held(self):
        before = set(self.server.engine_pids().values())
        stream = self.server.stream(COMPLETIONS, **REQUESTS[0]).read(3)
        self.gpu.fail("launch=700")
        wait_until(lambda: not before & set(self.server.engine_pids().values()), 60, self.server.output)
        whole = self.server.ask(COMPLETIONS, **REQUESTS[1])
        self.assertEqual(whole["choices"][0]["text"], self.undisturbed[1]["choices"][0]["text"])
        self.assertEqual(stream.finish().text(), self.undisturbed[0]["choices"][0]["text"])


# Their common part has no tests.
AloneTests, SharedTests = needs_double(AloneTests), needs_double(SharedTests)


@needs_double
class StartTests(unittest.TestCase):
    """A GPU that refuses: the start ends with the reason and what to do."""

    def give_up(self, fault, *options, engines=1, mps=False):
        fake = FakeMPS("new") if mps else None
        gpu = StandInGPU(shared=mps, FAULT=fault)
        self.addCleanup(gpu.discard)
        server = gpu_server(gpu, *options, fake=fake, engines=engines)
        if fake:
            self.addCleanup(fake.discard)
        self.addCleanup(server.discard)
        server.launch()
        wait_until(lambda: server.process.poll() is not None, 120, lambda: f"it does not give up\n{server.output()}")
        self.assertNotEqual(server.process.returncode, 0)
        server.check_nothing_is_left(directory=not mps)
        return server.output()

    def test_what_cannot_be_helped_by_trying_again(self):
        output = self.give_up("init=100")
        self.assertRegex(output, r"CUDA_ERROR_NO_DEVICE \(100\); the driver shows no GPU: look at nvidia-smi")
        self.assertIn("cannot start: engine 0 said why above", output)
        self.assertEqual(output.count("CUDA_ERROR_NO_DEVICE"), 1)

    def test_what_may_pass_is_tried_three_times(self):
        for fault, expected in (
            ("init=805", r"\(805\); is nvidia-cuda-mps-control running"),
            ("context=2", r"CUDA_ERROR_OUT_OF_MEMORY \(2\); lower --gpu-memory-fraction or --engines"),
            ("launch=700", r"the device does not compute: .*CUDA_ERROR_ILLEGAL_ADDRESS \(700\)"),
        ):
            with self.subTest(fault):
                output = self.give_up(fault)
                self.assertEqual(len(re.findall(expected, output)), 3, output)
                self.assertIn("cannot start: engine 0 exited with code 10, 3 times in a row", output)

    def test_a_first_kernel_that_never_ends(self):
        output = self.give_up("launch=hang", "--step-timeout", "1s")
        self.assertEqual(len(re.findall(r"the device hangs: it computed nothing for 1\.0 s", output)), 3, output)
        self.assertIn("cannot start: engine 0 exited with code 10, 3 times in a row", output)

    def test_under_mps_the_first_kernel_is_everybodys(self):
        output = self.give_up("launch=700", engines=2, mps=True)
        self.assertRegex(output, r"the device failed: .*CUDA_ERROR_ILLEGAL_ADDRESS \(700\)")
        self.assertRegex(output, r"cannot start: the GPU had a fatal fault \d+ times before anything was served")


if __name__ == "__main__":
    unittest.main()
