"""`tandem gateway --endpoints` in front of servers that are not its own: fakes that fail in every way, and two real ones.

No request may be lost: what the client sees is compared with an undisturbed answer.
"""
import contextlib
import http.client
import json
import os
import signal
import socket
import struct
import threading
import time
import unittest

import serving
from fake_engine import FakeEngine
from serving import Server, wait_until

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
FAST = ("--probe-interval", "100ms", "--probe-timeout", "300ms", "--connect-timeout", "500ms")


class Gateway(Server):
    """One `tandem gateway` in front of other servers."""

    def __init__(self, *endpoints, options=FAST, environment=None):
        super().__init__(*options, engines=len(endpoints), environment=environment)
        self.endpoints = endpoints

    def command(self):
        return [
            serving.BINARY, "gateway", "--port", str(self.port), "--endpoints", ",".join(self.endpoints),
            *self.options]


def text_of(stream):
    pieces = [choice.get("text") or (choice.get("delta") or {}).get("content") or "" for choice in stream.choices()]
    return "".join(pieces)


def words(first, count):
    return "".join(f" w{number}" for number in range(first, first + count))


class ProxyTestCase(unittest.TestCase):
    def start(self, *engines, options=FAST, environment=None):
        self.engines = engines
        for engine in engines:
            self.addCleanup(engine.vanish)
        gateway = Gateway(*(engine.url for engine in engines), options=options, environment=environment)
        self.addCleanup(gateway.discard)
        gateway.start()
        gateway.wait_for_all_engines()
        return gateway

    def finish(self, gateway):
        gateway.wait_idle()
        gateway.stop()

    def migrations(self, gateway):
        return {
            (dict(labels)["outcome"], dict(labels)["reason"]): value
            for labels, value in gateway.metrics().all("tandem_router_migrations_total").items()
            if value}


