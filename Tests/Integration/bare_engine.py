"""An engine process without supervisor and gateway, spoken to over its link."""
import os
import socket
import struct
import subprocess
import time

from serving import BINARY

LINK_VERSION = 8
CLIENT_HELLO, ENGINE_HELLO, SUBMIT, STEP_OUTPUT, STATISTICS, ERROR = 1, 2, 3, 7, 8, 9


class Frames:
    """Length-prefixed frames on a socket: a type byte and a payload."""

    def __init__(self, connection, seconds):
        self.connection = connection
        connection.settimeout(seconds)

    def send(self, kind, payload):
        self.connection.sendall(struct.pack("<IB", len(payload) + 1, kind) + payload)

    def receive(self):
        length, kind = struct.unpack("<IB", self._exactly(5))
        return kind, self._exactly(length - 1)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.connection.recv(count - len(data))
            if not piece:
                raise AssertionError("the engine closed its connection")
            data += piece
        return data


def fingerprint(hello):
    """The tokenizer's, of an engine's hello."""
    version, _, _, name = struct.unpack_from("<HIiI", hello)
    if version != LINK_VERSION:
        raise AssertionError(f"the link has version {version}, this test speaks {LINK_VERSION}")
    start = 14 + name + 16
    return hello[start : start + 16]


def request(tokens, most):
    """A greedy sequence of `most` new tokens."""
    fields = struct.pack(f"<QI{len(tokens)}i", 1, len(tokens), *tokens)
    # Resume offset; temperature, top-k, top-p, min-p; penalties; seed and choice.
    fields += struct.pack("<qfifffffQI", 0, 0.0, 0, 1.0, 0.0, 1.0, 0.0, 0.0, 0, 0)
    # New tokens, no stop tokens, at least none, no biases, no grammar, no log-probabilities, no pooling, no labels,
    # priority, no cache salt.
    return fields + struct.pack("<qIqIBBBBIiI", most, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class BareEngine:
    """Started from the arguments of `tandem engine` without those that name descriptors and its address."""

    def __init__(self, arguments, directory, number, weights, seconds=60):
        self.path = str(directory / f"bare-{number}.sock")
        ours, theirs = socket.socketpair()
        command = [BINARY, "engine", *arguments, "--index", str(number), "--link", f"link+unix:{self.path}"]
        command += ["--weights-fd", str(weights), "--status-fd", str(theirs.fileno())]
        self.log = open(directory / f"bare-{number}.err", "wb")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            pass_fds=[weights, theirs.fileno()])
        theirs.close()
        self.status = Frames(ours, seconds)
        self.seconds = seconds

    def first_token(self, tokens):
        """Seconds from the process's start to its hello, and to the first token of a prompt."""
        kind, hello = self.status.receive()
        ready = time.monotonic() - self.began
        if kind != ENGINE_HELLO:
            raise AssertionError(f"the engine's first frame is of type {kind}")
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        with connection:
            link = Frames(connection, self.seconds)
            link.send(CLIENT_HELLO, struct.pack("<H", LINK_VERSION) + fingerprint(hello) + struct.pack("<i", os.getpid()))
            link.send(SUBMIT, request(tokens, 4))
            while True:
                kind, payload = link.receive()
                if kind == ERROR:
                    raise AssertionError(f"the engine refused: {payload!r}")
                if kind == STEP_OUTPUT and struct.unpack_from("<QI", payload)[1] > 0:
                    return ready, time.monotonic() - self.began

    def end(self):
        """Kills the process and returns the seconds of processor time it took."""
        if self.log.closed:
            return 0.0
        self.process.kill()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.status.connection.close()
        self.log.close()
        return usage.ru_utime + usage.ru_stime
