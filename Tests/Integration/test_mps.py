"""Engines share a device by MPS: what happens to the daemon, its server and their device, and what clients see of it.

No GPU: the programs of MPS are stand-ins (Tests/Fixtures/mps/fake_mps.py), and engines on CPUs become clients that fail as
CUDA programs do (`--fault-port`).
"""
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import unittest

import serving
from disturbance import longest_pause
from mps_stand_in import FAULT, FakeMPS, real_control
from serving import Server, wait_until

COMPLETIONS = "/v1/completions"
REQUESTS = [
    dict(prompt="Once upon a time, in a small village by the sea,", temperature=0),
    dict(prompt="Dear diary, today", temperature=1, seed=5),
    dict(prompt="List of rivers:", temperature=1, seed=7, n=2),
    dict(prompt="Words:", temperature=1, seed=8, guided_regex="([a-z]{1,9} ){300}"),
    dict(prompt="The three laws of motion are", temperature=0, logprobs=2),
]
REQUESTS = [dict(fields, max_tokens=300, ignore_eos=True) for fields in REQUESTS]
def serve(fake, *options, mps="on", **more):
    return Server(
        "--mps", mps, "--fault-port", "--mps-time-scale", "0.1", *options, runtime=fake.run,
        environment=fake.environment, **more)


