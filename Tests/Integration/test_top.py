"""`tandem top` and what it looks at, from outside: a real terminal, a real server, an engine that is killed."""
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import unittest

import serving
from serving import BINARY, HOST, Server, ServerTestCase, wait_until

SEQUENCES = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


def top(*arguments, **environment):
    return subprocess.run(
        [BINARY, "top", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * serving.PATIENCE,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment})


class Terminal:
    """`tandem top` on a pseudo terminal."""

    def __init__(self, *arguments, columns=100, rows=30, **environment):
        self.output = b""
        self.main, terminal = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(terminal)
        self.terminal = terminal
        self.process = subprocess.Popen(
            [BINARY, "top", *arguments], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **environment})
        os.set_blocking(self.main, False)

    def resize(self, columns, rows):
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        with contextlib.suppress(BlockingIOError, OSError):
            while piece := os.read(self.main, 65536):
                self.output += piece
        return self.output

    def wait_for(self, text):
        wait_until(lambda: text in SEQUENCES.sub(b"", self.read()), 20, lambda: f"{text} in {self.output[-2000:]}")

    def press(self, keys):
        os.write(self.main, keys)

    def is_restored(self):
        """Whether the terminal is as it was."""
        return (
            termios.tcgetattr(self.terminal) == self.before
            and self.output.count(b"\x1b[?1049h") == self.output.count(b"\x1b[?1049l") == 1
            and self.output.rfind(b"\x1b[?25h") > self.output.rfind(b"\x1b[?25l"))

    def end(self):
        self.process.wait(20 * serving.PATIENCE)
        self.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.main)
        os.close(self.terminal)


class TopTests(ServerTestCase):
    def url(self):
        return f"http://{HOST}:{self.server.port}"

    def open(self, *arguments, **more):
        terminal = Terminal(self.url(), *arguments, **more)
        self.addCleanup(terminal.close)
        return terminal

    def test_once(self):
        result = top(self.url(), "-1", "--interval", "200ms")
        self.assertEqual(result.returncode, 0, result.stderr)
        text = result.stdout.decode()
        self.assertIn("2 of 2 engines serve", text)
        self.assertNotIn("\x1b", text)
        for index in (0, 1):
            self.assertRegex(text, rf"(?m)^ +{index} +ready +{self.server.engine(index).pid}\b")
        # What is no terminal gets the same without being told.
        self.assertIn("2 of 2 engines serve", top(self.url(), "--interval", "200ms").stdout.decode())

    def test_plain_ascii_without_a_utf8_locale(self):
        result = top(self.url(), "-1", "--interval", "200ms", LC_ALL="C")
        self.assertEqual(result.returncode, 0)
        result.stdout.decode("ascii")

    def test_json_is_the_answer(self):
        result = top(self.url(), "--json")
        self.assertEqual(result.returncode, 0)
        answer = json.loads(result.stdout)
        self.assertEqual([engine["pid"] for engine in answer["engines"]], [self.server.engine(i).pid for i in (0, 1)])
        asked = self.server.get("/engines").json
        self.assertEqual(set(answer), set(asked))

    def test_nobody_there(self):
        port = serving.free_port()
        for option in ("-1", "--json"):
            result = top(f"{HOST}:{port}", option)
            self.assertEqual(result.returncode, 1)
            self.assertIn(b"refused", result.stderr)
            self.assertEqual(result.stdout, b"")

    def test_what_is_no_address(self):
        for address in ("https://127.0.0.1", "http://", "127.0.0.1:99999", "a b"):
            result = top(address, "-1")
            self.assertEqual(result.returncode, 64, address)
            self.assertIn(address.encode(), result.stderr)

    def test_keys_and_sizes(self):
        terminal = self.open("--interval", "200ms")
        terminal.wait_for(b"2 of 2 engines serve")
        terminal.press(b"h")
        terminal.wait_for(b"prompt tokens found in the prefix cache")
        terminal.press(b"hp")
        terminal.wait_for(b"paused")
        terminal.press(b"p")
        terminal.resize(20, 6)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.wait_for("2 of 2 engines serv…".encode())
        terminal.press(b"q")
        terminal.end()
        self.assertEqual(terminal.process.returncode, 0)
        self.assertTrue(terminal.is_restored(), terminal.output[-300:])

    def test_signals_restore_the_terminal(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signal=number):
                terminal = self.open("--interval", "200ms")
                terminal.wait_for(b"2 of 2 engines serve")
                terminal.process.send_signal(number)
                terminal.end()
                self.assertTrue(terminal.is_restored(), terminal.output[-300:])

    def test_no_colour(self):
        terminal = self.open("--interval", "200ms", NO_COLOR="1")
        terminal.wait_for(b"2 of 2 engines serve")
        terminal.press(b"q")
        terminal.end()
        self.assertEqual(re.findall(rb"\x1b\[[0-9;]*m", terminal.output), [])

    def test_dumb_terminals_get_one_picture(self):
        terminal = self.open("--interval", "200ms", TERM="dumb")
        terminal.end()
        self.assertEqual(terminal.process.returncode, 0)
        self.assertNotIn(b"\x1b", terminal.output)

    def test_a_killed_engine_is_seen(self):
        terminal = self.open("--interval", "100ms")
        terminal.wait_for(b"2 of 2 engines serve")
        stream = self.server.stream("/v1/completions", prompt="Once", max_tokens=400, ignore_eos=True, temperature=0)
        stream.read(5)
        (busy,) = [e for e in self.server.get("/engines").json["engines"] if e["outstanding_requests"]]
        before = self.server.get("/engines").json["gateway"]["migrations"]
        os.kill(busy["pid"], signal.SIGKILL)
        stream.finish()
        terminal.wait_for(f"engine {busy['index']} was killed by SIGKILL".encode())
        terminal.wait_for(b"1 went on elsewhere")
        self.server.wait_for_all_engines()
        answer = self.server.get("/engines").json
        self.assertEqual(answer["gateway"]["migrations"], before + 1)
        self.assertEqual(answer["gateway"]["failed"], 0)
        kinds = [event["kind"] for event in answer["events"] if event["engine"] == busy["index"]]
        self.assertEqual(sorted(kinds[-3:]), ["engine_lost", "engine_ready", "sequences_moved"])
        metrics = self.server.metrics()
        self.assertEqual(metrics.total("tandem_router_migration_pause_seconds_count"), before + 1)


class OwnServerTests(unittest.TestCase):
    def test_a_server_that_goes_is_said(self):
        server = Server().start()
        self.addCleanup(server.discard)
        terminal = Terminal(f"{HOST}:{server.port}", "--interval", "200ms")
        self.addCleanup(terminal.close)
        terminal.wait_for(b"2 of 2 engines serve")
        server.stop()
        terminal.wait_for(b"does not answer")
        self.assertIsNone(terminal.process.poll())
        terminal.process.send_signal(signal.SIGTERM)
        terminal.end()
        self.assertTrue(terminal.is_restored())

    def test_the_key_is_shown(self):
        server = Server("--api-key", "secret", engines=1).start()
        self.addCleanup(server.stop)
        url = f"http://{HOST}:{server.port}"
        refused = top(url, "-1")
        self.assertEqual(refused.returncode, 1)
        self.assertIn(b"--api-key", refused.stderr)
        for arguments, environment in ((["--api-key", "secret"], {}), ([], {"TANDEM_API_KEY": "secret"})):
            result = top(url, "--json", *arguments, **environment)
            self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()
