"""Starts the real server, asks it things, breaks parts of it, and proves that it leaves nothing behind.

The program under test is named by TANDEM_BINARY (default: .build/release/tandem), its model by
TANDEM_INTEGRATION_MODEL (default: what `tandem serve` takes by itself). Every wait is bounded.
"""
import atexit
import contextlib
import dataclasses
import glob
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.path.abspath(os.environ.get("TANDEM_BINARY", ROOT / ".build/release/tandem"))
HOST = "127.0.0.1"
MARK = "TANDEM_INTEGRATION_MARK"
# Time for one thing to happen; multiplied on machines that are slow or busy.
PATIENCE = float(os.environ.get("TANDEM_INTEGRATION_PATIENCE", "1"))


def wait_until(condition, seconds, message):
    """Polls until `condition` gives something true, which is returned; fails with `message` (a string or a function
    that makes one) after `seconds`."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            text = message() if callable(message) else message
            raise AssertionError(f"waited {seconds * PATIENCE:.0f} s in vain: {text}")
        time.sleep(0.01)


def free_port():
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


# MARK: Processes


@dataclasses.dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    arguments: tuple

    @property
    def role(self):
        """serve, gateway or engine."""
        return self.arguments[1] if len(self.arguments) > 1 else ""

    def option(self, name):
        for index, argument in enumerate(self.arguments):
            if argument == name and index + 1 < len(self.arguments):
                return self.arguments[index + 1]
            if argument.startswith(name + "="):
                return argument[len(name) + 1 :]
        return None

    @property
    def engines(self):
        """Numbers of the engines that an engine process hosts, as texts."""
        first = int(self.option("--index") or 0)
        return [str(first + place) for place in range(self.arguments.count("--link"))]

    def threads(self):
        """Nice values and permitted cores of all threads, by thread id."""
        found = {}
        for entry in os.listdir(f"/proc/{self.pid}/task"):
            identifier = int(entry)
            found[identifier] = (os.getpriority(os.PRIO_PROCESS, identifier), os.sched_getaffinity(identifier))
        return found

    def states(self):
        """The states of its threads; none once it is gone."""
        found = set()
        with contextlib.suppress(OSError):
            for entry in os.listdir(f"/proc/{self.pid}/task"):
                with contextlib.suppress(OSError):
                    text = pathlib.Path(f"/proc/{self.pid}/task/{entry}/stat").read_text()
                    found.add(text.rpartition(")")[2].split()[0])
        return found

    def shared_memory(self):
        """Inodes of memory files that are mapped here."""
        lines = pathlib.Path(f"/proc/{self.pid}/maps").read_text().splitlines()
        return {line.split()[4] for line in lines if "/memfd:" in line}


def marked_processes(mark):
    """Living processes whose environment has our mark, whoever their parent is by now."""
    found = []
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            environment = pathlib.Path(f"/proc/{entry}/environ").read_bytes()
            if wanted not in environment.split(b"\0"):
                continue
            arguments = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            status = pathlib.Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        state, parent = status.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            found.append(Process(int(entry), int(parent), tuple(a.decode(errors="replace") for a in arguments)))
    return sorted(found, key=lambda process: process.pid)


def listening_ports():
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def unix_sockets(under):
    lines = pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]
    paths = [line.split()[7] for line in lines if len(line.split()) > 7]
    return [path for path in paths if path.startswith(str(under))]


# MARK: Answers


class Answer:
    """A whole response."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The error object, checked for its shape."""
        kind = self.headers.get("Content-Type", "")
        assert kind.startswith("application/json"), f"an error of type {kind!r}: {self.body[:200]!r}"
        document = self.json
        assert set(document) == {"error"}, document
        error = document["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str) and error["message"], error
        assert isinstance(error["type"], str) and error["type"], error
        assert error["param"] is None or isinstance(error["param"], str), error
        assert error["code"] is None or isinstance(error["code"], (str, int)), error
        return error

    def __repr__(self):
        return f"{self.status} {self.body[:400]!r}"


class Stream:
    """A response of server-sent events, read as they arrive."""

    def __init__(self, connection, response):
        self.connection, self.response = connection, response
        self.status, self.headers = response.status, response.headers
        self.done = False
        self.chunks = []

    def next(self):
        """The next chunk; None after [DONE], and at an end without one, which leaves `done` false."""
        while not self.done:
            line = self.response.readline()
            if not line:
                return None
            if line == b"\n" or line.startswith(b":"):
                continue
            assert line.startswith(b"data: ") and line.endswith(b"\n"), f"not an event: {line!r}"
            payload = line[6:-1]
            assert self.response.readline() == b"\n", f"no empty line after {line!r}"
            if payload == b"[DONE]":
                self.done = True
                assert self.response.read() == b"", "bytes after [DONE]"
                return None
            chunk = json.loads(payload)
            self.chunks.append(chunk)
            return chunk
        return None

    def read(self, count):
        """Reads until `count` chunks have come in all."""
        while len(self.chunks) < count:
            assert self.next() is not None, f"the stream ended after {len(self.chunks)} chunks: {self.chunks[-1:]}"
        return self

    def finish(self):
        """Reads to the end, which must be [DONE] without an error before it."""
        while self.next() is not None:
            assert "error" not in self.chunks[-1], self.chunks[-1]
        assert self.done, f"the stream broke off after {len(self.chunks)} chunks: {self.chunks[-1:]}"
        self.close()
        return self

    def close(self):
        self.response.close()
        self.connection.close()

    def abort(self):
        """Vanishes: the server sees a reset."""
        reset = b"\x01\0\0\0\0\0\0\0"
        with contextlib.suppress(OSError, AttributeError):
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self.close()

    def choices(self, index=0):
        return [choice for chunk in self.chunks for choice in chunk["choices"] if choice["index"] == index]

    def text(self, index=0):
        parts = []
        for choice in self.choices(index):
            parts.append(choice["text"] if "text" in choice else choice["delta"].get("content") or "")
        return "".join(parts)

    def finish_reason(self, index=0):
        reasons = [choice["finish_reason"] for choice in self.choices(index) if choice["finish_reason"]]
        assert len(reasons) == 1, f"{len(reasons)} finish reasons"
        return reasons[0]


def read_raw(sock, seconds=10):
    """All bytes until the server closes."""
    sock.settimeout(seconds * PATIENCE)
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            data += piece
    return data


def read_answer(sock, seconds=10, method="GET"):
    """One answer from a raw connection that may stay open."""
    sock.settimeout(seconds * PATIENCE)
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    return Answer(response.status, response.headers, response.read())


# MARK: Metrics

_SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: (-?\d+))?')
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