class FaultTests(unittest.TestCase):
    """One server; its device is hurt in every way, and every stream goes on."""

    @classmethod
    def setUpClass(cls):
        cls.fake = FakeMPS("new")
        cls.server = serve(cls.fake, "--heartbeat-timeout", "2s")
        try:
            cls.server.start()
            cls.server.wait_for_all_engines()
            cls.undisturbed = [cls.server.ask(COMPLETIONS, **fields) for fields in REQUESTS]
        except BaseException:
            cls.server.discard()
            cls.fake.discard()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.process.send_signal(signal.SIGINT)
            wait_until(lambda: cls.server.process.poll() is not None, 30, cls.server.output)
            assert cls.server.process.returncode == 0, cls.server.output()
            cls.server.check_nothing_is_left(directory=False)
            assert not cls.fake.daemon() and not cls.fake.servers()
            assert not list(cls.fake.pipe.iterdir()), "sockets of the daemon are left"
        finally:
            cls.server.discard()
            cls.fake.discard()

    def setUp(self):
        self.server.wait_for_all_engines()

    def hurt(self, what, expected, restarted=(0, 1)):
        """Streams run, something happens to the device, and all end as if nothing had."""
        before = self.server.engine_pids()
        seen = len(self.server.output())
        pause = longest_pause(self, self.server, REQUESTS, self.undisturbed, what, tokens=20)
        wait_until(
            lambda: all(self.server.engine_pids().get(str(i)) not in (None, before[str(i)]) for i in restarted), 60,
            lambda: f"engines {restarted} did not start again\n{self.server.output()}")
        self.server.wait_for_all_engines()
        self.assertEqual(self.fake.clients(), set(self.server.engine_pids().values()))
        self.assertRegex(self.server.output()[seen:], expected)
        print(f"{self.id().rpartition('.')[2]}: longest pause of a stream {pause:.2f} s", file=sys.stderr)
        return before

    def test_engines_prove_that_they_are_clients_before_they_serve(self):
        self.assertEqual(self.fake.clients(), set(self.server.engine_pids().values()))
        tokens = set()
        for pid in self.server.engine_pids().values():
            variables = dict(
                entry.split("=", 1)
                for entry in pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0") if "=" in entry)
            self.assertEqual(variables["CUDA_MPS_PIPE_DIRECTORY"], str(self.fake.pipe))
            tokens.add(variables["TANDEM_MPS_TOKEN"])
        self.assertEqual(len(tokens), 2)
        self.assertEqual(len(self.fake.daemon()), 1)
        self.assertEqual(self.fake.parent.stat().st_mode & 0o777, 0o700)

    def test_a_fatal_fault(self):
        self.hurt(self.fake.fault, "CUDA error 700 on its device")

    def test_a_fatal_fault_twice_in_a_row(self):
        def twice():
            before = self.server.engine_pids()
            self.fake.fault(719)
            wait_until(lambda: not (self.fake.parent / FAULT).exists(), 30, "the fault stays")
            wait_until(
                lambda: self.fake.clients() - set(before.values()), 30, "no engine comes back")
            self.fake.fault(719)

        self.hurt(twice, "CUDA error 719 on its device")

    def test_the_server_is_killed(self):
        (daemon,) = self.fake.daemon()
        self.hurt(
            lambda: os.kill(self.fake.servers()[0], signal.SIGKILL),
            # The engines may notice it first.
            "MPS server ended|CUDA error 805")
        self.assertEqual(self.fake.daemon(), [daemon])

    def test_the_daemon_is_killed(self):
        (daemon,) = self.fake.daemon()
        self.hurt(lambda: os.kill(daemon, signal.SIGKILL), "the MPS control daemon ended")
        self.assertNotEqual(self.fake.daemon(), [daemon])
        self.assertEqual(len(self.fake.servers()), 1)

    def test_the_daemon_hangs(self):
        (daemon,) = self.fake.daemon()

        def hang():
            os.kill(daemon, signal.SIGSTOP)
            # Streams need no daemon; it is missed later.
            wait_until(lambda: daemon not in self.fake.daemon(), 60, self.server.output)

        self.hurt(hang, "queries in a row unanswered")

    def test_the_pipe_directory_is_lost(self):
        (daemon,) = self.fake.daemon()

        def lose():
            shutil.rmtree(self.fake.pipe)
            wait_until(lambda: daemon not in self.fake.daemon(), 60, self.server.output)

        self.hurt(lose, "queries in a row unanswered")

    def test_one_engine_is_killed(self):
        before = self.hurt(lambda: self.server.kill(self.server.engine(1)), "engine 1 was killed", restarted=(1,))
        self.assertEqual(self.server.engine_pids()["0"], before["0"])

    def test_one_engine_hangs_and_its_work_is_dropped_before_it_is_killed(self):
        before = self.hurt(
            lambda: self.server.kill(self.server.engine(1), signal.SIGSTOP), "engine 1 is stuck", restarted=(1,))
        self.assertEqual(self.server.engine_pids()["0"], before["0"])

    def test_requests_that_come_in_the_middle_are_held(self):
        self.fake.fault()
        wait_until(lambda: not (self.fake.parent / FAULT).exists(), 30, "the fault stays")
        whole = self.server.ask(COMPLETIONS, **REQUESTS[0])
        self.assertEqual(whole["choices"][0]["text"], self.undisturbed[0]["choices"][0]["text"])


class StartTests(unittest.TestCase):
    def give_up(self, fake, *options, mps="on", **more):
        """Starts a server that has to give up; what it said."""
        server = serve(fake, *options, mps=mps, **more)
        self.addCleanup(fake.discard)
        self.addCleanup(server.discard)
        server.launch()
        wait_until(lambda: server.process.poll() is not None, 90, lambda: f"it does not give up\n{server.output()}")
        self.assertNotEqual(server.process.returncode, 0)
        server.check_nothing_is_left(directory=False)
        self.assertEqual(fake.daemon() + fake.servers(), [])
        return server.output()

    def test_a_server_that_does_not_start(self):
        self.assertIn("tandem doctor", self.give_up(FakeMPS("fail-server")))

    def test_a_server_that_never_becomes_ready(self):
        output = self.give_up(FakeMPS("never-ready"))
        self.assertIn("has not become ready", output)
        self.assertIn("cannot start: engines had to go", output)

    def test_a_daemon_that_wedges_at_the_first_client(self):
        self.assertIn("queries in a row unanswered", self.give_up(FakeMPS("mute-server", "new")))

    def test_nvidias_own_daemon_with_a_server_that_answers_nobody(self):
        """The stand-in of the server cannot take a client over from the real daemon, which then blocks for good."""
        program = real_control()
        if program is None:
            self.skipTest("no nvidia-cuda-mps-control here: Scripts/fetch-mps gets it")
        fake = FakeMPS()
        (fake.programs / "nvidia-cuda-mps-control").unlink()
        (fake.programs / "nvidia-cuda-mps-control").symlink_to(program)
        output = self.give_up(fake, engines=1)
        self.assertIn("queries in a row unanswered", output)
        self.assertIn("SIGKILL to the MPS server", output)
        self.assertIn("cannot start: engines had to go 3 times", output)

    def test_clients_in_another_namespace_prove_nothing(self):
        self.assertIn("another PID namespace", self.give_up(FakeMPS("pid-zero")))

    def test_too_many_clients(self):
        output = self.give_up(FakeMPS("no-room"), engines=1)
        self.assertIn("CUDA error 808", output)
        self.assertIn("--engines", output)

    def test_programs_are_missing(self):
        fake = FakeMPS()
        for program in fake.programs.iterdir():
            program.unlink()
        self.assertIn("--mps off", self.give_up(fake))

    def test_a_directory_that_is_in_use(self):
        fake = FakeMPS()
        first = serve(fake, engines=1)
        self.addCleanup(first.discard)
        first.start()
        second = serve(fake, engines=1)
        self.addCleanup(fake.discard)
        self.addCleanup(second.discard)
        second.launch()
        wait_until(lambda: second.process.poll() is not None, 30, second.output)
        self.assertIn("another tandem manages the MPS daemon", second.output())
        self.assertEqual(first.health(), 200)

    def test_without_the_fault_port_it_is_refused(self):
        fake = FakeMPS()
        self.addCleanup(fake.discard)
        server = Server("--mps", "on", runtime=fake.run, environment=fake.environment)
        self.addCleanup(server.discard)
        server.launch()
        wait_until(lambda: server.process.poll() is not None, 30, server.output)
        self.assertIn("needs engines on one NVIDIA GPU", server.output())


class VersionTests(unittest.TestCase):
    def test_a_daemon_of_version_3(self):
        fake = FakeMPS("version3")
        self.addCleanup(fake.discard)
        fake.environment["CUDA_MPS_PROTOCOL_VERSION"] = "3"
        server = serve(fake)
        self.addCleanup(server.discard)
        server.start()
        server.wait_for_all_engines()
        before = server.engine_pids()
        whole = server.ask(COMPLETIONS, **REQUESTS[0])
        stream = server.stream(COMPLETIONS, **REQUESTS[0]).read(20)
        fake.fault()
        self.assertEqual(stream.finish().text(), whole["choices"][0]["text"])
        wait_until(lambda: not set(before.values()) & set(server.engine_pids().values()), 30, server.output)
        server.wait_for_all_engines()


class ExternalEngineTests(unittest.TestCase):
    """Servers of others, which know nothing of all this."""

    def setUp(self):
        self.fake = FakeMPS("new", device="GPU-test")
        self.addCleanup(self.fake.discard)
        self.control = self.fake.base / "control"
        self.control.mkdir()

    def make(self, *options, attach=True, engines=2):
        program = pathlib.Path(__file__).with_name("external_engine.py")
        words = [sys.executable, str(program), "--port", "{port}", "--index", "{index}", "--control", str(self.control)]
        if attach:
            words += ["--mps", str(serving.ROOT / "Tests/Fixtures/mps")]
        options = (
            "--engine-command", shlex.join(words), "--served-model-name", "fake", "--device", "cuda:GPU-test",
            "--mps-time-scale", "0.1", *options)
        server = Server(*options, engines=engines, runtime=self.fake.run, environment=self.fake.environment)
        server.command = lambda: [
            serving.BINARY, "serve", "--port", str(server.port), "--engines", str(engines), *options]
        self.addCleanup(server.discard)
        return server

    def starts(self):
        return [json.loads(line) for line in (self.control / "starts").read_text().splitlines()]

    def test_they_are_attached_and_come_back_after_a_fault(self):
        for index in (0, 1):
            (self.control / f"{index}.json").write_text('{"pause": 0.02}')
        server = self.make("--mps", "on").start()
        server.wait_for_all_engines()
        self.assertEqual(self.fake.clients(), {start["pid"] for start in self.starts()})
        self.assertEqual({start["CUDA_VISIBLE_DEVICES"] for start in self.starts()}, {"GPU-test"})
        stream = server.stream(COMPLETIONS, model="fake", prompt="w7", max_tokens=100).read(20)
        self.fake.fault()
        self.assertEqual(stream.finish().text().split(), [f"w{number}" for number in range(8, 108)])
        wait_until(lambda: len(self.starts()) >= 4, 60, server.output)
        server.wait_for_all_engines()
        self.assertEqual(len(self.fake.clients()), 2)

    def test_they_have_limits_as_well(self):
        server = self.make("--mps", "on", "--mps-thread-percentage", "70,30").start()
        server.wait_for_all_engines()
        self.assertEqual(
            {start["index"]: environment(start["pid"])["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] for start in self.starts()},
            {0: "70.0", 1: "30.0"})

    def test_one_that_is_not_attached_gets_no_request(self):
        server = self.make("--mps", "on", attach=False, engines=1)
        server.launch()
        wait_until(lambda: server.process.poll() is not None, 90, server.output)
        self.assertIn("does not share the GPU: it is no client of the MPS daemon", server.output())

    def test_by_time_slices_where_there_is_no_mps(self):
        for program in self.fake.programs.iterdir():
            program.unlink()
        server = self.make(attach=False).start()
        self.assertIn("engines share the GPU by time slices", server.output())

    def test_one_engine_alone_needs_no_daemon(self):
        self.make(attach=False, engines=1).start()
        self.assertEqual(self.fake.daemon(), [])


def environment(pid):
    entries = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


class LimitTests(unittest.TestCase):
    """What engines may have of the device."""

    def make(self, *options, **more):
        fake = FakeMPS("new")
        self.addCleanup(fake.discard)
        server = serve(fake, *options, **more)
        self.addCleanup(server.discard)
        return fake, server

    def limits(self, server):
        found = {}
        for index, pid in server.engine_pids().items():
            variables = environment(pid)
            found[int(index)] = (
                variables.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), variables.get("CUDA_MPS_CLIENT_PRIORITY"))
        return found

    def status(self, server, *words):
        done = subprocess.run(
            [serving.BINARY, "status", *words], capture_output=True, text=True, timeout=60 * serving.PATIENCE,
            env={**os.environ, "XDG_RUNTIME_DIR": str(server.runtime), "NO_COLOR": "1"})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_each_engine_has_its_own_also_when_it_comes_back(self):
        fake, server = self.make("--mps-thread-percentage", "60,33.3", "--mps-client-priority", "normal,low")
        server.start()
        server.wait_for_all_engines()
        wanted = {0: ("60.0", "0"), 1: ("33.3", "1")}
        self.assertEqual(self.limits(server), wanted)
        self.assertIn("silently wrong", server.output())
        self.assertIn(
            "mps limits: engine 0 60.0 % of the multiprocessors, normal priority; engine 1 33.3 % of the "
            "multiprocessors, low priority", " ".join(self.status(server).split()))
        self.assertIn("engine 1 33.3 %", json.loads(self.status(server, "--json"))["mps"]["limits"])
        before = server.engine_pids()
        os.kill(before["1"], signal.SIGKILL)
        wait_until(lambda: server.engine_pids().get("1") not in (None, before["1"]), 60, server.output)
        server.wait_for_all_engines()
        self.assertEqual(self.limits(server), wanted)

    def test_with_a_daemon_of_somebody_else_it_is_said_what_holds(self):
        fake = FakeMPS("new")
        self.addCleanup(fake.discard)
        fake.start_daemon(fake.base / "other")
        server = serve(
            fake, "--mps-directory", str(fake.base / "other/pipe"), "--mps-thread-percentage", "50", mps="external")
        self.addCleanup(server.discard)
        server.start()
        server.wait_for_all_engines()
        self.assertEqual(self.limits(server), {0: ("50.0", None), 1: ("50.0", None)})
        self.assertIn("whichever is the smaller", server.output())

    def test_where_there_is_no_mps_they_are_refused(self):
        for options, words in (
            (("--device", "auto", "--mps-thread-percentage", "50"), "there is no GPU that the engines share"),
            (("--device", "cuda:0", "--engines", "1", "--mps-thread-percentage", "50"), "--mps on makes it a client"),
            (("--device", "cuda:0", "--mps-thread-percentage", "50"), "which is not there"),
            (("--device", "cuda:0", "--mps-thread-percentage", "50,20,30"), "3 values and 2 engine processes"),
        ):
            done = subprocess.run(
                [serving.BINARY, "serve", "--port", "0", *options], capture_output=True, text=True,
                env={**os.environ, "PATH": "/nowhere", "TANDEM_CUDA_DRIVER": "/nowhere/libcuda.so.1"},
                timeout=120 * serving.PATIENCE)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(words, done.stderr)


class OwnershipTests(unittest.TestCase):
    def test_what_a_killed_supervisor_left_is_ended_by_the_next_one(self):
        fake = FakeMPS("new")
        self.addCleanup(fake.discard)
        first = serve(fake, engines=1)
        self.addCleanup(first.discard)
        first.start()
        servers = fake.servers()
        self.assertEqual(len(servers), 1)
        first.kill(next(process for process in first.processes() if process.role == "serve"))
        first.process.wait(30)
        wait_until(lambda: not first.processes() or fake.servers() == servers, 30, "its children live on")
        second = serve(fake, engines=1)
        self.addCleanup(second.discard)
        second.start()
        self.assertNotIn(servers[0], fake.servers())
        self.assertEqual(len(fake.daemon()), 1)
        self.assertEqual(fake.clients(), set(second.engine_pids().values()))

    def test_an_external_daemon_is_used_and_survives(self):
        fake = FakeMPS("new")
        self.addCleanup(fake.discard)
        daemon = fake.start_daemon(fake.base / "other")
        pipe = fake.base / "other/pipe"
        server = serve(fake, "--mps-directory", str(pipe), mps="external")
        self.addCleanup(server.discard)
        server.start()
        server.wait_for_all_engines()
        self.assertEqual(fake.clients(pipe), set(server.engine_pids().values()))
        self.assertEqual(fake.daemon(), [])
        # A fault takes the engines along, not the daemon.
        before = server.engine_pids()
        (fake.base / "other" / FAULT).write_text("700")
        wait_until(lambda: not set(before.values()) & set(server.engine_pids().values()), 30, server.output)
        server.wait_for_all_engines()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.process.poll() is not None, 30, server.output)
        self.assertEqual(server.process.returncode, 0)
        self.assertIsNone(daemon.poll())
        self.assertEqual(fake.clients(pipe), set())

    def test_an_external_daemon_that_is_not_there_is_asked_for(self):
        fake = FakeMPS("new")
        self.addCleanup(fake.discard)
        directory = fake.base / "other"
        directory.mkdir(mode=0o700)
        server = serve(fake, "--mps-directory", str(directory / "pipe"), mps="external", engines=1)
        self.addCleanup(server.discard)
        server.launch()
        wait_until(lambda: "is not ours and does not work: start it" in server.output(), 60, server.output)
        fake.start_daemon(directory)
        wait_until(server.is_ready, 60, server.output)


if __name__ == "__main__":
    unittest.main()
