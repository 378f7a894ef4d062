"""`tandem status` and `tandem admin`: what an administrator asks for happens, and no request notices.

Streams that run while engines are drained and restarted end as if nothing had happened.
"""
import contextlib
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
import unittest

import serving
import test_mps
from serving import Server, ServerTestCase, wait_until

COMPLETIONS = "/v1/completions"
FIELDS = dict(prompt="Once upon a time,", max_tokens=300, temperature=0, ignore_eos=True)
VERSION, ADMIN_COMMAND, ADMIN_REPLY, ERROR = 8, 14, 15, 9


def tandem(runtime, *arguments, environment=None, seconds=120):
    """Runs a command as a user would whose servers run there."""
    merged = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), **(environment or {})}
    # Servers of others in /tmp are none of this test's: it names its own, or has none.
    return subprocess.run(
        [serving.BINARY, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=merged,
        timeout=seconds * serving.PATIENCE)


def run_directory(server):
    (directory,) = server.runtime.glob(f"tandem-{os.getuid()}-*")
    return str(directory)


class Admin:
    """Commands to one server."""

    def __init__(self, server):
        self.server = server
        self.directory = run_directory(server)

    def run(self, *arguments, seconds=120):
        return tandem(self.server.runtime, *arguments, "--run", self.directory, seconds=seconds)

    def ok(self, *arguments, seconds=120):
        result = self.run(*arguments, seconds=seconds)
        assert result.returncode == 0, f"{arguments}: {result.returncode} {result.stderr}\n{self.server.output()}"
        return result.stdout

    def refused(self, *arguments):
        result = self.run(*arguments)
        assert result.returncode == 1, f"{arguments}: {result.returncode} {result.stdout} {result.stderr}"
        assert not result.stdout, result.stdout
        return result.stderr

    def status(self):
        return json.loads(self.ok("status", "--json"))

    def states(self):
        return [engine["state"] for engine in self.status()["engines"]]

    def restarts(self):
        return [engine["restarts"] for engine in self.status()["engines"]]

    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        # With a time limit it would fail at once where others wait to be accepted.
        sock.connect(self.directory + "/admin.sock")
        sock.settimeout(20 * serving.PATIENCE)
        return sock


def frame(kind, payload=b""):
    return struct.pack("<IB", len(payload) + 1, kind) + payload


def command(code, engine=0, forced=0, version=VERSION):
    return frame(ADMIN_COMMAND, struct.pack("<HBIB", version, code, engine, forced))


def read_frame(sock):
    """Kind and payload of the next frame; None at the end."""
    def read(count):
        data = b""
        while len(data) < count:
            piece = sock.recv(count - len(data))
            if not piece:
                return None
            data += piece
        return data

    try:
        head = read(4)
        if head is None:
            return None
        body = read(struct.unpack("<I", head)[0])
    except ConnectionError:
        return None
    return None if body is None else (body[0], body[1:])


class Load:
    """Streams that run one after the other in several threads, each to its end and each with the same text."""

    def __init__(self, server, expected, threads=4):
        self.server, self.expected = server, expected
        self.finished, self.wrong = 0, []
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while not self.ending.is_set():
            try:
                stream = self.server.stream(COMPLETIONS, **FIELDS).finish()
                problem = None if stream.text() == self.expected else f"another text: {stream.text()!r}"
            except Exception as error:
                problem = repr(error)
            with self.lock:
                self.finished += 1
                if problem:
                    self.wrong.append(problem)

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(120 * serving.PATIENCE)
        assert not any(thread.is_alive() for thread in self.threads), "a stream does not end"


class AdminTests(ServerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            cls.admin = Admin(cls.server)
            cls.expected = cls.server.ask(COMPLETIONS, **FIELDS)["choices"][0]["text"]
        except BaseException:
            cls.server.discard()
            raise

    def tearDown(self):
        self.server.wait_idle()
        self.server.wait_for_all_engines()

    def streams(self, count=6, chunks=3):
        streams = [self.server.stream(COMPLETIONS, **FIELDS) for _ in range(count)]
        for stream in streams:
            self.addCleanup(stream.close)
        for stream in streams:
            stream.read(chunks)
        return streams

    def check(self, streams):
        for stream in streams:
            stream.finish()
            self.assertEqual(stream.text(), self.expected)

    def test_status_for_people(self):
        text = self.admin.ok("status")
        lines = text.splitlines()
        self.assertTrue(all(len(line) <= 80 for line in lines), text)
        self.assertNotIn("\x1b", text)
        self.assertIn(f"process {self.server.process.pid}", lines[0])
        self.assertIn(f"http://127.0.0.1:{self.server.port}", lines[0])
        self.assertIn(self.admin.directory, lines[1])
        for name in ("STATE", "RESTARTS", "MEMORY", "PEAK", "PLAN", "gateway", "engine 0", "engine 1", "CORES"):
            self.assertIn(name, text)

    def test_status_as_json(self):
        status = self.admin.status()
        self.assertEqual(
            list(status),
            ["version", "pid", "uptime_seconds", "host", "port", "tls", "run_directory", "state", "gateway",
             "engines", "rolling_restart", "mps", "simulated_device", "weights", "gpus"])
        self.assertIs(status["tls"], False)
        self.assertEqual((status["pid"], status["port"]), (self.server.process.pid, self.server.port))
        self.assertEqual((status["state"], status["mps"]), ("serving", None))
        self.assertEqual(status["run_directory"], self.admin.directory)
        self.assertEqual(status["gateway"]["pid"], self.server.gateway().pid)
        self.assertEqual([engine["index"] for engine in status["engines"]], [0, 1])
        for engine in status["engines"]:
            self.assertEqual(engine["pid"], self.server.engine(engine["index"]).pid)
            self.assertEqual((engine["state"], engine["next_attempt_seconds"]), ("ready", None))
            self.assertEqual(engine["model"], self.model["id"])
            self.assertTrue(engine["device"].startswith("cpu"), engine)
            self.assertTrue(engine["cores"])
            memory = engine["memory"]
            self.assertLessEqual(memory["bytes"], memory["high_water_bytes"])
            self.assertLess(memory["high_water_bytes"], memory["planned_bytes"])
            self.assertFalse(memory["above_plan"])

    def test_the_shared_weights_are_nobodys_own_memory(self):
        self.check(self.streams())
        for engine in self.admin.status()["engines"]:
            fields = dict(
                line.split(":", 1)
                for line in pathlib.Path(f"/proc/{engine['pid']}/status").read_text().splitlines())
            resident, shared = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssShmem"))
            self.assertGreater(shared, 20e6, "it computed without weights")
            self.assertLess(engine["memory"]["bytes"], resident - shared)

    def test_the_socket_is_the_users_alone(self):
        path = pathlib.Path(self.admin.directory)
        self.assertEqual(path.stat().st_mode & 0o777, 0o700)
        self.assertEqual((path / "admin.sock").stat().st_mode & 0o777, 0o600)
        if os.geteuid() != 0:
            self.skipTest("only root can become somebody else")
        # Another user who gets that far is told no.
        os.chmod(path, 0o711)
        os.chmod(path / "admin.sock", 0o666)
        base = [pathlib.Path(self.server.base), pathlib.Path(self.server.runtime)]
        modes = [entry.stat().st_mode & 0o777 for entry in base]
        try:
            for entry in base:
                os.chmod(entry, 0o711)
            code = (
                "import os, socket, sys\n"
                "os.setgid(65534); os.setuid(65534)\n"
                "sock = socket.socket(socket.AF_UNIX); sock.settimeout(20); sock.connect(sys.argv[1])\n"
                "sys.stdout.buffer.write(sock.recv(4096))\n")
            result = subprocess.run(
                ["python3", "-c", code, str(path / "admin.sock")], capture_output=True,
                timeout=60 * serving.PATIENCE)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(b"user 65534 may not administer this server", result.stdout)
        finally:
            os.chmod(path, 0o700)
            os.chmod(path / "admin.sock", 0o600)
            for entry, mode in zip(base, modes):
                os.chmod(entry, mode)

    def test_drain_and_resume_lose_nothing(self):
        pids = self.server.engine_pids()
        streams = self.streams()
        self.admin.ok("admin", "drain", "0", "--no-wait")
        wait_until(lambda: self.server.serving_engines() == 1, 20, "the gateway does not know of the drain")
        self.assertIn("is the only one that serves", self.admin.refused("admin", "drain", "1"))
        more = self.streams(count=2)
        self.check(streams + more)
        # Waits until the engine has nothing left.
        self.assertIn("engine 0 is drained", self.admin.ok("admin", "drain", "0"))
        self.assertEqual(self.admin.states(), ["drained", "ready"])
        self.assertEqual(self.on_engine(0), 0)
        streams = self.streams(count=4)
        self.assertEqual(self.on_engine(0), 0)
        self.check(streams)
        self.assertIn("resume 0", self.admin.ok("status"))
        self.admin.ok("admin", "resume", "0")
        self.server.wait_for_all_engines()
        self.assertEqual(self.server.engine_pids(), pids)
        streams = self.streams(count=4)
        self.assertGreater(self.on_engine(0), 0)
        self.check(streams)

    def on_engine(self, index):
        """What the gateway has in hand there."""
        return self.server.get("/engines").json["engines"][index]["outstanding_requests"]

    def test_a_drained_engine_stays_drained_when_the_gateway_dies(self):
        self.admin.ok("admin", "drain", "1")
        gateway = self.server.gateway()
        self.server.kill(gateway)
        wait_until(lambda: (self.server.gateway() or gateway).pid != gateway.pid, 20, "no other gateway")
        self.assertEqual(self.server.complete("Hello", max_tokens=2)["object"], "text_completion")
        self.assertEqual(self.server.serving_engines(), 1)
        self.admin.ok("admin", "resume", "1")
        self.server.wait_for_all_engines()

    def test_restart_under_load(self):
        before, restarts = self.server.engine_pids(), self.admin.restarts()
        deaths = self.admin.status()["engines"][1]["deaths_in_a_row"]
        load = Load(self.server, self.expected)
        try:
            for _ in range(2):
                self.admin.ok("admin", "restart", "1", seconds=180)
        finally:
            load.end()
        self.assertEqual(load.wrong, [])
        self.assertGreater(load.finished, 0)
        after = self.server.engine_pids()
        self.assertEqual(after["0"], before["0"])
        self.assertNotEqual(after["1"], before["1"])
        status = self.admin.status()
        self.assertEqual(self.admin.restarts(), [restarts[0], restarts[1] + 2])
        self.assertEqual(status["engines"][1]["deaths_in_a_row"], deaths)
        self.assertEqual(status["engines"][1]["last_exit"], "was restarted on request")
        print(f"two restarts under load: {load.finished} streams, none lost")

    def test_rolling_restart_under_load(self):
        before, restarts = self.server.engine_pids(), self.admin.restarts()
        load = Load(self.server, self.expected)
        try:
            self.assertIn("2 engines were restarted", self.admin.ok("admin", "restart", "--all", seconds=300))
        finally:
            load.end()
        self.assertEqual(load.wrong, [])
        after = self.server.engine_pids()
        self.assertEqual(set(after), set(before))
        self.assertTrue(all(after[index] != before[index] for index in before))
        self.assertEqual(self.admin.restarts(), [count + 1 for count in restarts])
        self.assertEqual(self.admin.status()["rolling_restart"]["state"], "done")
        print(f"a rolling restart under load: {load.finished} streams, none lost")

    def test_a_rolling_restart_runs_once_at_a_time(self):
        streams = self.streams()
        # It cannot finish what it has, so that the restart goes on until it can.
        frozen = self.server.engine(0)
        self.server.kill(frozen, signal.SIGSTOP)
        try:
            self.admin.ok("admin", "restart", "--all", "--no-wait")
            refusals = [self.admin.run("admin", "restart", "--all"), self.admin.run("admin", "restart", "1")]
        finally:
            self.server.kill(frozen, signal.SIGCONT)
        for refusal in refusals:
            self.assertEqual(refusal.returncode, 1)
            self.assertIn("a rolling restart runs", refusal.stderr)
        self.check(streams)
        wait_until(
            lambda: self.admin.status()["rolling_restart"]["state"] == "done", 60, "the rolling restart does not end")

    def test_a_killed_engine_shows_its_end(self):
        self.server.kill(self.server.engine(1))
        wait_until(
            lambda: "SIGKILL" in self.admin.status()["engines"][1]["last_exit"], 20, "its end does not show")
        self.server.wait_for_all_engines()
        status = self.admin.status()["engines"][1]
        self.assertGreaterEqual(status["deaths_in_a_row"], 1)
        self.assertIn("last end: was killed by SIGKILL", " ".join(self.admin.ok("status").split()))

    def test_what_cannot_be_is_refused(self):
        self.assertIn("there is no engine 7: they are 0 to 1", self.admin.refused("admin", "drain", "7"))
        self.assertIn("there is no engine 2", self.admin.refused("admin", "restart", "2"))
        for arguments in (
            ["restart"], ["restart", "1", "--all"], ["drain"], ["drain", "-1"], ["resume", "x"], ["stop"],
        ):
            with self.subTest(arguments):
                result = self.admin.run("admin", *arguments)
                self.assertGreater(result.returncode, 1)
                self.assertTrue(result.stderr)

    def test_several_connections(self):
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(contextlib.closing(self.admin.connect())) for _ in range(3)]
            for sock in socks:
                sock.sendall(command(1) * 2)
            for sock in reversed(socks):
                for _ in range(2):
                    kind, payload = read_frame(sock)
                    self.assertEqual((kind, struct.unpack_from("<HB", payload)), (ADMIN_REPLY, (VERSION, 1)))

    def test_rubbish(self):
        pids = self.server.engine_pids()
        cases = {
            "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "nothing": b"", "one byte": b"\0", "zeros": bytes(4096),
            "an empty frame": struct.pack("<I", 0), "a frame that is too long": b"\xff" * 64,
            "an unknown kind": frame(77), "an unknown command": command(9), "a flag of 2": command(2, 0, 2),
            "another version": command(1, version=VERSION + 1), "a frame of an engine": frame(10),
            "cut": command(1)[:-1], "a byte too many": frame(ADMIN_COMMAND, b"\x05\0\x01\0\0\0\0\0\0"),
            "a long rest": command(1) + os.urandom(100_000),
        }
        for name, data in cases.items():
            with self.subTest(name), contextlib.closing(self.admin.connect()) as sock:
                with contextlib.suppress(ConnectionError):
                    sock.sendall(data)
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
                kinds = set()
                while answer := read_frame(sock):
                    kinds.add(answer[0])
                self.assertLessEqual(kinds, {ERROR, ADMIN_REPLY})
                if name == "another version":
                    self.assertEqual(kinds, {ERROR})
        socks = []
        for index in range(100):
            sock = self.admin.connect()
            self.addCleanup(sock.close)
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.sendall(os.urandom(index * 40))
            socks.append(sock)
        self.assertEqual(self.admin.states(), ["ready", "ready"])
        self.assertEqual(self.server.engine_pids(), pids)
        self.assertIsNone(self.server.process.poll())


class SeveralServersTests(unittest.TestCase):
    def test_nothing_runs(self):
        server = Server()
        self.addCleanup(server.discard)
        # A directory that a dead supervisor left.
        remains = server.runtime / f"tandem-{os.getuid()}-99999999"
        remains.mkdir()
        for arguments in (["status"], ["status", "--json"], ["admin", "restart", "--all"]):
            result = tandem(server.runtime, *arguments, "--run", str(remains))
            self.assertEqual(result.returncode, 1)
            self.assertIn("no server runs there", result.stderr)
            self.assertEqual(result.stdout, "")
        result = tandem(server.runtime, "status", "--run", "/nonexistent")
        self.assertEqual(result.returncode, 1)

    def test_two_servers(self):
        first = Server(engines=1)
        self.addCleanup(first.discard)
        first.start()
        second = Server(engines=1, runtime=first.runtime)
        self.addCleanup(second.discard)
        second.start()
        for server in (first, second):
            server.wait_for_all_engines()
        result = tandem(first.runtime, "status")
        self.assertEqual(result.returncode, 1)
        self.assertIn("servers run here, say which", result.stderr)
        directories = sorted(str(path) for path in first.runtime.glob("tandem-*"))
        self.assertEqual(len(directories), 2)
        ports = set()
        for directory in directories:
            self.assertIn(f"--run {directory}", result.stderr)
            status = json.loads(tandem(first.runtime, "status", "--json", "--run", directory).stdout)
            self.assertEqual(status["run_directory"], directory)
            ports.add(status["port"])
            self.assertIn(f"port {status['port']}", result.stderr)
        self.assertEqual(ports, {first.port, second.port})
        # The only engine is restarted by force only; what it runs is held and goes on.
        admin = Admin.__new__(Admin)
        admin.server, admin.directory = first, next(
            directory for directory in directories if f"-{first.process.pid}" in directory)
        self.assertIn("--force", admin.refused("admin", "restart", "0"))
        self.assertIn("--force", admin.refused("admin", "restart", "--all"))
        expected = first.ask(COMPLETIONS, **FIELDS)["choices"][0]["text"]
        streams = [first.stream(COMPLETIONS, **FIELDS).read(3) for _ in range(3)]
        for stream in streams:
            self.addCleanup(stream.close)
        admin.ok("admin", "restart", "0", "--force")
        for stream in streams:
            stream.finish()
            self.assertEqual(stream.text(), expected)
        second.process.send_signal(signal.SIGINT)
        wait_until(lambda: second.process.poll() is not None, 20, "it does not stop")
        first.stop()


class SharedDeviceTests(unittest.TestCase):
    def test_a_rolling_restart_of_clients_of_mps(self):
        """Clients that end in an orderly way harm nobody: neither the daemon nor its server notices."""
        fake = test_mps.FakeMPS("new")
        self.addCleanup(fake.discard)
        server = test_mps.serve(fake)
        self.addCleanup(server.discard)
        server.start()
        server.wait_for_all_engines()
        admin = Admin(server)
        expected = server.ask(COMPLETIONS, **FIELDS)["choices"][0]["text"]
        processes = fake.daemon(), fake.servers()
        load = Load(server, expected)
        try:
            admin.ok("admin", "restart", "--all", seconds=300)
        finally:
            load.end()
        self.assertEqual(load.wrong, [])
        self.assertEqual((fake.daemon(), fake.servers()), processes)
        self.assertEqual(admin.restarts(), [1, 1])
        self.assertEqual(fake.clients(), set(server.engine_pids().values()))
        mps = admin.status()["mps"]
        self.assertEqual((mps["phase"], [mps["daemon_pid"]], mps["server_pids"]), ("active", *processes))
        self.assertEqual(sum(mps["recovery"].values()), 0)
        self.assertIn(f"mps: active, daemon {mps['daemon_pid']}", admin.ok("status"))
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: server.process.poll() is not None, 30, server.output)
        self.assertEqual(server.process.returncode, 0)


class StoppingTests(unittest.TestCase):
    def test_a_stop_abandons_a_rolling_restart(self):
        server = Server()
        self.addCleanup(server.discard)
        server.start()
        server.wait_for_all_engines()
        admin = Admin(server)
        expected = server.ask(COMPLETIONS, **FIELDS)["choices"][0]["text"]
        streams = [server.stream(COMPLETIONS, **FIELDS).read(3) for _ in range(6)]
        for stream in streams:
            self.addCleanup(stream.close)
        admin.ok("admin", "restart", "--all", "--no-wait")
        server.process.send_signal(signal.SIGTERM)
        for stream in streams:
            stream.finish()
            self.assertEqual(stream.text(), expected)
        wait_until(lambda: server.process.poll() is not None, 30, lambda: f"it does not stop\n{server.output()}")
        self.assertEqual(server.process.returncode, 0)
        self.assertIn("the rolling restart stopped: the server was asked to stop", server.output())
        server.check_nothing_is_left()


if __name__ == "__main__":
    unittest.main()