class PassingTests(ProxyTestCase):
    """Nothing fails: bytes go through as they are."""

    def test_bytes_are_unchanged(self):
        engine = FakeEngine()
        gateway = self.start(engine)
        body = b'{ "model":"fake" , "x" : [1.50, "\\u00e9\xc3\xa9"],"stream_options":null}'
        answer = gateway.post("/v1/embeddings?a=b", body, headers={
            "X-Request-Id": "r-1", "traceparent": "00-1-2-01", "Authorization": "Bearer mine", "X-Mine": "yes",
            "Connection": "keep-alive, X-Drop", "X-Drop": "1", "Accept-Encoding": "gzip"})
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json["path"], "/v1/embeddings?a=b")
        self.assertEqual(answer.headers["X-Request-Id"], "r-1")
        self.assertEqual(answer.headers["X-Engine"], "fake")
        request = engine.asked[-1]
        self.assertEqual(request["body"], body)
        headers = request["headers"]
        self.assertEqual(headers["x-request-id"], "r-1")
        self.assertEqual(headers["traceparent"], "00-1-2-01")
        self.assertEqual(headers["authorization"], "Bearer mine")
        self.assertEqual(headers["x-mine"], "yes")
        for name in ("x-drop", "connection", "accept-encoding"):
            self.assertNotIn(name, headers)
        self.finish(gateway)

    def test_streams_and_models(self):
        first, second = FakeEngine("one"), FakeEngine("two")
        gateway = self.start(first, second)
        models = gateway.get("/v1/models").json["data"]
        self.assertEqual([model["id"] for model in models], ["one", "two"])
        self.assertEqual(models[0]["max_model_len"], 99)
        for name, engine in (("one", first), ("two", second), ("one", first)):
            stream = gateway.stream(COMPLETIONS, model=name, prompt="a w4", max_tokens=9).finish()
            self.assertEqual(text_of(stream), words(5, 9))
            self.assertEqual({chunk["model"] for chunk in stream.chunks}, {name})
            self.assertEqual(engine.asked[-1]["target"], COMPLETIONS)
        self.assertEqual(len(first.asked), 2)
        answer = gateway.post(COMPLETIONS, {"model": "three", "prompt": "x"})
        self.assertEqual((answer.status, answer.error["code"]), (404, "model_not_found"))
        self.assertEqual(gateway.chat("w1", model="two", max_tokens=3)["choices"][0]["message"]["content"], words(2, 3))
        self.finish(gateway)

    def test_only_known_paths(self):
        engine = FakeEngine()
        gateway = self.start(engine)
        for path in ("/shutdown", "/v1/completions/..%2f..%2fshutdown", "/v1/../shutdown", "//v1/completions",
                     "/v1/completions/", "/v1/load_lora_adapter", "/sleep", "/V1/completions", "/v1/completions%00"):
            self.assertEqual(gateway.post(path, {"model": "fake", "prompt": "x"}).status, 404, path)
        self.assertEqual(gateway.get(COMPLETIONS).status, 405)
        self.assertEqual(gateway.request("HEAD", "/health").status, 200)
        self.assertEqual(gateway.request("HEAD", "/tokenizer_info").status, 404)
        self.assertEqual(engine.asked, [])
        self.finish(gateway)

    def test_keys(self):
        engine = FakeEngine()
        gateway = self.start(
            engine, options=(*FAST, "--api-key", "theirs", "--endpoint-api-key", "its"))
        self.assertEqual(gateway.post(COMPLETIONS, {"prompt": "x"}).status, 401)
        answer = gateway.post(COMPLETIONS, {"prompt": "x"}, headers={"Authorization": "Bearer theirs"})
        self.assertEqual(answer.status, 200)
        self.assertEqual(engine.asked[-1]["headers"]["authorization"], "Bearer its")
        self.finish(gateway)

    def test_pieces_of_any_size(self):
        engine = FakeEngine()
        engine.word = lambda number: f" ä€😀{number}"
        gateway = self.start(engine)
        expected = "".join(f" ä€😀{number}" for number in range(6))
        for size in (1, 2, 3, 7, 50):
            engine.split = size
            stream = gateway.stream(CHAT, messages=[{"role": "user", "content": "x"}], max_tokens=6).finish()
            self.assertEqual(text_of(stream), expected)
        self.finish(gateway)

    def ask_slowly(self, gateway, path):
        """What a client gets that takes 4 KiB at a time."""
        connection = socket.socket()
        self.addCleanup(connection.close)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}" % path.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        pieces = []
        while piece := answer.read(4096):
            pieces.append(piece)
        return b"".join(pieces)

    def test_large_answers_come_whole(self):
        engine = FakeEngine()
        gateway = self.start(engine)
        engine.body = b"".join(number.to_bytes(4, "big") for number in range(3_000_000))
        for engine.closes in (False, True):
            for _ in range(3):
                self.assertEqual(gateway.post("/v1/embeddings", {}).body, engine.body)
            self.assertEqual(self.ask_slowly(gateway, "/v1/embeddings"), engine.body)
        self.finish(gateway)

    def test_events_come_whole_to_who_reads_slowly(self):
        engine = FakeEngine()
        gateway = self.start(engine)
        engine.kind = "text/event-stream"
        engine.body = b"".join(b'data: {"number": %d}\n\n' % number for number in range(150_000))
        for engine.closes in (False, True):
            self.assertEqual(self.ask_slowly(gateway, "/v1/responses"), engine.body)
        self.finish(gateway)

    def test_many_connections_are_kept(self):
        engine = FakeEngine()
        gateway = self.start(engine)
        for _ in range(30):
            gateway.complete("x", max_tokens=1)
        self.assertLess(len(engine.open), 4)
        self.finish(gateway)

    def test_without_any_engine(self):
        engine = FakeEngine()
        port = engine.port
        engine.vanish()
        gateway = Gateway(f"http://127.0.0.1:{port}/v1/", options=FAST)
        self.addCleanup(gateway.discard)
        gateway.launch()
        wait_until(lambda: gateway.health() == 503, 20, "no gateway")
        self.assertEqual(gateway.get("/v1/models").json["data"], [])
        self.assertEqual(gateway.get("/live").status, 200)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(gateway.post(COMPLETIONS, {"prompt": "w1", "max_tokens": 2})))
        asking.start()
        wait_until(lambda: gateway.in_flight()[0] == 1, 10, "the request does not wait")
        engine.listen()
        self.addCleanup(engine.vanish)
        asking.join(20)
        self.assertEqual(answers[0].status, 200)
        self.assertEqual(answers[0].json["choices"][0]["text"], words(2, 2))
        self.assertEqual(gateway.health(), 200)
        self.finish(gateway)


