"""`--engine-ports`: a port for each engine, for balancers that choose engines themselves."""
import copy
import os
import pathlib
import socket
import tempfile
import threading
import unittest

import serving
from fake_engine import FakeEngine
from serving import HOST, Server, wait_until
from test_proxy import CHAT, COMPLETIONS, FAST, text_of, words


def free_ports(count):
    """The first of so many ports in a row that nobody has."""
    for _ in range(100):
        first = serving.free_port()
        probes = []
        try:
            for port in range(first, first + count):
                probe = socket.socket()
                probes.append(probe)
                probe.bind((HOST, port))
            return first
        except (OSError, OverflowError):
            continue
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no ports in a row are free")


class Ports:
    """The port of an engine, asked like a server."""

    def __init__(self, server, first):
        self.server, self.first = server, first

    def __getitem__(self, engine):
        port = copy.copy(self.server)
        port.port = self.first + engine
        return port


class ExternalTests(unittest.TestCase):
    def start(self, *engines, options=(), roster=None):
        for engine in engines:
            self.addCleanup(engine.vanish)
        first = free_ports(4)
        where = ("--roster", str(roster)) if roster else ("--endpoints", ",".join(engine.url for engine in engines))
        options = (*FAST, "--engine-ports", str(first), *where, *options)
        gateway = Server(*options, engines=len(engines))
        gateway.command = lambda: [serving.BINARY, "gateway", "--port", str(gateway.port), *options]
        self.addCleanup(gateway.discard)
        gateway.start()
        gateway.wait_for_all_engines()
        return gateway, Ports(gateway, first)

    def finish(self, gateway):
        gateway.wait_idle()
        gateway.stop()

    def test_each_port_reaches_its_engine(self):
        engines = FakeEngine("one"), FakeEngine("two")
        gateway, ports = self.start(*engines)
        for index, name in enumerate(("one", "two")):
            port = ports[index]
            self.assertEqual([model["id"] for model in port.get("/v1/models").json["data"]], [name])
            self.assertEqual(port.get("/health").json, {"status": "ok", "engine": index})
            before = [len(engine.asked) for engine in engines]
            for _ in range(6):
                self.assertEqual(port.complete("w1", max_tokens=2)["choices"][0]["text"], words(2, 2))
            self.assertEqual(text_of(port.stream(CHAT, model=name, messages=[
                {"role": "user", "content": "w1"}], max_tokens=5).finish()), words(2, 5))
            before[index] += 7
            self.assertEqual([len(engine.asked) for engine in engines], before)
            other = port.post(COMPLETIONS, {"model": ("two", "one")[index], "prompt": "x"})
            self.assertEqual((other.status, other.error["code"]), (404, "model_not_found"))
            samples = port.metrics().samples
            self.assertEqual({dict(labels)["engine"] for _, labels in samples}, {str(index)})
            self.assertEqual(port.metrics().total("vllm:num_requests_running"), 0)
            self.assertEqual(port.metrics().total("vllm:num_requests_waiting"), 0)
            self.assertEqual(port.get("/load").json, {"server_load": 0})
            for path in ("/engines", "/ui", "/ui/events", "/nothing"):
                self.assertEqual(port.get(path).status, 404, path)
        # The port for all is as it was.
        self.assertEqual(gateway.get("/health").json["engines"], 2)
        self.finish(gateway)

    def test_no_other_engine_ever(self):
        first, second = FakeEngine("m"), FakeEngine("m")
        gateway, ports = self.start(first, second)
        first.status, first.headers = 429, {"Retry_After": "3"}
        self.assertEqual(ports[0].post(COMPLETIONS, {"prompt": "x"}).status, 429)
        first.status, first.headers = 500, {}
        self.assertEqual(ports[0].post(COMPLETIONS, {"prompt": "x"}).status, 500)
        first.status = 200
        # It dies in the middle of a stream, and before the beginning of another: both wait for it.
        first.pause = 0.01
        stream = ports[0].stream(COMPLETIONS, prompt="w0", max_tokens=60).read(3)
        first.vanish()
        wait_until(lambda: ports[0].health() == 503, 10, gateway.output)
        self.assertEqual(ports[1].health(), 200)
        self.assertEqual(gateway.health(), 200)
        answers = []
        asker = threading.Thread(target=lambda: answers.append(ports[0].complete("w7", max_tokens=1)))
        asker.start()
        wait_until(
            lambda: gateway.metrics().total("tandem_router_held_sequences") == 2, 10,
            lambda: gateway.get("/metrics").text)
        self.assertEqual(ports[0].metrics().total("tandem_engine_serving"), 0)
        first.listen()
        self.assertEqual(text_of(stream.finish()), words(1, 60))
        asker.join(20)
        self.assertEqual([answer["choices"][0]["text"] for answer in answers], [words(8, 1)])
        self.assertEqual(second.asked, [])
        self.finish(gateway)

    def test_waiting_ends(self):
        first, second = FakeEngine("m"), FakeEngine("m")
        gateway, ports = self.start(first, second, options=("--hold-timeout", "300ms"))
        first.vanish()
        wait_until(lambda: ports[0].health() == 503, 10, gateway.output)
        answer = ports[0].post(COMPLETIONS, {"prompt": "x"})
        self.assertEqual((answer.status, answer.error["code"]), (503, "unavailable"))
        self.assertEqual(second.asked, [])
        self.finish(gateway)

    def test_a_port_comes_with_its_engine(self):
        with tempfile.TemporaryDirectory(prefix="tdm", dir="/tmp") as directory:
            roster = pathlib.Path(directory) / "roster"
            first, second = FakeEngine("one"), FakeEngine("two")
            self.addCleanup(second.vanish)

            def write(*engines):
                new = roster.with_suffix(".new")
                new.write_text("".join(f"{engine.url}\n" for engine in engines))
                os.rename(new, roster)

            write(first)
            gateway, ports = self.start(first, roster=roster)
            self.assertIsNone(ports[1].health())
            write(first, second)
            wait_until(lambda: ports[1].health() == 200, 10, gateway.output)
            self.assertEqual(ports[1].complete("w1", max_tokens=1)["model"], "two")
            write(second)
            # It keeps its port, and the other is nobody's for now.
            wait_until(lambda: ports[0].health() == 503, 10, gateway.output)
            self.assertEqual(ports[0].post(COMPLETIONS, {"prompt": "x"}).status, 503)
            self.assertEqual(ports[1].health(), 200)
            self.finish(gateway)

    def test_a_port_that_is_taken(self):
        engine = FakeEngine()
        self.addCleanup(engine.vanish)
        gateway = Server(engines=1)
        self.addCleanup(gateway.discard)
        gateway.command = lambda: [
            serving.BINARY, "gateway", "--port", str(gateway.port), "--endpoints", engine.url,
            "--engine-ports", str(engine.port)]
        gateway.launch()
        self.assertNotEqual(gateway.process.wait(20), 0)
        self.assertIn(str(engine.port), gateway.output())


