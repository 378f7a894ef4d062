"""What a GPU does, shown: by the double of NVML, which shows what its variables say."""
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import unittest

import serving
from serving import Metrics, Server, wait_until
from test_cuda import DOUBLE, needs_double

NAME = "A GPU that is none"


class Watched(unittest.TestCase):
    """A server whose engines are programs that stand in for external ones, so that it starts at once anywhere."""

    def make(self, *options, gpu="cuda:0", engines=1, **variables):
        control = pathlib.Path(self.enterContext(serving.tempfile.TemporaryDirectory(prefix="tdmon", dir="/tmp")))
        self.control = control
        environment = {
            "TANDEM_NVML": DOUBLE, "TANDEM_DOUBLE_NAME": NAME, "TANDEM_DOUBLE_BUSY": "1",
            "TANDEM_DOUBLE_MEMORY_MIB": "2048", "TANDEM_DOUBLE_MEMORY_USED_MIB": "512",
            "TANDEM_DOUBLE_POWER_WATTS": "421", "TANDEM_DOUBLE_CELSIUS": "66",
            "TANDEM_DOUBLE_XID_FILE": str(control / "xid"), "TANDEM_DOUBLE_HANG_FILE": str(control / "hang"),
            **variables}
        program = pathlib.Path(__file__).with_name("external_engine.py")
        words = [sys.executable, str(program), "--port", "{port}", "--index", "{index}", "--control", str(control)]
        options = (
            "--engine-command", shlex.join(words), "--served-model-name", "fake", "--device", gpu, "--mps", "off",
            *options)
        server = Server(*options, engines=engines, environment=environment)
        server.command = lambda: [
            serving.BINARY, "serve", "--port", str(server.port), "--engines", str(engines), *options]
        self.addCleanup(server.discard)
        return server

    def gpus(self, server):
        return server.get("/engines").json.get("gpus")

    def wait_for_readings(self, server, *names):
        wait_until(
            lambda: any(all(name in gpu for name in names) for gpu in self.gpus(server) or []), 60,
            lambda: f"no readings: {self.gpus(server)}\n{server.output()}")

    def tandem(self, server, *words):
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(server.runtime), "NO_COLOR": "1"}
        return subprocess.run(
            [serving.BINARY, *words], capture_output=True, text=True, env=environment, timeout=120 * serving.PATIENCE)

    def monitors(self, server):
        return [process for process in server.processes() if process.role == "monitor"]


