"""Several models behind one gateway: the default model under two names with settings of their own, and a tiny one whose
outputs another implementation wrote down."""
import http.client
import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import serving
from serving import BINARY, ROOT, Server, wait_until
from test_pull import tokenizer_json

CHECKPOINT = ROOT / "Tests/Fixtures/tiny/llama-tied"
COMPLETIONS = "/v1/completions"
DEFAULT = os.environ.get("TANDEM_INTEGRATION_MODEL", "smollm2-135m-instruct")
NAMES = ["story", "tale", "short", "tiny"]
# Engines count through: two of story, one of short, one of tiny.
STORY, SHORT, TINY = (0, 1), 2, 3
LONG = dict(prompt="Once upon a time, in a small village by the sea,", temperature=0, max_tokens=300, ignore_eos=True)


def yaml(tokenizer):
    """The models that are served; what stands above them holds where they do not say otherwise."""
    return f"""
threads: 1
max-model-len: 1024
models:
  - model: {DEFAULT}
    name: story
    aliases: [tale]
    engines: 2
  - model: {DEFAULT}
    name: short
    engines: 1
    cpu-compute: bf16
    max-model-len: 512
    max-num-seqs: 4
    prompt-lookup: 0
    kv-cache-memory: 32MiB
  - model: {CHECKPOINT}
    served-model-name: tiny
    tokenizer: {tokenizer}
    engines: 1
    cpu-compute: f32
    max-model-len: 128
"""


class ModelsServer(Server):
    """A server whose models a file lists."""

    def __init__(self, text=None, **more):
        super().__init__(engines=4, **more)
        (self.base / "tokenizer.json").write_bytes(
            tokenizer_json(json.loads((CHECKPOINT / "config.json").read_text())["vocab_size"]))
        (self.base / "tokenizer_config.json").write_text('{"add_bos_token": false}')
        self.file = self.base / "tandem.yaml"
        self.file.write_text(text if text is not None else yaml(self.base))

    def command(self):
        return [BINARY, "serve", "--config", str(self.file), "--port", str(self.port), *self.options]

    def restarts(self):
        return {
            dict(labels)["engine"]: int(count)
            for labels, count in self.metrics().all("tandem_engine_restarts_total").items()
        }


class ModelsTestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = ModelsServer().start()
        try:
            cls.server.wait_for_all_engines()
        except BaseException:
            cls.server.discard()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()


