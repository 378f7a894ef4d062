"""Processes that hang, clients that do not read, clients that leave: what must hold then holds.

Times are printed: they are measurements, and what is asserted of them is generous.
"""
import json
import os
import pathlib
import signal
import socket
import time
import unittest

import serving
from serving import Server, ServerTestCase, wait_until

COMPLETIONS = "/v1/completions"


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no process {pid}")


class HangTests(unittest.TestCase):
    """SIGSTOP freezes a process with all its sockets open, as a hung kernel call would."""

    FIELDS = dict(prompt="Once upon a time,", max_tokens=400, temperature=0, ignore_eos=True)

    def start(self, *options, **more):
        server = Server(*options, **more)
        self.addCleanup(server.discard)
        server.start()
        server.wait_for_all_engines()
        return server

    def streams(self, server, count=6, chunks=3):
        streams = [server.stream(COMPLETIONS, **self.FIELDS) for _ in range(count)]
        for stream in streams:
            self.addCleanup(stream.close)
            stream.read(chunks)
        return streams

    def test_a_frozen_engine_loses_its_streams_and_comes_back(self):
        server = self.start("--heartbeat-timeout", "0")
        expected = server.ask(COMPLETIONS, **self.FIELDS)["choices"][0]["text"]
        streams = self.streams(server)
        frozen = server.engine(0)
        server.kill(frozen, signal.SIGSTOP)
        self.addCleanup(lambda: server.engine(0) and server.kill(frozen, signal.SIGCONT))
        began = time.monotonic()
        wait_until(lambda: server.serving_engines() == 1, 20, "nobody noticed that the engine is frozen")
        print(f"a frozen engine was given up after {time.monotonic() - began:.2f} s")
        for stream in streams:
            stream.finish()
            self.assertEqual(stream.text(), expected)
        self.assertEqual(server.metrics().total("tandem_engine_silences_total", engine="0"), 1)
        server.kill(frozen, signal.SIGCONT)
        began = time.monotonic()
        server.wait_for_all_engines()
        print(f"it served again {time.monotonic() - began:.2f} s after it went on")
        self.assertEqual(server.engine(0).pid, frozen.pid)
        server.wait_idle()
        server.stop()

    def test_the_only_engine_frozen_for_a_while(self):
        server = self.start("--heartbeat-timeout", "0", engines=1)
        expected = server.ask(COMPLETIONS, **self.FIELDS)["choices"][0]["text"]
        streams = self.streams(server, count=2)
        server.kill(server.engine(0), signal.SIGSTOP)
        time.sleep(4)
        # Its link is still there: nobody else could go on with what it has.
        self.assertEqual(server.serving_engines(), 1)
        server.kill(server.engine(0), signal.SIGCONT)
        for stream in streams:
            stream.finish()
            self.assertEqual(stream.text(), expected)
        server.wait_idle()
        server.stop()

    def test_a_frozen_engine_is_killed_and_started_again(self):
        server = self.start("--heartbeat-timeout", "3s")
        frozen = server.engine(0)
        server.kill(frozen, signal.SIGSTOP)
        wait_until(lambda: (server.engine(0) or frozen).pid != frozen.pid, 20, "it was not replaced")
        self.assertIn("engine 0 hangs: it gave no sign of life for 3 s; killing it", server.output())
        server.wait_for_all_engines()
        self.assertEqual(server.metrics().total("tandem_engine_restarts_total", engine="0"), 1)
        server.stop()

    def test_a_frozen_gateway_is_killed_and_started_again(self):
        server = self.start("--heartbeat-timeout", "3s", engines=1)
        frozen = server.gateway()
        engines = server.engine_pids()
        server.kill(frozen, signal.SIGSTOP)
        began = time.monotonic()
        # It waits in the backlog.
        self.assertEqual(server.complete("Hello", max_tokens=2)["object"], "text_completion")
        print(f"a request was answered {time.monotonic() - began:.2f} s after the gateway froze")
        self.assertNotEqual(server.gateway().pid, frozen.pid)
        self.assertEqual(server.engine_pids(), engines)
        self.assertIn("gateway hangs: it gave no sign of life for 3 s; killing it", server.output())
        server.stop()