@needs_double
class MonitorTests(Watched):
    def test_everywhere_the_same(self):
        server = self.make().start()
        self.wait_for_readings(server, "sm_active", "power_watts")
        (gpu,) = self.gpus(server)
        self.assertEqual((gpu["gpu"], gpu["name"], gpu["simulated"]), ("0", NAME, False))
        self.assertEqual((gpu["sm_active"], gpu["power_watts"], gpu["temperature_celsius"]), (0.75, 421, 66))
        self.assertEqual(gpu["memory_used_bytes"], 512 << 20)
        self.assertEqual(gpu["clock_limits"], ["power limit"])
        self.assertIsNone(gpu["last_fault"])

        metrics = Metrics(server.get("/metrics").text)
        labels = dict(gpu="0", UUID=gpu["uuid"], device="nvidia0", modelName=NAME)
        for name, value in {
            "DEV_GPU_UTIL": 100, "PROF_SM_ACTIVE": 0.75, "PROF_SM_OCCUPANCY": 0.5, "PROF_PIPE_TENSOR_ACTIVE": 0.25,
            "PROF_DRAM_ACTIVE": 0.6, "DEV_POWER_USAGE": 421, "DEV_GPU_TEMP": 66, "DEV_FB_USED": 512,
            "DEV_FB_FREE": 1536, "DEV_SM_CLOCK": 1980, "DEV_XID_ERRORS": 0, "DEV_CLOCK_THROTTLE_REASONS": 4,
        }.items():
            self.assertEqual(metrics.total(f"DCGM_FI_{name}", **labels), value, name)

        status = self.tandem(server, "status")
        self.assertEqual(status.returncode, 0, status.stderr)
        text = " ".join(status.stdout.split())
        self.assertIn(f"gpu 0 ({NAME}): SM active 75 %, occupancy 50 %, tensor 25 %, DRAM 60 %, 421 W of 700", text)
        self.assertIn("memory 512 of 2048 MiB", text)
        (shown,) = json.loads(self.tandem(server, "status", "--json").stdout)["gpus"]
        self.assertEqual((shown["sm_active"], shown["uuid"]), (0.75, gpu["uuid"]))

        top = self.tandem(server, "top", f"http://127.0.0.1:{server.port}", "-1")
        self.assertIn("gpu 0    SM 75%  occupancy 50%  tensor 25%  DRAM 60%  power 421 W  memory 0.5 of 2.0 GiB", top.stdout)
        page = server.get("/ui").text
        self.assertIn('id="gpus"', page)
        self.assertEqual(len(self.monitors(server)), 1)

    def test_an_error_of_the_gpu_is_said(self):
        server = self.make().start()
        self.wait_for_readings(server, "sm_active")
        (self.control / "xid").write_text("79")
        wait_until(
            lambda: f"warning: GPU 0 ({NAME}) had an error, XID 79: the GPU fell off the bus" in server.output(), 60,
            server.output)
        wait_until(lambda: self.gpus(server)[0]["last_fault"], 60, "it is not shown")
        self.assertEqual(self.gpus(server)[0]["last_fault"]["xid"], 79)
        self.assertEqual(Metrics(server.get("/metrics").text).total("DCGM_FI_DEV_XID_ERRORS"), 79)
        self.assertIn("XID 79", self.tandem(server, "status").stdout)
        self.assertEqual(server.output().count("XID 79"), 1)

    def test_one_that_hangs_costs_numbers_only(self):
        server = self.make().start()
        self.wait_for_readings(server, "sm_active")
        (self.control / "hang").touch()
        wait_until(lambda: "NVML does not answer" in server.output(), 90, server.output)
        wait_until(lambda: self.gpus(server)[0]["note"], 60, "it is not shown")
        self.assertNotIn("sm_active", self.gpus(server)[0])
        self.assertNotIn("DCGM_FI_", server.get("/metrics").text)
        self.assertEqual(server.health(), 200)
        answer = server.ask("/v1/completions", model="fake", prompt="w7", max_tokens=3)
        self.assertEqual(answer["choices"][0]["text"].split(), ["w8", "w9", "w10"])
        self.assertIn("gpu 0", self.tandem(server, "status").stdout)
        (self.control / "hang").unlink()
        self.wait_for_readings(server, "sm_active")
        self.assertEqual(server.output().count("NVML does not answer"), 1)

    def test_one_that_dies_is_started_again_and_one_that_is_left_is_none(self):
        server = self.make().start()
        self.wait_for_readings(server, "sm_active")
        (first,) = self.monitors(server)
        server.kill(first)
        wait_until(
            lambda: [process.pid for process in self.monitors(server)] not in ([], [first.pid]), 60, server.output)
        self.wait_for_readings(server, "sm_active")
        self.assertEqual(server.health(), 200)
        # With the gateway it ends; the next one has its own.
        gateway = next(process for process in server.processes() if process.role == "gateway")
        second = self.monitors(server)[0].pid
        server.kill(gateway)
        wait_until(lambda: server.health() == 200, 60, server.output)
        self.wait_for_readings(server, "sm_active")
        wait_until(lambda: [process.pid for process in self.monitors(server)] != [second], 60, server.output)
        wait_until(lambda: len(self.monitors(server)) == 1, 60, server.output)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.process.poll() is not None, 60, server.output)
        self.assertEqual(server.process.returncode, 0)
        wait_until(lambda: not server.processes(), 30, lambda: str(server.processes()))

    def test_without_the_library_or_gpm_it_is_a_note(self):
        server = self.make(TANDEM_NVML="/nowhere/libnvidia-ml.so.1").start()
        wait_until(lambda: "GPU 0: it is not watched: " in server.output(), 60, server.output)
        self.assertIn("/nowhere/libnvidia-ml.so.1", server.output())
        self.assertEqual(server.health(), 200)
        wait_until(lambda: not self.monitors(server), 60, "its process stays")
        self.assertIn("gpu 0: not watched", self.tandem(server, "status").stdout)
        self.assertNotIn("DCGM_FI_", server.get("/metrics").text)

        server = self.make(TANDEM_DOUBLE_GPM="0").start()
        self.wait_for_readings(server, "busy")
        (gpu,) = self.gpus(server)
        self.assertNotIn("sm_active", gpu)
        self.assertIn("no GPM", gpu["note"])
        self.assertEqual(server.output().count("no GPM"), 1)

    def test_a_gpu_by_its_uuid_and_one_that_is_not_there(self):
        server = self.make(gpu="cuda:GPU-00000000-0000-0000-0000-000000000000").start()
        wait_until(lambda: "it is not watched: nvmlDeviceGetHandleByUUID" in server.output(), 60, server.output)
        self.assertEqual(server.health(), 200)

    def test_the_doctor_knows_both(self):
        def finding(**variables):
            done = subprocess.run(
                [serving.BINARY, "doctor", "--json"], capture_output=True, text=True, env={**os.environ, **variables},
                timeout=120 * serving.PATIENCE)
            found = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "gpu-monitor"]
            return (found[0]["level"], found[0]["text"]) if found else None

        level, text = finding(TANDEM_NVML=DOUBLE)
        self.assertEqual(level, "ok")
        self.assertIn("GPM tells", text)
        level, text = finding(TANDEM_NVML=DOUBLE, TANDEM_DOUBLE_GPM="0")
        self.assertEqual(level, "note")
        level, text = finding(TANDEM_NVML="/nowhere/libnvidia-ml.so.1")
        self.assertEqual(level, "note")
        self.assertIn("/nowhere/libnvidia-ml.so.1", text)


class OtherDeviceTests(unittest.TestCase):
    def test_on_cpus_there_is_no_gpu(self):
        server = Server("--device", "cpu", engines=1).start()
        self.addCleanup(server.stop)
        self.assertNotIn("gpus", server.get("/engines").json)
        self.assertFalse([process for process in server.processes() if process.role == "monitor"])

    def test_a_simulated_one_has_names_of_its_own(self):
        server = Server("--device", "simulated:h100", engines=1).start()
        self.addCleanup(server.stop)
        wait_until(
            lambda: any(gpu.get("clients") == 1 for gpu in server.get("/engines").json["gpus"]), 60, server.output)
        (gpu,) = server.get("/engines").json["gpus"]
        self.assertEqual((gpu["gpu"], gpu["simulated"], gpu["clients"]), ("simulated:h100", True, 1))
        text = server.get("/metrics").text
        metrics = Metrics(text)
        self.assertEqual(metrics.total("tandem_simulated_gpu_clients", device="simulated:h100"), 1)
        self.assertGreater(metrics.total("tandem_simulated_gpu_memory_used_bytes"), 0)
        self.assertNotIn("DCGM_FI_", text)


if __name__ == "__main__":
    unittest.main()