class ServingTests(ModelsTestCase):
    def test_everything_is_announced(self):
        wait_until(lambda: "Ctrl-C" in self.server.output(), 10, self.server.output)
        printed = self.server.output()
        self.assertRegex(printed, r"(?m)^3 models are served; ready in \d+\.\d\d s\.$")
        for name, engines in (("story", "2 engines"), ("short", "1 engine"), ("tiny", "1 engine")):
            self.assertRegex(printed, rf"(?m)^  {name} +{engines}, each cpu \(.*1 thread\)$")
        self.assertRegex(printed, r"curl -N http\S+/v1/chat/completions .*\"model\": \"story\"")
        self.assertRegex(printed, r"(?m)^Memory for 4 engines of 3 models:$")
        self.assertRegex(printed, r"(?m)^  story .* 2 engines, sequences of up to 1024 tokens$")
        self.assertRegex(printed, r"(?m)^  short .* 1 engine, sequences of up to 512 tokens$")
        self.assertRegex(printed, r"(?m)^    KV cache +32 MiB +32 MiB  ")
        self.assertEqual(len(re.findall(r"(?m)^    weights +\S+ [KMG]iB +\S+ [KMG]iB  (int8|bf16|f32),", printed)), 3)

    def test_the_printed_command_works(self):
        wait_until(lambda: "Ctrl-C" in self.server.output(), 10, self.server.output)
        command = re.search(r"try it +(curl .*)", self.server.output())[1].replace("200", "8")
        run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60 * serving.PATIENCE)
        self.assertIn("[DONE]", run.stdout, run.stderr)

    def test_models_are_listed(self):
        data = self.server.get("/v1/models").json["data"]
        self.assertEqual([model["id"] for model in data], NAMES)
        self.assertEqual([model["root"] for model in data], ["story", "story", "short", "tiny"])
        self.assertEqual([model["max_model_len"] for model in data], [1024, 1024, 512, 128])
        self.assertEqual(self.server.get("/v1/models/tale").json["max_model_len"], 1024)
        health = self.server.get("/health").json
        self.assertEqual(health["models"], {"story": 2, "short": 1, "tiny": 1})

    def test_each_model_has_its_processes(self):
        engines = [self.server.engine(index) for index in range(4)]
        self.assertEqual([e.option("--served-model-name") for e in engines], ["story", "story", "short", "tiny"])
        self.assertEqual([e.option("--max-num-seqs") for e in engines], ["128", "128", "4", "128"])
        self.assertEqual([e.option("--prompt-lookup") for e in engines], ["16", "16", "0", "16"])
        self.assertEqual([e.option("--threads") for e in engines], ["1"] * 4)
        weights = [e.shared_memory() for e in engines]
        self.assertTrue(weights[0])
        self.assertEqual(weights[0], weights[1], "engines of a model share its weights")
        for one, other in ((0, 2), (0, 3), (2, 3)):
            self.assertFalse(weights[one] & weights[other], "models have weights of their own")

    def test_the_tiny_model_says_what_the_reference_says(self):
        cases = json.loads((CHECKPOINT / "reference.json").read_text())["cases"]
        cases = [case for case in cases if len(case["input_ids"]) + 16 <= 128]
        self.assertGreater(len(cases), 2)
        for case in cases:
            answer = self.server.complete(
                case["input_ids"], model="tiny", max_tokens=16, temperature=0, ignore_eos=True, return_token_ids=True)
            self.assertEqual(answer["choices"][0]["token_ids"], case["greedy16"], case["name"])
            self.assertEqual(answer["model"], "tiny")

    def test_requests_get_the_model_they_ask_for(self):
        fields = dict(max_tokens=12, temperature=0)
        chat = [{"role": "user", "content": "Why is the sky blue?"}]
        expected = self.server.chat(chat, **fields)
        self.assertEqual(expected["model"], "story")
        for name in ("story", "tale"):
            answer = self.server.chat(chat, model=name, **fields)
            self.assertEqual(answer["model"], name)
            self.assertEqual(answer["choices"], expected["choices"])
        self.assertEqual(self.server.chat(chat, model="short", **fields)["model"], "short")
        # A long body, with the model behind all of it.
        body = json.dumps({"prompt": [5] * 20_000, "max_tokens": 1, "model": "tiny"})
        answer = self.server.post(COMPLETIONS, body)
        self.assertEqual(answer.status, 400, answer)
        self.assertIn("128", answer.error["message"])
        # The tiny model has no chat template.
        self.assertEqual(self.server.post("/v1/chat/completions", {"messages": chat, "model": "tiny"}).status, 400)

    def test_unknown_models_are_refused_with_all_names(self):
        bodies = {
            COMPLETIONS: {"prompt": "x"}, "/v1/chat/completions": {"messages": []}, "/v1/embeddings": {"input": "x"},
            "/tokenize": {"prompt": "x"}, "/detokenize": {"tokens": [1]}, "/v1/score": {"text_1": "x", "text_2": "y"},
            "/v1/rerank": {"query": "x", "documents": ["y"]}, "/v1/classify": {"input": "x"},
        }
        for path, body in bodies.items():
            answer = self.server.post(path, {**body, "model": "gpt-4"})
            self.assertEqual(answer.status, 404, (path, answer))
            self.assertEqual(answer.error["code"], "model_not_found")
            self.assertIn(", ".join(NAMES), answer.error["message"])
        self.assertEqual(self.server.get("/v1/models/gpt-4").status, 404)

    def test_limits_are_each_models_own(self):
        prompt = self.server.tokenize("word " * 600)[:600]
        self.assertEqual(len(prompt), 600)
        self.server.complete(prompt, model="story", max_tokens=1)
        answer = self.server.post(COMPLETIONS, {"prompt": prompt, "model": "short", "max_tokens": 1})
        self.assertEqual(answer.status, 400, answer)
        self.assertEqual(answer.error["code"], "context_length_exceeded")
        self.assertIn("512", answer.error["message"])

    def test_tokens_are_those_of_the_model(self):
        text = "hello world"
        self.assertEqual(self.server.tokenize(text), self.server.tokenize(text, model="short"))
        tiny = self.server.tokenize(text, model="tiny")
        self.assertEqual(len(tiny), len(text))
        self.assertEqual(self.server.ask("/detokenize", tokens=tiny, model="tiny")["prompt"], text)
        self.assertNotEqual(self.server.ask("/detokenize", tokens=tiny)["prompt"], text)
        self.assertEqual(self.server.get("/tokenizer_info?model=tiny").json["vocab_size"], 320)
        self.assertGreater(self.server.get("/tokenizer_info").json["vocab_size"], 40_000)

    def test_embeddings_and_scores_are_those_of_the_model(self):
        sizes = {
            name: len(self.server.ask("/v1/embeddings", input="hello", model=name)["data"][0]["embedding"])
            for name in ("story", "tiny")
        }
        self.assertEqual(sizes["tiny"], 64)
        self.assertGreater(sizes["story"], 500)
        for path, body in (
            ("/v1/score", {"text_1": "a", "text_2": "b"}), ("/v1/rerank", {"query": "a", "documents": ["b", "c"]}),
        ):
            answer = self.server.ask(path, **body, model="tale")
            self.assertEqual(answer.get("model", "tale"), "tale")

    def test_metrics_name_the_model(self):
        self.server.complete("hello", model="tiny", max_tokens=2)
        metrics = self.server.metrics()
        self.assertEqual(
            {(dict(labels)["engine"], dict(labels)["model_name"]) for labels in metrics.all("tandem_engine_serving")},
            {("0", "story"), ("1", "story"), ("2", "short"), ("3", "tiny")})
        for name in ("story", "short", "tiny"):
            for family in ("vllm:prompt_tokens_total", "vllm:e2e_request_latency_seconds_count"):
                self.assertEqual(len(metrics.all(family, model_name=name)), 1, (family, name))
        self.assertGreaterEqual(metrics.total("vllm:generation_tokens_total", model_name="tiny"), 2)
        self.assertEqual(metrics.total("tandem_engines", model_name="story"), 2)