class ClientTests(ServerTestCase):
    def test_clients_that_leave_free_their_slots_at_once(self):
        """At every stage: while it waits, its grammar compiles, its prompt is computed, it generates."""
        long = "All work and no play makes Jack a dull boy. " * 150
        cases = {
            "generating": (dict(prompt="Once", max_tokens=2000, ignore_eos=True), 3),
            "computing the prompt": (dict(prompt=long, max_tokens=2000, ignore_eos=True), 0),
            "compiling a grammar": (dict(prompt="Words:", max_tokens=2000, guided_regex="([a-z]{1,9} ){400}"), 0),
        }
        for name, (fields, chunks) in cases.items():
            with self.subTest(name):
                if chunks:
                    stream = self.server.stream(COMPLETIONS, **fields)
                    stream.read(chunks)
                    stream.abort()
                else:
                    sock = self.server.connect()
                    body = json.dumps({**fields, "stream": True}).encode()
                    sock.sendall(
                        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                    wait_until(lambda: self.server.in_flight()[0] > 0, 20, "the request was not admitted")
                    sock.close()
                began = time.monotonic()
                wait_until(self.idle, 20, f"an engine goes on for a client that left while {name}")
                print(f"{1000 * (time.monotonic() - began):.0f} ms from the client's close to idle engines, {name}")
                self.server.wait_idle()

    def idle(self):
        metrics = self.server.metrics()
        return (
            metrics.total("tandem_gateway_unfinished_sequences") == 0
            and metrics.total("vllm:num_requests_running") == 0
            and metrics.total("vllm:num_requests_waiting") == 0
        )

    def test_clients_that_stop_reading(self):
        """Their requests pause, whatever they ask for costs no memory, others are served, and all is there later."""
        fields = dict(
            prompt="Once upon a time,", max_tokens=1000, temperature=0, ignore_eos=True, logprobs=5, stream=True)
        undisturbed = self.server.ask(COMPLETIONS, **{**fields, "stream": False})["choices"][0]
        before = resident_bytes(self.server.gateway().pid)
        socks = []
        body = json.dumps(fields).encode()
        for _ in range(20):
            sock = socket.socket()
            self.addCleanup(sock.close)
            # What the kernel takes for a client is not the server's, but keeps it from being noticed.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(120 * serving.PATIENCE)
            sock.connect((serving.HOST, self.server.port))
            sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            socks.append(sock)
        wait_until(lambda: self.server.in_flight()[0] == 20, 20, "not all were admitted")
        began = time.monotonic()
        wait_until(self.stands_still, 50, "the sequences of clients that do not read go on")
        others = self.server.complete("Hello", max_tokens=8, ignore_eos=True)
        self.assertEqual(others["usage"]["completion_tokens"], 8)
        after = resident_bytes(self.server.gateway().pid)
        generated = self.server.metrics().total("vllm:generation_tokens_total")
        print(
            f"20 clients that do not read: paused after {time.monotonic() - began:.1f} s and {generated:.0f} tokens, "
            f"the gateway grew by {(after - before) / 1e6:.1f} MB")
        self.assertLess(after - before, 10e6)
        for sock in socks:
            response = serving.http.client.HTTPResponse(sock)
            response.begin()
            stream = serving.Stream(sock, response)
            stream.finish()
            self.assertEqual(stream.text(), undisturbed["text"])
        self.server.wait_idle()

    def stands_still(self):
        first = self.server.metrics().total("tandem_engine_generated_tokens_total")
        time.sleep(1)
        metrics = self.server.metrics()
        return first == metrics.total("tandem_engine_generated_tokens_total") and self.server.in_flight()[0] == 20


class SlowClientTests(unittest.TestCase):
    def test_a_client_that_never_reads_loses_its_request(self):
        server = Server("--slow-client-timeout", "2s", engines=1)
        self.addCleanup(server.discard)
        server.start()
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((serving.HOST, server.port))
        body = json.dumps(dict(prompt="Once", max_tokens=1500, ignore_eos=True, logprobs=5, stream=True)).encode()
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        wait_until(lambda: server.in_flight()[0] == 1, 20, "it was not admitted")
        wait_until(lambda: server.in_flight()[0] == 0, 60, "it was not given up")
        server.wait_idle()
        server.stop()


class AccessLogTests(unittest.TestCase):
    def test_every_exchange_is_a_line(self):
        server = Server("--access-log", "json", "--gateway-threads", "2", engines=1)
        self.addCleanup(server.discard)
        server.start()
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = server.post(
            COMPLETIONS, dict(prompt="Hello", max_tokens=3, ignore_eos=True),
            headers={"traceparent": trace, "X-Request-Id": "mine"})
        self.assertEqual(answer.status, 200)
        kept, span = answer.headers["traceresponse"].split("-")[1:3]
        self.assertEqual(kept, trace.split("-")[1])
        stream = server.stream(COMPLETIONS, prompt="Hello", max_tokens=2000, ignore_eos=True)
        stream.read(3).abort()
        server.get("/v1/nothing")

        def lines():
            found = [json.loads(line) for line in server.output().splitlines() if line.startswith('{"time":')]
            return {line["outcome"] + " " + str(line["status"]): line for line in found if line["path"] != "/health"}

        logged = wait_until(
            lambda: lines() if {"complete 200", "cancelled 200", "complete 404"} <= set(lines()) else None, 10,
            lambda: f"lines are missing\n{server.output()}")
        line = logged["complete 200"]
        self.assertEqual(line["request_id"], "mine")
        self.assertEqual((line["trace_id"], line["span_id"], line["parent_id"]), (kept, span, trace.split("-")[2]))
        self.assertEqual((line["method"], line["path"], line["engine"]), ("POST", COMPLETIONS, 0))
        self.assertEqual((line["prompt_tokens"] > 0, line["generated_tokens"]), (True, 3))
        self.assertEqual(line["bytes"], len(answer.body))
        self.assertGreaterEqual(line["duration"], line["first_byte"])
        self.assertNotIn("Hello", json.dumps(logged))
        self.assertGreaterEqual(logged["cancelled 200"]["generated_tokens"], 3)
        server.stop()


if __name__ == "__main__":
    unittest.main()
