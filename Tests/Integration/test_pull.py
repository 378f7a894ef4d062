"""Fetching models from a hub: what arrives, what is told, and what is never served."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

from fake_hub import FakeHub, Repository
from serving import BINARY, PATIENCE, ROOT, Server, wait_until

CHECKPOINT = ROOT / "Tests/Fixtures/tiny/llama-tied"
NAME = "tiny-org/Tiny-Llama"


def byte_letters():
    """The letters by which byte-level tokenizers write bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def tokens(count):
    """A vocabulary of all bytes and of names that no text has."""
    letters = [byte_letters()[byte] for byte in range(256)]
    return letters + [f"<unused{number}>" for number in range(count - len(letters))]


def tokenizer_json(count):
    vocabulary = {token: number for number, token in enumerate(tokens(count))}
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": split, "post_processor": None, "decoder": split,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                  "merges": []},
    }).encode()


def checkpoint():
    """The files of a small model, as a repository has them, with some that are not needed."""
    names = ["config.json", "generation_config.json", "model.safetensors"]
    files = {name: (CHECKPOINT / name).read_bytes() for name in names}
    vocabulary = json.loads(files["config.json"])["vocab_size"]
    files["tokenizer.json"] = tokenizer_json(vocabulary)
    files["tokenizer_config.json"] = b'{"add_bos_token": false}'
    unneeded = ["README.md", ".gitattributes", "pytorch_model.bin", "onnx/model.onnx", "original/model.safetensors"]
    return files | {name: name.encode() for name in unneeded}