class FailureTests(ModelsTestCase):
    def setUp(self):
        self.server.wait_for_all_engines()

    def start(self, name):
        stream = self.server.stream(COMPLETIONS, model=name, **LONG)
        self.addCleanup(stream.close)
        return stream.read(5)

    def moved(self, model):
        metrics = self.server.metrics()
        return sum(
            metrics.total(name, model_name=model)
            for name in ("tandem_router_retries_total", "tandem_router_migrations_total"))

    def test_an_engine_of_one_model_is_killed(self):
        expected = {name: self.server.complete(model=name, **LONG)["choices"][0]["text"] for name in ("story", "short")}
        for victim, others in ((SHORT, "story"), (TINY, "story"), (STORY[0], "short")):
            with self.subTest(victim=victim):
                self.server.wait_for_all_engines()
                before, pids = self.server.restarts(), self.server.engine_pids()
                moved = self.moved(others)
                streams = {name: self.start(name) for name in ("story", "short")}
                self.server.kill(self.server.engine(victim))
                for name, stream in streams.items():
                    stream.finish()
                    self.assertTrue(stream.done)
                    self.assertEqual(stream.text(), expected[name], name)
                self.server.wait_for_all_engines()
                metrics = self.server.metrics()
                self.assertEqual(self.moved(others), moved)
                wanted = {index: count + (index == str(victim)) for index, count in before.items()}
                self.assertEqual(self.server.restarts(), wanted)
                after = self.server.engine_pids()
                self.assertEqual({i for i in pids if pids[i] != after[i]}, {str(victim)})

    def test_a_model_in_a_crash_loop_leaves_the_others_alone(self):
        fields = dict(prompt="The capital of France is", max_tokens=8, temperature=0)
        expected = self.server.ask(COMPLETIONS, **fields)["choices"]
        pids = self.server.engine_pids()

        def unhealthy():
            answer = self.server.get("/health")
            return answer if answer.status == 503 else None

        for _ in range(4):
            self.server.kill(wait_until(lambda: self.server.engine(TINY), 20, "no new engine was started"))
            answer = wait_until(unhealthy, 20, "a model without an engine counts as healthy")
            self.assertIn("`tiny`", answer.error["message"])
            self.assertNotIn("`story`", answer.error["message"])
            self.assertEqual(self.server.ask(COMPLETIONS, **fields)["choices"], expected)
        self.server.wait_for_all_engines(40)
        after = self.server.engine_pids()
        self.assertEqual({i for i in pids if pids[i] != after[i]}, {str(TINY)})
        self.assertIn(f"engine {TINY} (tiny) was killed", self.server.output())

    def test_the_gateway_is_killed(self):
        fields = dict(prompt="hello", max_tokens=8, temperature=0)
        expected = {name: self.server.ask(COMPLETIONS, model=name, **fields)["choices"] for name in NAMES}
        stream = self.start("story")
        engines, gateway = self.server.engine_pids(), self.server.gateway()
        self.server.kill(gateway)
        for name in NAMES:
            self.assertEqual(self.server.ask(COMPLETIONS, model=name, **fields)["choices"], expected[name])
        with self.assertRaises((ConnectionError, http.client.HTTPException, AssertionError)):
            stream.finish()
        self.server.wait_for_all_engines()
        self.assertEqual(self.server.engine_pids(), engines, "engines did not outlive the gateway")
        self.assertNotEqual(self.server.gateway().pid, gateway.pid)
        self.server.wait_idle()