class ServeTests(unittest.TestCase):
    """Two real engines, whose sockets the supervisor holds."""

    FIELDS = dict(
        prompt="Once upon a time, in a small village by the sea,", temperature=0, max_tokens=250, ignore_eos=True)

    def test_kills(self):
        first = free_ports(2)
        server = Server("--engine-ports", str(first), engines=2)
        self.addCleanup(server.discard)
        server.start()
        server.wait_for_all_engines()
        ports = Ports(server, first)
        undisturbed = ports[0].complete(**self.FIELDS)["choices"][0]["text"]
        stream = ports[0].stream(COMPLETIONS, **self.FIELDS).read(5)
        server.kill(server.engine(0))
        wait_until(lambda: ports[0].health() == 503, 10, server.output)
        self.assertEqual(ports[1].health(), 200)
        # It goes on where it was, on the engine's next process.
        self.assertEqual(stream.finish().text(), undisturbed)
        wait_until(lambda: ports[0].health() == 200, 30, server.output)
        # The other one has never had anything to do.
        generated = server.metrics().all("tandem_engine_generated_tokens_total", engine="1")
        self.assertEqual(sum(generated.values()), 0)
        self.assertEqual(ports[1].complete(**self.FIELDS)["choices"][0]["text"], undisturbed)
        # The sockets outlive the gateway: who connects while it is away waits.
        server.kill(server.gateway())
        self.assertEqual(ports[1].complete("x", max_tokens=1)["usage"]["completion_tokens"], 1)
        self.assertEqual(ports[0].complete("x", max_tokens=1)["usage"]["completion_tokens"], 1)
        server.wait_for_all_engines()
        self.assertLessEqual({first, first + 1}, serving.listening_ports())
        server.wait_idle()
        server.stop()
        self.assertFalse({first, first + 1} & serving.listening_ports())


if __name__ == "__main__":
    unittest.main()