class Metrics:
    """Prometheus' text format 0.0.4, read strictly."""

    def __init__(self, text):
        self.kinds, self.samples = {}, {}
        helped, closed, current = set(), set(), None
        assert text.endswith("\n"), "the exposition does not end with a line feed"
        for line in text[:-1].split("\n"):
            assert line, "an empty line in the exposition"
            if line.startswith("# "):
                word, name, rest = (line[2:].split(" ", 2) + [""])[:3]
                if name != current:
                    assert name not in closed, f"{name}: its lines are not together"
                    closed.add(name)
                    current = name
                if word == "HELP":
                    assert name not in helped, f"{name}: two HELP lines"
                    helped.add(name)
                else:
                    assert word == "TYPE" and name not in self.kinds, line
                    assert rest in ("counter", "gauge", "histogram", "summary", "untyped"), line
                    self.kinds[name] = rest
                continue
            match = _SAMPLE.fullmatch(line)
            assert match, f"not a sample: {line!r}"
            name, labels, value, _ = match.groups()
            family = name
            if current and self.kinds.get(current) == "histogram" and name.startswith(current + "_"):
                assert name[len(current) :] in ("_bucket", "_sum", "_count"), line
                family = current
            assert family == current, f"{line!r} stands under {current}"
            pairs, position = [], 0
            while labels and position < len(labels):
                label = _LABEL.match(labels, position)
                assert label, f"bad labels: {line!r}"
                pairs.append((label[1], label[2]))
                position = label.end()
            assert len({name for name, _ in pairs}) == len(pairs), f"a label twice: {line!r}"
            key = (name, tuple(sorted(pairs)))
            assert key not in self.samples, f"a series twice: {line!r}"
            self.samples[key] = float(value.replace("Inf", "inf"))
        for name, kind in self.kinds.items():
            assert name in helped, f"{name} has no HELP"
            if kind == "histogram":
                self._check_histogram(name)
            if kind == "counter":
                assert name.endswith("_total"), f"{name} is a counter without _total"

    def _check_histogram(self, name):
        series = {}
        for (sample, labels), value in self.samples.items():
            if sample == name + "_bucket":
                bound = float(dict(labels)["le"].replace("Inf", "inf"))
                rest = tuple(pair for pair in labels if pair[0] != "le")
                series.setdefault(rest, []).append((bound, value))
        assert series, f"{name} has no buckets"
        for labels, buckets in series.items():
            buckets.sort()
            counts = [count for _, count in buckets]
            assert counts == sorted(counts), f"{name}: buckets are not cumulative"
            assert buckets[-1][0] == float("inf"), f"{name}: no +Inf bucket"
            assert buckets[-1][1] == self.samples[(name + "_count", labels)], f"{name}: +Inf is not the count"
            assert (name + "_sum", labels) in self.samples, f"{name}: no sum"

    def all(self, name, **labels):
        wanted = set(labels.items())
        return {key[1]: value for key, value in self.samples.items() if key[0] == name and wanted <= set(key[1])}

    def total(self, name, **labels):
        """Sum over all series with these labels; there must be one."""
        series = self.all(name, **labels)
        assert series, f"no series {name} {labels or ''}"
        return sum(series.values())