class RefusalTests(unittest.TestCase):
    def refusal(self, text, *options):
        with tempfile.TemporaryDirectory(prefix="tdm", dir="/tmp") as directory:
            file = pathlib.Path(directory) / "tandem.yaml"
            file.write_text(text)
            run = subprocess.run(
                [BINARY, "serve", *options, "--config", str(file), "--port", "0"], stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=60 * serving.PATIENCE)
        self.assertNotEqual(run.returncode, 0)
        return run.stderr.replace(str(file), "FILE")

    def test_what_cannot_be_served_is_refused_by_place(self):
        one = f"models:\n  - model: {DEFAULT}\n"
        for text, options, wanted in (
            (one + f"  - model: {DEFAULT}\n", (), f'FILE: models[1].name: "{DEFAULT}" is already a name of FILE: models[0]'),
            (one + "  - model: b\n    engines: none\n", (), 'FILE: models[1].engines: "none" is not a whole number'),
            (one + "    max-model-len: 999999\n", (), "FILE: models[0].max-model-len: 999999 tokens are more than"),
            (one + "    kv-cache-memory: 1MiB\n", (), "FILE: models[0].kv-cache-memory: --kv-cache-memory 1 MiB is less"),
            (one + f"  - model: {CHECKPOINT}\n", (), f"FILE: models[1].tokenizer: {CHECKPOINT} has no tokenizer.json"),
            (one + "  - model: /nonexistent.gguf\n", (), "FILE: models[1]: "),
            (one, ("x.gguf",), "MODEL: FILE lists the `models:` that are served"),
            (one, ("--served-model-name", "x"), "--served-model-name: FILE lists the `models:` that are served"),
            (one + "    kv-cache-memory: 4TiB\n" + f"  - model: {DEFAULT}\n    name: b\n    kv-cache-memory: 256MiB\n",
             (), "4 engines of 2 models take 819"),
        ):
            with self.subTest(wanted=wanted):
                self.assertIn(wanted, self.refusal(text, *options))
