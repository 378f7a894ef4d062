"""One copy of a model's weights for all engines of a GPU, on the double of the CUDA driver."""
import json
import os
import pathlib
import re
import signal
import subprocess
import unittest

import serving
from mps_stand_in import FakeMPS
from serving import BINARY, Server, wait_until
from test_cuda import DOUBLE, needs_double
from test_models import CHECKPOINT
from test_pull import tokenizer_json

COMPLETIONS = "/v1/completions"
# What the double computes takes a while on a machine that has other work.
PATIENCE = 120


def shared_device_memory(process):
    """Inodes of device memory of the double that is mapped by a process and can be by others."""
    lines = pathlib.Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if re.search("/memfd:cuda-double-(memory|shared)", line)}


class SharingServer(Server):
    """A tiny model on the double."""

    def __init__(self, *options, weights="shared", engines=2, fake=None, **double):
        super().__init__(*(options or ("--mps", "off")), engines=engines, runtime=fake and fake.run)
        (self.base / "tokenizer.json").write_bytes(
            tokenizer_json(json.loads((CHECKPOINT / "config.json").read_text())["vocab_size"]))
        (self.base / "tokenizer_config.json").write_text('{"add_bos_token": false}')
        self.weights = weights
        self.environment = {
            "TANDEM_CUDA_DRIVER": DOUBLE,
            # Its images are nobody's code.
            "XDG_CACHE_HOME": str(self.base / "cache"),
            **{f"TANDEM_DOUBLE_{name}": str(value) for name, value in double.items()},
            **(fake.environment if fake else {}),
        }

    def command(self):
        return [
            BINARY, "serve", str(CHECKPOINT), "--tokenizer", str(self.base), "--served-model-name", "tiny",
            "--device", "cuda:0", "--gpu-weights", self.weights, "--port", str(self.port),
            "--engines", str(self.engines), "--max-model-len", "128", "--max-num-seqs", "4",
            "--max-num-batched-tokens", "64", "--kv-cache-memory", "4MiB", "--heartbeat-timeout", "60s",
            "--engine-silence-timeout", "60s", *self.options]

    def start(self):
        super().start()
        self.wait_for_all_engines(PATIENCE)
        return self

    def run(self, *command):
        environment = {**os.environ, **self.environment, "XDG_RUNTIME_DIR": str(self.runtime)}
        done = subprocess.run(
            [BINARY, *command], capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self):
        return json.loads(self.run("status", "--json"))

    def owner(self):
        return next((process for process in self.processes() if process.role == "weights"), None)

    def copies(self, index):
        """Inodes of the device memory that an engine has in common with other processes."""
        return shared_device_memory(self.engine(index))

    def stop_with(self, fake):
        """The end of a server with a daemon of its own."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        self.check_nothing_is_left(directory=False)
        assert not fake.daemon(), "the daemon is left"

    def replace(self, index):
        """Kills an engine, and waits until another serves in its place."""
        old = self.engine(index)
        self.kill(old)
        wait_until(
            lambda: self.engine(index) is not None and self.engine(index).pid != old.pid, PATIENCE,
            lambda: f"engine {index} does not come back\n{self.output()}")
        self.wait_for_all_engines(PATIENCE)


@needs_double
class SharedWeightsTests(unittest.TestCase):
    def server(self, *options, **more):
        server = SharingServer(*options, **more)
        self.addCleanup(server.discard)
        return server.start()

    def answers(self, server, count=4):
        """Tokens of the same prompts, each from any engine."""
        found = []
        for index in range(count):
            answer = server.ask(
                COMPLETIONS, model="tiny", prompt=[5 + index % 2, 17, 40], max_tokens=6, temperature=0,
                ignore_eos=True, return_token_ids=True)
            found.append(answer["choices"][0]["token_ids"])
        return found

    def test_engines_map_one_copy_that_outlives_them_and_its_owner(self):
        server = self.server()
        wait_until(
            lambda: re.search(r"2 engines, each cuda:0 \(.*shared weights\)", server.output()), PATIENCE,
            lambda: f"it is not said\n{server.output()}")
        status = server.status()
        weights, = status["weights"]
        owner = server.owner()
        self.assertEqual((weights["model"], weights["state"], weights["pid"]), ("tiny", "shared", owner.pid))
        self.assertGreater(weights["bytes"], 0)
        self.assertIn("weights of tiny: shared", re.sub(r"\s+", " ", server.run("status")))
        copy = server.copies(0)
        self.assertEqual(len(copy), 1)
        self.assertEqual(server.copies(1), copy)
        expected = self.answers(server)

        # An engine that starts again finds them where they were.
        server.replace(0)
        self.assertEqual(server.copies(0), copy)
        self.assertEqual(self.answers(server), expected)

        # Nor does their owner's end lose them: nobody restarts but the owner, which loads nothing.
        engines = server.engine_pids()
        server.kill(owner)
        wait_until(
            lambda: server.status()["weights"][0]["state"] == "shared" and server.owner().pid != owner.pid, PATIENCE,
            lambda: f"no owner comes back\n{server.output()}")
        self.assertEqual(server.engine_pids(), engines)
        self.assertEqual(server.status()["weights"][0]["restarts"], 1)
        self.assertEqual(shared_device_memory(server.owner()), copy)
        self.assertEqual(self.answers(server), expected)
        server.replace(1)
        self.assertEqual(server.copies(1), copy)
        self.assertEqual(self.answers(server), expected)
        server.stop()

    def test_engines_that_start_while_the_owner_starts_wait_for_it(self):
        server = self.server()
        copy = server.copies(0)
        for process in (server.owner(), server.engine(0), server.engine(1)):
            server.kill(process)
        wait_until(lambda: server.serving_engines() < 2, PATIENCE, "nobody notices")
        server.wait_for_all_engines(PATIENCE)
        self.assertEqual((server.copies(0), server.copies(1)), (copy, copy))
        self.answers(server)
        server.stop()

    def test_without_descriptors_there_are_handles_which_end_with_the_owner(self):
        server = self.server(DESCRIPTORS=0)
        weights, = server.status()["weights"]
        self.assertEqual((weights["state"], weights["detail"]), ("shared", "CUDA IPC"))
        copy = server.copies(0)
        self.assertEqual((len(copy), server.copies(1)), (1, copy))
        expected = self.answers(server)
        engines, owner = server.engine_pids(), server.owner()
        server.kill(owner)
        wait_until(
            lambda: len(server.engine_pids()) == 2 and not set(server.engine_pids().values()) & set(engines.values()),
            PATIENCE, lambda: f"engines go on with memory that is gone\n{server.output()}")
        server.wait_for_all_engines(PATIENCE)
        self.assertEqual(server.copies(0), server.copies(1))
        self.assertEqual(self.answers(server), expected)
        server.stop()

    def test_what_cannot_be_shared_is_private_and_that_is_said(self):
        server = self.server(DESCRIPTORS=0, FAULT="export=801")
        weights, = server.status()["weights"]
        self.assertEqual(weights["state"], "private")
        self.assertIn("cannot be shared", weights["detail"])
        self.assertNotIn("shared weights)", server.output())
        said = re.findall(r"engine (\d): loads weights of its own", server.output())
        self.assertEqual(sorted(said), ["0", "1"])
        self.assertEqual(server.copies(0), set())
        self.answers(server)
        server.stop()

    def fault_of_all(self, weights):
        """The processes that hold the weights before and after a fault of the GPU."""
        fake = FakeMPS("new")
        self.addCleanup(fake.discard)
        faults = fake.base / "plan"
        server = self.server(
            "--mps", "on", "--fault-port", "--mps-time-scale", "0.1", weights=weights, fake=fake,
            MPS_GROUP=fake.base / "group", FAULT_FILE=faults)
        copy, owner, engines = server.copies(0), server.owner(), server.engine_pids()
        self.assertEqual((len(copy), server.copies(1)), (1, copy))
        expected = self.answers(server)
        hidden = fake.base / "hidden"
        hidden.write_text("launch=700")
        hidden.rename(faults)
        # The request meets the fault and is answered afterwards.
        self.assertEqual(self.answers(server), expected)
        wait_until(
            lambda: len(server.engine_pids()) == 2 and not set(server.engine_pids().values()) & set(engines.values()),
            PATIENCE, lambda: f"the engines do not go\n{server.output()}")
        server.wait_for_all_engines(PATIENCE)
        self.assertEqual((server.copies(0), server.copies(1)), (copy, copy))
        self.assertEqual(self.answers(server), expected)
        self.assertEqual(server.status()["weights"][0]["restarts"], 0)
        self.assertNotIn("loads weights of its own", server.output())
        after = server.owner()
        server.stop_with(fake)
        return owner.pid, after.pid

    def test_a_fault_of_the_gpu_leaves_the_weights(self):
        before, after = self.fault_of_all("shared")
        self.assertEqual(before, after)

    def test_an_owner_that_is_a_client_of_mps_goes_with_the_others(self):
        before, after = self.fault_of_all("shared-by-mps")
        self.assertNotEqual(before, after)

    def test_private_weights_have_no_owner(self):
        server = self.server(weights="private")
        self.assertIsNone(server.owner())
        self.assertEqual(server.copies(0), set())
        self.assertNotIn("shared weights", server.output())
        weights, = server.status()["weights"]
        self.assertEqual(
            (weights["model"], weights["state"], weights["detail"], weights["pid"]),
            ("tiny", "private", "a copy for each engine", None))
        self.assertIn("weights of tiny: private, a copy for each engine", re.sub(r"\s+", " ", server.run("status")))
        self.answers(server)
        server.stop()


SMI = """#!/bin/sh
for i in 0 1 2; do echo "$i, GPU-0000000$i-0000-0000-0000-000000000000, NVIDIA H100, Default, 81559 MiB, Disabled, 00000000:0$i:00.0"; done
"""


@needs_double
class VisibleDevicesTests(unittest.TestCase):
    """An index counts in what `CUDA_VISIBLE_DEVICES` lists, for daemon and engines alike."""

    def start(self, visible, number):
        fake = FakeMPS("new", device=f"GPU-0000000{number}")
        self.addCleanup(fake.discard)
        (fake.programs / "nvidia-smi").write_text(SMI)
        (fake.programs / "nvidia-smi").chmod(0o755)
        fake.environment["CUDA_VISIBLE_DEVICES"] = visible
        server = SharingServer("--mps", "on", "--mps-time-scale", "0.1", "--fault-port", fake=fake, DEVICES=3)
        self.addCleanup(server.discard)
        server.launch()
        wait_until(
            lambda: server.engine(0) and fake.daemon(), PATIENCE, lambda: f"no engine starts\n{server.output()}")
        return server, fake

    def visible(self, pid):
        pairs = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        return next(pair.partition("=")[2] for pair in pairs if pair.startswith("CUDA_VISIBLE_DEVICES="))

    def test_engines_and_daemon_get_the_gpu_that_was_meant(self):
        for visible, number in (("2", 2), ("1,0", 1), ("GPU-00000001-0000-0000-0000-000000000000", 1)):
            with self.subTest(visible):
                server, fake = self.start(visible, number)
                expected = f"GPU-0000000{number}-0000-0000-0000-000000000000"
                self.assertEqual(self.visible(server.engine(0).pid), expected)
                self.assertEqual(self.visible(fake.daemon()[0]), expected)
                self.assertNotIn("is not the device of the engines", server.output())
                server.discard()
                fake.discard()


class RefusalTests(unittest.TestCase):
    def test_weights_are_shared_on_a_gpu_only(self):
        for device in ("cpu", "simulated:h100"):
            done = subprocess.run(
                [serving.BINARY, "serve", "--device", device, "--gpu-weights", "shared"], capture_output=True,
                text=True, timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("--device cuda:", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