class FailingTests(ProxyTestCase):
    """One of two engines fails before the first byte: nobody sees it."""

    def check(self, misbehave, options=FAST, repeat=6, undo=None):
        bad, good = FakeEngine(), FakeEngine()
        gateway = self.start(bad, good, options=options)
        misbehave(bad)
        for index in range(repeat):
            stream = gateway.stream(COMPLETIONS, prompt="a w4", max_tokens=3).finish()
            self.assertEqual(text_of(stream), words(5, 3))
            self.assertEqual(gateway.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
        self.finish(gateway)
        return bad, good

    def test_server_error(self):
        self.check(lambda engine: setattr(engine, "status", 500))

    def test_garbage(self):
        for garbage in (b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 200 OK\r\n\r"):
            self.check(lambda engine: setattr(engine, "garbage", garbage), repeat=2)

    def test_huge_headers(self):
        self.check(lambda engine: setattr(engine, "big_header", 200_000))

    def test_killed_before_the_first_byte(self):
        self.check(lambda engine: setattr(engine, "die_after", 0))

    def test_frozen_before_the_first_byte(self):
        bad, good = self.check(
            lambda engine: setattr(engine, "freeze_after", 0), options=(*FAST, "--first-byte-timeout", "300ms"), repeat=3)

    def test_frozen_altogether(self):
        bad, good = FakeEngine(), FakeEngine()
        gateway = self.start(bad, good)
        bad.frozen = True

        def is_noticed():
            self.assertEqual(gateway.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
            return gateway.serving_engines() == 1

        try:
            # Which engine a request tries first is chance.
            wait_until(is_noticed, 20, gateway.output)
        finally:
            bad.frozen = False
        gateway.wait_for_all_engines()
        self.finish(gateway)

    def test_busy_is_passed_on_by_all_only(self):
        first, second = FakeEngine(), FakeEngine()
        gateway = self.start(first, second)
        first.status, first.headers = 429, {"Retry-After": 7}
        self.assertEqual(gateway.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
        second.status, second.headers = 429, {"Retry-After": 7}
        for _ in range(5):
            answer = gateway.post(COMPLETIONS, {"prompt": "x"})
            self.assertEqual((answer.status, answer.headers["Retry-After"]), (429, "7"))
            self.assertEqual(answer.json["error"]["message"], "as told")
        self.assertEqual(gateway.serving_engines(), 2)
        first.status = 200
        self.assertEqual(gateway.complete("a w4", max_tokens=3)["choices"][0]["text"], words(5, 3))
        self.finish(gateway)

    def test_whole_answers_are_counted(self):
        gateway = self.start(FakeEngine())
        before = gateway.metrics()
        for _ in range(3):
            self.assertEqual(gateway.post(COMPLETIONS, {"prompt": "a w4", "max_tokens": 7}).status, 200)
        metrics = gateway.metrics()
        self.assertEqual(metrics.total("vllm:request_success_total", finished_reason="length"), 3)
        self.assertEqual(metrics.total("vllm:request_success_total", finished_reason="stop"), 0)
        self.assertEqual(metrics.total("vllm:generation_tokens_total"), 21)
        self.assertEqual(metrics.total("vllm:prompt_tokens_total"), 6)
        self.assertEqual(before.total("tandem_http_errors_total", status="404"), 0)
        self.engines[0].status = 404
        self.assertEqual(gateway.post(COMPLETIONS, {"prompt": "a w4"}).status, 404)
        metrics = gateway.metrics()
        self.assertEqual(metrics.total("tandem_http_errors_total", status="404"), 1)
        self.assertEqual(metrics.total("vllm:request_success_total"), 3)
        self.finish(gateway)

    def test_client_errors_are_answers(self):
        first, second = FakeEngine(), FakeEngine()
        gateway = self.start(first, second)
        first.status = second.status = 422
        self.assertEqual(gateway.post(COMPLETIONS, {"prompt": "x"}).status, 422)
        self.assertEqual(len(first.asked) + len(second.asked), 1)
        first.status = second.status = 500
        self.assertEqual(gateway.post(COMPLETIONS, {"prompt": "x"}).json["error"]["message"], "as told")
        self.finish(gateway)


class ContinuingTests(ProxyTestCase):
    """The engine fails in the middle of a stream."""

    def check(self, fail, path=COMPLETIONS, options=FAST, reason=("continued", "lost"), **fields):
        first, second = FakeEngine(), FakeEngine()
        gateway = self.start(first, second, options=options)
        for engine in self.engines:
            engine.pause = 0.005
        request = dict(max_tokens=20, **fields)
        request.update({"prompt": "a w4"} if path == COMPLETIONS else {"messages": [{"role": "user", "content": "w4"}]})
        stream = gateway.stream(path, **request)
        self.addCleanup(stream.close)
        stream.read(6)
        running = next(engine for engine in self.engines if engine.asked)
        other = next(engine for engine in self.engines if engine is not running)
        fail(running)
        stream.finish()
        self.assertEqual(text_of(stream), words(5, 20))
        self.assertEqual(len({chunk["id"] for chunk in stream.chunks}), 1)
        self.assertEqual(len({chunk["created"] for chunk in stream.chunks}), 1)
        self.assertEqual([c["finish_reason"] for c in stream.choices() if c["finish_reason"]], ["length"])
        self.assertEqual(len([c for c in stream.choices() if (c.get("delta") or {}).get("role")]), 1 if path == CHAT else 0)
        self.assertEqual(self.migrations(gateway).get(reason), 1)
        gateway.wait_idle()
        return gateway, stream, running, other

    def test_killed(self):
        gateway, stream, running, other = self.check(
            lambda engine: engine.vanish(), stream_options={"include_usage": True})
        usage = stream.chunks[-1]["usage"]
        self.assertEqual(usage, {"prompt_tokens": 2, "completion_tokens": 20, "total_tokens": 22})
        body = json.loads(other.asked[-1]["body"])
        self.assertLess(body["max_tokens"], 20)
        self.assertTrue(body["prompt"].startswith("a w4 w5 w6"))
        gateway.stop()

    def test_killed_chat(self):
        gateway, stream, running, other = self.check(lambda engine: engine.vanish(), path=CHAT)
        body = json.loads(other.asked[-1]["body"])
        self.assertTrue(body["continue_final_message"])
        self.assertFalse(body["add_generation_prompt"])
        self.assertEqual([message["role"] for message in body["messages"]], ["user", "assistant"])
        gateway.stop()

    def test_killed_in_the_middle_of_an_event(self):
        gateway, *_ = self.check(lambda engine: setattr(engine, "die_after", 9))
        gateway.stop()

    def test_cut_in_good_order(self):
        gateway, *_ = self.check(lambda engine: setattr(engine, "cut_after", 9))
        gateway.stop()

    def test_error_event(self):
        gateway, *_ = self.check(lambda engine: setattr(engine, "error_after", 9), reason=("continued", "reported"))
        gateway.stop()

    def test_an_error_of_the_client_ends_its_stream(self):
        first, second = FakeEngine(), FakeEngine()
        gateway = self.start(first, second)
        for engine in (first, second):
            engine.error_after, engine.error_code, engine.cut_after = 3, 400, 4
        answer = gateway.post(COMPLETIONS, {"prompt": "a w4", "max_tokens": 20, "stream": True})
        events = [json.loads(line[6:]) for line in answer.body.decode().split("\n\n") if line]
        self.assertEqual("".join(event["choices"][0]["text"] for event in events[:-1]), words(5, 3))
        self.assertEqual(events[-1]["error"]["code"], 400)
        self.assertEqual(len(first.asked) + len(second.asked), 1)
        self.finish(gateway)

    def test_a_stream_waits_for_an_engine_that_is_busy(self):
        first, second = FakeEngine(), FakeEngine()
        gateway = self.start(first, second)
        first.pause = second.pause = 0.005
        stream = gateway.stream(COMPLETIONS, prompt="a w4", max_tokens=20)
        self.addCleanup(stream.close)
        stream.read(3)
        running, other = (first, second) if first.asked else (second, first)
        other.status = 429
        running.vanish()
        wait_until(lambda: len(other.asked) >= 2, 20, "the other engine is not asked again")
        other.status = 200
        self.assertEqual(text_of(stream.finish()), words(5, 20))
        self.finish(gateway)

    def test_silence(self):
        gateway, *_ = self.check(
            lambda engine: setattr(engine, "freeze_after", 9), options=(*FAST, "--silence-timeout", "400ms"),
            reason=("continued", "silent"))
        gateway.stop()

    def test_by_token_ids(self):
        gateway, stream, running, other = self.check(lambda engine: engine.vanish(), return_token_ids=True)
        prompt = json.loads(other.asked[-1]["body"])["prompt"]
        self.assertEqual(prompt[:4], [1, 2, 3, 1005])
        ids = [token for choice in stream.choices() for token in choice["token_ids"]]
        self.assertEqual(ids, list(range(1005, 1025)))
        gateway.stop()

    def test_the_only_engine_comes_back(self):
        engine = FakeEngine()
        engine.pause = 0.005
        gateway = self.start(engine)
        stream = gateway.stream(COMPLETIONS, prompt="a w4", max_tokens=20).read(4)
        engine.vanish()
        time.sleep(0.3)
        engine.listen()
        stream.finish()
        self.assertEqual(text_of(stream), words(5, 20))
        self.finish(gateway)

    def test_what_cannot_go_on_says_so(self):
        for reason, path, fields in (
            ("n", COMPLETIONS, dict(n=2)),
            ("logprobs", COMPLETIONS, dict(logprobs=0)),
            ("structured_output", CHAT, dict(response_format={"type": "json_object"})),
        ):
            engines = [FakeEngine(), FakeEngine()]
            for engine in engines:
                engine.pause = 0.005
            gateway = self.start(*engines)
            prompt = {"prompt": "a w4"} if path == COMPLETIONS else {"messages": [{"role": "user", "content": "w4"}]}
            stream = gateway.stream(path, max_tokens=30, **prompt, **fields).read(5)
            next(engine for engine in engines if engine.asked).vanish()
            while stream.next() is not None:
                pass
            stream.close()
            self.assertEqual(stream.chunks[-1]["error"]["code"], "stream_interrupted")
            self.assertFalse(stream.done)
            self.assertEqual(self.migrations(gateway), {("refused", reason): 1})
            self.finish(gateway)

    def test_several_prompts_are_whole_or_cut(self):
        engine = FakeEngine()
        # In place of the end: the first prompt's choice is whole by then, and of the other one there is nothing.
        engine.cut_after = 20
        gateway = self.start(engine)
        stream = gateway.stream(COMPLETIONS, prompt=["a w4", "b w7"], max_tokens=20)
        while stream.next() is not None:
            pass
        stream.close()
        self.assertEqual(stream.chunks[-1]["error"]["code"], "stream_interrupted")
        self.assertFalse(stream.done)
        # With one prompt it was whole.
        self.assertEqual(text_of(gateway.stream(COMPLETIONS, prompt=["a w4"], max_tokens=20).finish()), words(5, 20))
        self.finish(gateway)

    def test_an_engine_that_refuses_to_go_on(self):
        engines = [FakeEngine(), FakeEngine()]
        for engine in engines:
            engine.pause, engine.refuses_continuation = 0.005, True
        gateway = self.start(*engines)
        stream = gateway.stream(CHAT, messages=[{"role": "user", "content": "w4"}], max_tokens=30).read(5)
        next(engine for engine in engines if engine.asked).vanish()
        while stream.next() is not None:
            pass
        stream.close()
        self.assertIn("error", stream.chunks[-1])
        self.assertEqual(self.migrations(gateway)[("refused", "refused")], 1)
        self.finish(gateway)


class ClientTests(ProxyTestCase):
    def test_a_client_that_leaves_ends_the_engines_work(self):
        engine = FakeEngine()
        engine.pause = 0.01
        gateway = self.start(engine)
        stream = gateway.stream(COMPLETIONS, prompt="a w4", max_tokens=10_000).read(3)
        began = time.monotonic()
        stream.abort()
        wait_until(lambda: engine.cancelled == 1, 5, "the engine works on")
        self.assertLess(time.monotonic() - began, 1 * serving.PATIENCE)
        engine.freeze_after = 0
        connection = gateway.connect()
        body = b'{"prompt":"x"}'
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        wait_until(lambda: len(engine.asked) == 2, 5, "no request")
        connection.close()
        wait_until(lambda: engine.cancelled == 2, 5, "the engine works on")
        self.finish(gateway)

    def test_a_client_that_does_not_read_stops_the_engine(self):
        engine = FakeEngine()
        engine.word = lambda number: f" {number:01000}"
        gateway = self.start(engine)
        body = json.dumps({"prompt": "a w4", "max_tokens": 40_000, "stream": True}).encode()
        connection = gateway.connect()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        before = -1
        while engine.sent != before or before == 0:
            before = engine.sent
            time.sleep(0.5)
        self.assertLess(engine.sent, 30_000, "nothing held the engine back")
        tail = b""
        while b"[DONE]" not in tail:
            piece = connection.recv(1 << 20)
            self.assertTrue(piece, "the stream broke off")
            tail = (tail + piece)[-64:]
        self.assertEqual(engine.sent, 40_001)
        connection.close()
        self.finish(gateway)


class RealEngineTests(unittest.TestCase):
    """Two whole Tandems behind one gateway: a greedy stream is the same when one of them is killed in the middle."""

    LONG = 200

    def test_kill(self):
        servers = [Server(engines=1).launch(), Server(engines=1).launch()]
        for server in servers:
            self.addCleanup(server.discard)
        gateway = Gateway(*(f"http://127.0.0.1:{server.port}" for server in servers), options=FAST)
        self.addCleanup(gateway.discard)
        for server in servers:
            wait_until(server.is_ready, 60, server.output)
        gateway.start()
        gateway.wait_for_all_engines()
        fields = dict(
            prompt="Once upon a time, in a small village by the sea,", temperature=0, max_tokens=self.LONG,
            ignore_eos=True)
        chat = dict(
            messages=[{"role": "user", "content": "Tell me a story about a lighthouse."}], temperature=0,
            max_tokens=self.LONG, ignore_eos=True)
        usage = dict(stream_options={"include_usage": True})
        text = gateway.complete(**fields)["choices"][0]["text"]
        said = gateway.chat(**chat)["choices"][0]["message"]["content"]
        for path, fields, more, undisturbed in (
            (COMPLETIONS, fields, dict(return_token_ids=True), text), (COMPLETIONS, fields, usage, text),
            (CHAT, chat, usage, said),
        ):
            for server in servers:
                server.wait_for_all_engines()
            gateway.wait_for_all_engines()
            stream = gateway.stream(path, **fields, **more).read(20)
            busy = next(server for server in servers if server.in_flight()[0] > 0)
            for process in busy.processes():
                # Some end with the first.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            stream.finish()
            self.assertEqual(text_of(stream), undisturbed)
            if more is usage:
                self.assertEqual(stream.chunks[-1]["usage"]["completion_tokens"], self.LONG)
            busy.process.wait(10)
            busy.launch()
        gateway.wait_idle()
        gateway.stop()


if __name__ == "__main__":
    unittest.main()