# MARK: The server


_unfinished = set()


@atexit.register
def _discard_unfinished():
    """Of a run that was broken off nothing may live on either."""
    for server in list(_unfinished):
        server.discard()


class Server:
    """One `tandem serve` with everything it starts."""

    def __init__(self, *options, engines=2, port=None, runtime=None, environment=None, model=None):
        if not os.access(BINARY, os.X_OK):
            raise AssertionError(f"no program at {BINARY}: build it, or name it by TANDEM_BINARY")
        self.options, self.engines, self.environment = options, engines, environment or {}
        self.model = model
        self.port = port or free_port()
        self.mark = uuid.uuid4().hex
        self.killed = {}
        # A short path: Unix socket addresses hold 107 bytes.
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="tdm", dir="/tmp"))
        self.runtime = runtime or self.base / "run"
        self.runtime.mkdir(mode=0o700, exist_ok=True)
        self.process = None
        self.seconds_to_ready = None

    # Starting and stopping

    def command(self):
        model = self.model or os.environ.get("TANDEM_INTEGRATION_MODEL")
        command = [BINARY, "serve"] + ([model] if model else [])
        return command + ["--port", str(self.port), "--engines", str(self.engines), *self.options]

    def launch(self):
        environment = {**os.environ, **self.environment}
        environment.update({"XDG_RUNTIME_DIR": str(self.runtime), "TMPDIR": str(self.runtime), MARK: self.mark})
        with open(self.base / "out", "ab") as out, open(self.base / "err", "ab") as err:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment,
                start_new_session=True)
        _unfinished.add(self)
        return self

    def start(self):
        began = time.monotonic()
        self.launch()
        try:
            wait_until(self.is_ready, 60, lambda: f"the server is not ready\n{self.output()}")
        except BaseException:
            self.discard()
            raise
        self.seconds_to_ready = time.monotonic() - began
        return self

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}\n{self.output()}")
        return self.health() == 200

    def health(self):
        """Status of /health, None if nobody answers."""
        try:
            return self.get("/health", timeout=5).status
        except OSError:
            return None
        except http.client.HTTPException:
            return None

    def serving_engines(self):
        try:
            answer = self.get("/health", timeout=5)
        except (OSError, http.client.HTTPException):
            return 0
        return answer.json["engines"] if answer.status == 200 else 0

    def wait_for_all_engines(self, seconds=30):
        """Waits until every engine serves, those included whose death the server has not noticed yet."""
        wait_until(
            lambda: self.killed_are_replaced() and self.serving_engines() == self.engines, seconds,
            lambda: f"{self.serving_engines()} of {self.engines} engines serve, {self.engine_pids()}\n{self.output()}")

    def stop(self, number=signal.SIGINT, seconds=20):
        """Asks the server to stop and proves that it is gone with all it made."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(number)
            wait_until(
                lambda: self.process.poll() is not None, seconds,
                lambda: f"the server did not end on {signal.Signals(number).name}: {self.processes()}\n{self.output()}")
            assert self.process.returncode == 0, f"it ended with {self.process.returncode}\n{self.output()}"
            self.check_nothing_is_left()
        finally:
            self.discard()

    def check_nothing_is_left(self, directory=True):
        # A killed process gives its memory up first, and its sockets a moment later.
        wait_until(lambda: not self.processes(), 5, lambda: f"processes are left: {self.processes()}")
        wait_until(lambda: self.port not in listening_ports(), 5, f"port {self.port} is still listened on")
        wait_until(
            lambda: not unix_sockets(self.runtime), 5, lambda: f"sockets are left: {unix_sockets(self.runtime)}")
        if directory:
            left = [str(path) for path in self.runtime.rglob("*")]
            assert not left, f"files are left: {left}"
            left = glob.glob(f"/tmp/tandem-*-{self.process.pid}*") + glob.glob(f"/dev/shm/*tandem*{self.process.pid}*")
            assert not left, f"files are left: {left}"

    def discard(self):
        """Ends what may still run, without a question; for the end of a test."""
        _unfinished.discard(self)
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)
        shutil.rmtree(self.base, ignore_errors=True)

    def output(self):
        """What it printed so far, both streams."""
        return "\n".join(
            (self.base / name).read_text(errors="replace") for name in ("out", "err") if (self.base / name).exists())

    # Processes

    def processes(self):
        return marked_processes(self.mark)

    def gateway(self):
        return next((p for p in self.processes() if p.role == "gateway"), None)

    def engine(self, index):
        return next((p for p in self.processes() if p.role == "engine" and str(index) in p.engines), None)

    def engine_pids(self):
        return {index: p.pid for p in self.processes() if p.role == "engine" for index in p.engines}

    def killed_are_replaced(self):
        pids = self.engine_pids()
        return all(pids.get(index) not in (None, pid) for index, pid in self.killed.items())

    def kill(self, process, number=signal.SIGKILL):
        if process.role == "engine" and number not in (signal.SIGSTOP, signal.SIGCONT):
            self.killed.update({index: process.pid for index in process.engines})
        os.kill(process.pid, number)
        if number == signal.SIGSTOP:
            # One thread takes the signal and stops the others, which may do a little until then.
            wait_until(lambda: process.states() <= {"T"}, 10, lambda: f"{process} does not stop: {process.states()}")

    # Requests

    def connect(self, timeout=60):
        return socket.create_connection((HOST, self.port), timeout=timeout * PATIENCE)

    def connection(self, timeout):
        return http.client.HTTPConnection(HOST, self.port, timeout=timeout * PATIENCE)

    def request(self, method, path, body=None, headers=None, timeout=120):
        connection = self.connection(timeout)
        try:
            connection.request(method, path, _bytes(body), _headers(body, headers))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, **more):
        return self.request("POST", path, body, **more)

    def ask(self, path, **fields):
        """Posts a request that must succeed; gives the document."""
        answer = self.post(path, fields)
        assert answer.status == 200, answer
        return answer.json

    def complete(self, prompt, **fields):
        return self.ask("/v1/completions", prompt=prompt, **fields)

    def chat(self, messages, **fields):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.ask("/v1/chat/completions", messages=messages, **fields)

    def stream(self, path, headers=None, timeout=120, **fields):
        connection = self.connection(timeout)
        body = {**fields, "stream": True}
        connection.request("POST", path, _bytes(body), _headers(body, headers))
        response = connection.getresponse()
        if response.status != 200:
            raise AssertionError(f"no stream: {response.status} {response.read()[:400]!r}")
        return Stream(connection, response)

    def tokenize(self, text, **fields):
        return self.ask("/tokenize", prompt=text, **fields)["tokens"]

    def metrics(self):
        answer = self.get("/metrics", timeout=10)
        assert answer.status == 200, answer
        return Metrics(answer.text)

    # In flight

    def in_flight(self):
        """Sequences in hand: the gateway's count, and what engines run and queue."""
        metrics = self.metrics()
        return (
            metrics.total("tandem_gateway_unfinished_sequences"),
            metrics.total("vllm:num_requests_running"),
            metrics.total("vllm:num_requests_waiting"),
        )

    def wait_idle(self, seconds=20):
        wait_until(
            lambda: self.in_flight() == (0, 0, 0), seconds,
            lambda: f"in flight (gateway, running, waiting) stays at {self.in_flight()}")


def _bytes(body):
    return json.dumps(body).encode() if isinstance(body, (dict, list)) else body


def _headers(body, headers):
    merged = {"Content-Type": "application/json"} if body is not None else {}
    merged.update(headers or {})
    return {name: value for name, value in merged.items() if value is not None}


class ServerTestCase(unittest.TestCase):
    """One server for all tests of a class; it must stop cleanly after them."""

    options = ()
    engines = 2
    server: Server

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.options, engines=cls.engines).start()
        try:
            cls.server.wait_for_all_engines()
            print(f"{cls.__name__}: first 200 of /health after {cls.server.seconds_to_ready:.2f} s", file=sys.stderr)
            cls.model = cls.server.get("/v1/models").json["data"][0]
        except BaseException:
            cls.server.discard()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