def sharded():
    """The same in two shards with an index."""
    files = checkpoint()
    whole = files.pop("model.safetensors")
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    header.pop("__metadata__", None)
    names = sorted(header)
    shards, weight_map = [names[: len(names) // 2], names[len(names) // 2 :]], {}
    for number, shard in enumerate(shards, 1):
        name, content, entries = f"model-{number:05}-of-00002.safetensors", b"", {}
        for tensor in shard:
            first, last = header[tensor]["data_offsets"]
            entries[tensor] = {**header[tensor], "data_offsets": [len(content), len(content) + last - first]}
            content += data[first:last]
            weight_map[tensor] = name
        text = json.dumps(entries).encode()
        files[name] = struct.pack("<Q", len(text)) + text + content
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()
    # No part of the model, though it looks like one.
    files["model-00003-of-00003.safetensors"] = b"no"
    return files


def gguf():
    """The same as one GGUF file. Rows of queries and keys stay in the wrong order, which only changes what it says."""
    config = json.loads((CHECKPOINT / "config.json").read_bytes())
    whole = (CHECKPOINT / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    names = {
        "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }

    def text(value):
        value = value.encode()
        return struct.pack("<Q", len(value)) + value

    def value(item):
        if isinstance(item, bool):
            return struct.pack("<IB", 7, item)
        if isinstance(item, int):
            return struct.pack("<II", 4, item)
        if isinstance(item, float):
            return struct.pack("<If", 6, item)
        if isinstance(item, str):
            return struct.pack("<I", 8) + text(item)
        if all(isinstance(element, int) for element in item) and item:
            return struct.pack("<IIQ", 9, 5, len(item)) + b"".join(struct.pack("<i", element) for element in item)
        return struct.pack("<IIQ", 9, 8, len(item)) + b"".join(text(element) for element in item)

    vocabulary = tokens(config["vocab_size"])
    metadata = {
        "general.architecture": "llama", "general.name": "tiny", "general.alignment": 32,
        "llama.block_count": config["num_hidden_layers"], "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"], "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "llama.rope.freq_base": 100000.0, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary, "tokenizer.ggml.merges": [],
        "tokenizer.ggml.token_type": [1 if len(token) == 1 else 5 for token in vocabulary],
        "tokenizer.ggml.eos_token_id": len(vocabulary) - 1, "tokenizer.ggml.add_bos_token": False,
    }
    infos, content = b"", b""
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    for name, entry in tensors.items():
        first, last = entry["data_offsets"]
        match = re.match(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)$", name)
        mine = f"blk.{match[1]}.{names[match[2]]}.{match[3]}" if match else names[name]
        numbers, kind = data[first:last], 30
        if len(entry["shape"]) == 1:
            # Norms are single precision there.
            halves = struct.unpack(f"<{len(numbers) // 2}H", numbers)
            numbers, kind = b"".join(struct.pack("<I", half << 16) for half in halves), 0
        infos += text(mine) + struct.pack("<I", len(entry["shape"]))
        infos += b"".join(struct.pack("<Q", size) for size in reversed(entry["shape"]))
        infos += struct.pack("<IQ", kind, len(content))
        content += numbers + bytes(-len(numbers) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(text(key) + value(item) for key, item in metadata.items()) + infos
    return head + bytes(-len(head) % 32) + content


class PullTestCase(unittest.TestCase):
    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="tdm", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.cache = self.base / "cache"
        self.hub = FakeHub()
        self.addCleanup(self.hub.close)
        self.files = checkpoint()
        self.repository = self.hub.repositories[NAME] = Repository(self.files)

    def environment(self, **more):
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        kept.update({"TANDEM_CACHE": str(self.cache), "HF_ENDPOINT": self.hub.endpoint, "no_proxy": "127.0.0.1"})
        return {**kept, **more}

    def run_tandem(self, *arguments, **more):
        return subprocess.run(
            [BINARY, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120 * PATIENCE,
            env=self.environment(**more), cwd=self.base)

    def pull(self, name=NAME, *options, **more):
        """The path of what was fetched."""
        run = self.run_tandem("pull", name, *options, **more)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.told = run.stderr
        return pathlib.Path(run.stdout.strip())

    def refused(self, name=NAME, *options, **more):
        """What is told when nothing comes of it; then nothing may be served either."""
        run = self.run_tandem("pull", name, *options, **more)
        self.assertNotEqual(run.returncode, 0, run.stdout)
        self.assertEqual(run.stdout, "")
        self.assertEqual(list(self.cache.glob("hub/*/*/manifests/*")), [])
        return run.stderr

    def names(self, directory):
        return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


class WhatIsFetchedTests(PullTestCase):
    needed = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]

    def test_directory(self):
        path = self.pull()
        self.assertEqual(path, self.cache / "hub" / NAME / self.repository.commit)
        self.assertEqual(self.names(path), self.needed)
        for name in self.needed:
            self.assertEqual((path / name).read_bytes(), self.files[name])
        self.assertIn(f"commit {self.repository.commit[:12]}, 5 files", self.told)
        self.assertEqual(self.names(self.cache / "hub" / NAME / "partial"), [])
        # From then on nobody is asked.
        self.hub.forget()
        self.assertEqual(self.pull(), path)
        self.assertIn(f"{NAME}: commit {self.repository.commit[:12]}", self.told)
        self.assertEqual(self.pull(HF_HUB_OFFLINE="1"), path)
        self.assertEqual(self.hub.requests, [])

    def test_shards_of_the_index(self):
        self.repository.set(sharded())
        path = self.pull()
        self.assertIn("model-00002-of-00002.safetensors", self.names(path))
        self.assertNotIn("model-00003-of-00003.safetensors", self.names(path))
        run = self.run_tandem("generate", "--raw", "--max-tokens", "3", "--model", NAME, "hello")
        self.assertEqual(run.returncode, 0, run.stderr)

    def test_index_that_names_what_is_not_there(self):
        files = sharded()
        del files["model-00002-of-00002.safetensors"]
        self.repository.set(files)
        self.assertIn('"model-00002-of-00002.safetensors", which the repository does not have', self.refused())
        for name in ["../../evil.safetensors", "/etc/passwd", "a/b.safetensors", "model.bin"]:
            self.repository.set({**files, "model.safetensors.index.json": json.dumps(
                {"weight_map": {"x": name}}).encode()})
            self.assertIn("its index cannot be used", self.refused())

    def test_generate_and_serve_fetch_what_is_missing(self):
        run = self.run_tandem("generate", "--raw", "--max-tokens", "3", "--model", NAME, "hello")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("model.safetensors: 208 kB, checked", run.stderr)
        shutil.rmtree(self.cache)
        server = Server(NAME, "--threads", "1", engines=1, environment=self.environment(HF_TOKEN=FakeHub.TOKEN))
        server.command = lambda: [BINARY, "serve", "--port", str(server.port), "--engines", "1", *server.options]
        server.start()
        try:
            self.assertEqual([model["id"] for model in server.get("/v1/models").json["data"]], [NAME])
            self.assertEqual(server.get(f"/v1/models/{NAME}").json["id"], NAME)
            answer = server.post("/v1/completions", {"model": NAME, "prompt": "hello", "max_tokens": 3})
            self.assertEqual(answer.status, 200, answer.body)
            for process in server.processes():
                environment = pathlib.Path(f"/proc/{process.pid}/environ").read_bytes()
                if process.role != "serve":
                    self.assertNotIn(FakeHub.TOKEN.encode(), environment)
        finally:
            server.stop()

    def test_gguf_by_quantization(self):
        content = gguf()
        names = ["tiny-Q8_0.gguf", "tiny-Q4_K_M.gguf", "tiny-bf16.gguf", "mmproj-f16.gguf"]
        files = {name: content + name.encode() for name in names}
        self.hub.repositories["tiny-org/Tiny-GGUF"] = Repository({**files, "config.json": b"{}"})
        name = "tiny-org/Tiny-GGUF"
        for choice, file in [("", "tiny-Q4_K_M.gguf"), (":q8_0", "tiny-Q8_0.gguf"), ("/tiny-bf16.gguf", "tiny-bf16.gguf"),
                             (":BF16", "tiny-bf16.gguf"), ("@v1.0:Q8_0", "tiny-Q8_0.gguf")]:
            path = self.pull(name + choice)
            self.assertEqual(path.name, file)
            self.assertEqual(path.read_bytes(), files[file])
        run = self.run_tandem("generate", "--raw", "--max-tokens", "3", "--model", name + ":Q8_0", "hello")
        self.assertEqual(run.returncode, 0, run.stderr)
        # The same file at another reference is not fetched again.
        self.assertEqual(len(self.hub.asked("", "GET", "store")), 3)
        run = self.run_tandem("pull", name + ":Q2_K")
        self.assertNotEqual(run.returncode, 0)
        for line in ["tiny-Q8_0.gguf (", "tiny-Q4_K_M.gguf (", "tiny-bf16.gguf ("]:
            self.assertIn(line, run.stderr)
        self.assertNotIn("mmproj", run.stderr)

    def test_listing_and_removing(self):
        path = self.pull()
        self.pull(NAME + "@v1.0")
        listed = self.run_tandem("pull", "--list").stdout
        self.assertIn(f"{NAME}  (commit {self.repository.commit[:12]}, ", listed)
        self.assertIn(f"{NAME}@v1.0  (", listed)
        self.assertEqual(self.run_tandem("pull", "--remove", NAME).returncode, 0)
        self.assertTrue((path / "model.safetensors").exists())
        self.assertEqual(self.run_tandem("pull", "--remove", NAME + "@v1.0").returncode, 0)
        self.assertFalse(path.exists())
        self.assertEqual(self.run_tandem("pull", "--list").stdout, "")
        self.assertIn("not in the cache", self.run_tandem("pull", "--remove", NAME).stderr)

    def test_update(self):
        first = self.pull()
        self.repository.set({**self.files, "tokenizer_config.json": b"{}"})
        self.assertEqual(self.pull(), first)
        self.hub.forget()
        second = self.pull(NAME, "--update")
        self.assertNotEqual(second, first)
        self.assertEqual((second / "tokenizer_config.json").read_bytes(), b"{}")
        # The weights are the same.
        self.assertEqual(self.hub.asked("", "GET", "store"), [])
        self.assertEqual((first / "model.safetensors").stat().st_ino, (second / "model.safetensors").stat().st_ino)
        self.assertEqual(self.pull(), second)

    def test_damage_is_found_and_mended(self):
        path = self.pull()
        weights = path / "model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        self.hub.forget()
        self.assertIn("is not in the cache, or not whole", self.run_tandem("pull", NAME, HF_HUB_OFFLINE="1").stderr)
        self.assertEqual(self.pull(), path)
        self.assertEqual(weights.read_bytes(), content)
        self.assertEqual(len(self.hub.asked("", "GET", "store")), 1)
        weights.touch()
        self.hub.forget()
        self.assertEqual(self.pull(), path)
        self.assertEqual(self.hub.requests, [])


class FaultTests(PullTestCase):
    digest = hashlib.sha256((CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()

    def weights(self, path):
        self.assertEqual((path / "model.safetensors").read_bytes(), self.files["model.safetensors"])

    def test_connection_that_breaks(self):
        self.hub.fail(self.digest, drop_after=100_000, methods=("GET",))
        self.weights(self.pull())
        ranges = [request[3].get("Range") for request in self.hub.asked(self.digest, "GET")]
        self.assertEqual(ranges, [None, "bytes=100000-"])

    def test_server_without_ranges(self):
        self.hub.fail(self.digest, drop_after=100_000, methods=("GET",))
        self.hub.fail(self.digest, no_ranges=True, methods=("GET",))
        self.weights(self.pull())
        ranges = [request[3].get("Range") for request in self.hub.asked(self.digest, "GET")]
        self.assertEqual(ranges, [None, "bytes=100000-", None])

    def interrupt(self, number):
        """Ends a pull while the weights come, and gives what it said."""
        self.hub.fail(self.digest, stall_after=100_000, methods=("GET",))
        process = subprocess.Popen(
            [BINARY, "pull", NAME], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment(HF_TOKEN=FakeHub.TOKEN))
        partial = self.cache / "hub" / NAME / "partial" / self.digest
        # Of what came, curl may hold back some.
        wait_until(lambda: partial.exists() and partial.stat().st_size > 50_000, 30, "no partial file")
        # What runs now shows the token to nobody.
        seen = 0
        for directory in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command, environment = (directory / "cmdline").read_bytes(), (directory / "environ").read_bytes()
            except OSError:
                continue
            if b"curl" in command and str(self.cache).encode() in environment:
                seen += 1
                self.assertNotIn(FakeHub.TOKEN.encode(), command + environment)
        self.assertEqual(seen, 1)
        process.send_signal(number)
        _, told = process.communicate(timeout=30 * PATIENCE)
        self.assertNotEqual(process.returncode, 0)
        self.assertNotIn(FakeHub.TOKEN, told)
        self.kept = partial.stat().st_size
        return told

    def test_interrupted_pull_goes_on(self):
        for number in (signal.SIGINT, signal.SIGKILL):
            with self.subTest(signal=number):
                shutil.rmtree(self.cache, ignore_errors=True)
                self.hub.forget()
                told = self.interrupt(number)
                if number == signal.SIGINT:
                    self.assertIn("goes on where this one ended", told)
                self.assertIn("is not in the cache", self.run_tandem("pull", NAME, HF_HUB_OFFLINE="1").stderr)
                self.weights(self.pull())
                self.assertRegex(self.told, r"5 files, 213 kB, \d+ kB of it to fetch")
                ranges = [request[3].get("Range") for request in self.hub.asked(self.digest, "GET")]
                self.assertEqual(ranges, [None, f"bytes={self.kept}-"])

    def test_changed_between_attempts(self):
        self.interrupt(signal.SIGINT)
        weights = self.files["model.safetensors"]
        self.files["model.safetensors"] = weights[:-2] + bytes(2)
        self.repository.set(self.files)
        self.hub.forget()
        self.weights(self.pull())
        gets = self.hub.asked("", "GET", "store")
        self.assertEqual([request[3].get("Range") for request in gets], [None])

    def test_listed_and_sent_differ(self):
        # Changed between the list and the request, at a hub that forgets commits.
        self.hub.fail("resolve", status=200, methods=("HEAD",), times=9, headers={"X-Linked-ETag": f'"{"0" * 64}"'})
        self.assertIn("it was changed just now", self.refused())

    def test_wrong_bytes(self):
        self.hub.fail(self.digest, corrupt=True, methods=("GET",))
        told = self.refused()
        self.assertRegex(told, f"model.safetensors has SHA-256 [0-9a-f]+ and should have {self.digest}")
        self.assertEqual(self.names(self.cache / "hub" / NAME / "partial"), [])
        self.weights(self.pull())
        self.run_tandem("pull", "--remove", NAME)
        self.hub.fail("tokenizer.json", corrupt=True, methods=("GET",))
        self.assertIn("tokenizer.json has git digest", self.refused())

    def test_too_many_bytes(self):
        files = dict(self.files)
        entry = self.repository.entry("config.json")
        content = files["config.json"]
        self.repository.entry = lambda path, own=self.repository.entry: (
            {**entry, "size": len(content) - 5} if path == "config.json" else own(path))
        self.assertIn("and should be", self.refused())

    def test_busy_hub(self):
        self.hub.fail("/api/models", status=429, headers={"Retry-After": "0"}, times=2)
        self.hub.fail("resolve", status=503, headers={"Retry-After": "0"}, times=1)
        self.weights(self.pull())
        self.assertIn("the hub answered 429; next attempt at once", self.told)
        self.run_tandem("pull", "--remove", NAME)
        self.hub.fail("/api/models", status=500, headers={"Retry-After": "0"}, times=5)
        self.assertIn("the hub answered 500 after 5 attempts", self.refused())
        self.hub.fail("/api/models", status=429, headers={"RateLimit": '"api";r=0;t=4000'})
        self.assertIn("asks to wait for 4000 s", self.refused())

    def test_address_that_expires(self):
        self.hub.fail(self.digest, status=403, methods=("GET",))
        self.weights(self.pull())

    def test_disk_without_room(self):
        # A limit on the size of files is as good as a full disk.
        run = subprocess.run(
            ["bash", "-c", f'ulimit -f 100; exec "{BINARY}" pull {NAME}'], capture_output=True, text=True,
            env=self.environment(), stdin=subprocess.DEVNULL, timeout=60 * PATIENCE)
        self.assertNotEqual(run.returncode, 0)
        self.assertRegex(run.stderr, "cannot be written|no space left")
        self.assertEqual(list(self.cache.glob("hub/*/*/manifests/*")), [])


class AccessTests(PullTestCase):
    def test_token_stays_at_the_hub(self):
        path = self.pull(HF_TOKEN=FakeHub.TOKEN)
        self.assertTrue((path / "model.safetensors").exists())
        self.assertTrue(self.hub.asked("", server="store"))
        for server, _, _, headers in self.hub.requests:
            self.assertEqual(headers.get("Authorization"), f"Bearer {FakeHub.TOKEN}" if server == "hub" else None)
        self.assertNotIn(FakeHub.TOKEN, self.told)

    def test_private(self):
        self.repository.private = True
        self.assertIn("set HF_TOKEN to a token that may read it", self.refused())
        self.assertIn("does not accept the token", self.refused(HF_TOKEN="hf_wrong"))
        self.pull(HF_TOKEN=FakeHub.TOKEN)

    def test_terms(self):
        self.repository.gated = True
        told = self.refused()
        self.assertIn(f"open {self.hub.endpoint}/{NAME}, accept them, and set HF_TOKEN", told)
        self.repository.gated = "refuse"
        self.assertIn("accept them with the account that the token in HF_TOKEN belongs to",
                      self.refused(HF_TOKEN=FakeHub.TOKEN))

    def test_missing(self):
        self.assertIn("has no model tiny-org/None", self.refused("tiny-org/None"))
        self.assertEqual(os.listdir(self.cache), ["pull.lock"])
        self.assertIn("or the token in HF_TOKEN may not see it", self.refused("tiny-org/None", HF_TOKEN=FakeHub.TOKEN))
        self.assertIn('has no revision "v9"', self.refused(NAME + "@v9"))
        self.pull(NAME + "@refs/pr/1")
        self.assertTrue(self.hub.asked("/revision/refs%2Fpr%2F1"))

    def test_no_network(self):
        self.assertIn("HF_HUB_OFFLINE forbids", self.refused(HF_HUB_OFFLINE="1"))
        self.assertEqual(self.hub.requests, [])

    def test_token_that_cannot_be_one(self):
        self.assertIn("HF_TOKEN: it holds characters", self.refused(HF_TOKEN='a"\\ü'))

    def test_renamed_repository(self):
        self.hub.repositories["tiny-org/Old"] = Repository({}, renamed_to=NAME)
        self.repository.is_cached = True
        for token in ({}, {"HF_TOKEN": FakeHub.TOKEN}):
            shutil.rmtree(self.cache, ignore_errors=True)
            path = self.pull("tiny-org/Old", **token)
            self.assertTrue((path / "model.safetensors").exists())


class UntrustedTests(PullTestCase):
    def test_list_in_pages(self):
        self.repository.page_size = 3
        self.pull()
        self.assertGreater(len(self.hub.asked("/tree/")), 2)

    def test_endless_list(self):
        self.repository.page_size = 1
        self.repository.set({**self.files, **{f"file{number}": b"" for number in range(250)}})
        self.assertIn("has more than", self.refused())

    def test_hostile_names(self):
        hostile = ["../../evil.json", "/tmp/evil.json", "a/../../evil", "con\x1b[2Jfig.json", "x\\y", "", ".", "a//b",
                   "../tokenizer.json", "..", "\u202egnp.json"]
        entry = self.repository.entry("config.json")
        self.repository.extra_entries = [{**entry, "path": path} for path in hostile]
        path = self.pull()
        self.assertEqual(self.names(path), WhatIsFetchedTests.needed)
        self.assertEqual(sorted(os.listdir(self.base)), ["cache"])

    def test_hostile_gguf_names(self):
        repository = Repository({})
        self.hub.repositories["tiny-org/Evil"] = repository
        repository.extra_entries = [
            {**self.repository.entry("config.json"), "path": path} for path in ["../x.gguf", "/x.gguf", "a\nb.gguf"]]
        self.assertIn("neither a GGUF file nor model.safetensors", self.refused("tiny-org/Evil"))
        self.assertNotIn("\n\n", self.refused("tiny-org/Evil:Q4_K_M"))

    def test_answers_that_are_none(self):
        for answer in [b"", b"<html>", b"[]", b'{"sha": "main"}', b'{"sha": 5}', b"{" * 100]:
            self.hub.answer_of_api = answer
            handler = self.hub.hub.RequestHandlerClass
            own = handler.info
            handler.info = lambda self, *_: self.reply(200, answer)
            self.addCleanup(setattr, handler, "info", own)
            self.assertRegex(self.refused(), "it is no JSON|it holds no commit")

    def test_unsupported_models_are_refused_at_once(self):
        config = json.loads(self.files["config.json"])
        self.repository.set({**self.files, "config.json": json.dumps(
            {**config, "architectures": ["Mamba\x1b[2JForCausalLM"]}).encode()})
        told = self.refused()
        self.assertRegex(told, r'cannot be served: config.json: architectures: "Mamba\?\[2JForCausalLM" is not supported')
        self.assertEqual(self.hub.asked("", server="store"), [])
        self.repository.set({**self.files, "config.json": b"no JSON"})
        self.assertIn("cannot be served", self.refused())
        gguf_repository = Repository({"a-Q4_K_M.gguf": b"GGUF"}, gguf={"architecture": "bert"})
        self.hub.repositories["tiny-org/Bert"] = gguf_repository
        self.assertIn('architecture "bert" is not supported', self.refused("tiny-org/Bert"))
        self.hub.repositories["tiny-org/Few"] = Repository({"few-IQ3_M.gguf": b"GGUF"})
        self.assertIn("the format IQ3_M, which is not supported; supported: F32, ", self.refused("tiny-org/Few"))
        self.assertEqual(self.hub.asked("", server="store"), [])

    def test_nothing_to_serve(self):
        self.repository.set({"pytorch_model.bin": b"x", "config.json": b"{}"})
        self.assertIn(".bin files are not read", self.refused())
        self.repository.set({"m-00001-of-00002.gguf": b"x", "m-00002-of-00002.gguf": b"x"})
        self.assertIn("several parts", self.refused())

    def test_two_at_once(self):
        fault = self.hub.fail(FaultTests.digest, stall_after=1000, methods=("GET",))
        first = subprocess.Popen(
            [BINARY, "pull", NAME], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment())
        wait_until(lambda: fault.times == 0, 30, "the first did not come that far")
        second = subprocess.Popen(
            [BINARY, "pull", NAME], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment())
        line = second.stderr.readline()
        self.assertIn("waiting for another pull", line)
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30 * PATIENCE)
        out, told = second.communicate(timeout=60 * PATIENCE)
        self.assertEqual(second.returncode, 0, told)
        self.assertTrue((pathlib.Path(out.strip()) / "model.safetensors").exists())


class SpellingTests(PullTestCase):
    def test_spellings(self):
        path = self.pull()
        for name in [f"hf.co/{NAME}", f"https://huggingface.co/{NAME}", f"hf:{NAME}", f"{self.hub.endpoint}/{NAME}/",
                     f"https://huggingface.co/{NAME}/tree/main", NAME + ":safetensors", NAME + ":latest"]:
            self.assertEqual(self.pull(name).name, path.name, name)

    def test_paths_go_first(self):
        (self.base / NAME).mkdir(parents=True)
        self.hub.forget()
        self.run_tandem("generate", "--model", NAME, "x")
        self.assertEqual(self.hub.requests, [])

    def test_what_is_no_name(self):
        for name, told in [("./a/b", "there is no such file"), ("a/b/c", "there is no such file"),
                           ("nothing", "as ORG/NAME"), ("org/na--me", "names no model on a hub"),
                           ("org/name:", "names no model on a hub"), ("org/name@a b", "names no model on a hub"),
                           ("hf.co/justone", "after the hub's name comes ORG/NAME")]:
            self.assertIn(told, self.refused(name))
        self.assertEqual(self.hub.requests, [])


if __name__ == "__main__":
    unittest.main()
