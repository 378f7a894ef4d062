"""`tandem gateway --roster`: servers come and go as a file says, and no request notices."""
import os
import pathlib
import tempfile
import threading
import unittest

from fake_engine import FakeEngine
from serving import BINARY, Server, wait_until
from test_proxy import CHAT, COMPLETIONS, FAST, text_of, words


class RosterGateway(Server):
    """One `tandem gateway` whose servers stand in a file."""

    def __init__(self, roster, *options, engines=1):
        super().__init__(*FAST, *options, engines=engines)
        self.roster = roster

    def command(self):
        return [BINARY, "gateway", "--port", str(self.port), "--roster", str(self.roster), *self.options]


class RosterTests(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="tdm", dir="/tmp")
        self.addCleanup(self.directory.cleanup)
        self.roster = pathlib.Path(self.directory.name) / "roster"

    def fakes(self, *names):
        engines = [FakeEngine(name) for name in names]
        for engine in engines:
            self.addCleanup(engine.vanish)
        return engines

    def write(self, *engines, text=None):
        """By another file and a rename, so that no half of it is ever seen."""
        temporary = self.roster.with_suffix(".new")
        temporary.write_text(text if text is not None else "".join(f"{engine.url}\n" for engine in engines))
        os.rename(temporary, self.roster)

    def start(self, *options, engines=1):
        gateway = RosterGateway(self.roster, *options, engines=engines)
        self.addCleanup(gateway.discard)
        gateway.start()
        gateway.wait_for_all_engines()
        return gateway

    def wait_for_models(self, gateway, *names):
        def models():
            return [model["id"] for model in gateway.get("/v1/models").json["data"]]
        wait_until(lambda: sorted(models()) == sorted(names), 15, lambda: f"{models()}\n{gateway.output()}")

    def test_servers_come_and_go(self):
        one, two, three = self.fakes("one", "two", "three")
        self.write(one, two)
        gateway = self.start(engines=2)
        self.write(text=f"# now\nendpoints:\n  - {two.url}  # stays\n  - \"{three.url}/v1\"\n")
        self.wait_for_models(gateway, "two", "three")
        self.assertEqual(gateway.post(COMPLETIONS, {"model": "one", "prompt": "x"}).status, 404)
        for name in ("two", "three"):
            self.assertEqual(gateway.complete("w1", model=name, max_tokens=2)["choices"][0]["text"], words(2, 2))
        self.assertEqual(one.asked, [])
        # What took the place of another has its index, and of the one that is gone no series is left.
        serving = gateway.metrics().all("tandem_engine_serving")
        self.assertEqual({dict(labels)["engine"]: value for labels, value in serving.items()}, {"0": 1, "1": 1})
        self.write(two)
        self.wait_for_models(gateway, "two")
        wait_until(
            lambda: len(gateway.metrics().all("tandem_engine_serving")) == 1, 5, lambda: gateway.get("/metrics").text)
        gateway.wait_idle()
        gateway.stop()

    def test_open_streams_finish_where_they_are(self):
        old, new = self.fakes("m", "m")
        old.pause = 0.05
        self.write(old)
        gateway = self.start()
        stream = gateway.stream(COMPLETIONS, prompt="w0", max_tokens=80).read(3)
        self.write(new)
        wait_until(lambda: gateway.complete("w5", max_tokens=1) and new.asked, 10, gateway.output)
        asked = len(old.asked)
        for _ in range(5):
            gateway.complete("w5", max_tokens=1)
        self.assertEqual(len(old.asked), asked)
        self.assertEqual(text_of(stream.finish()), words(1, 80))
        self.assertEqual(old.cancelled, 0)
        self.assertEqual(gateway.metrics().total("tandem_router_retries_total"), 0)
        # Then nothing is left of it, not even a probe.
        wait_until(lambda: not old.open, 5, lambda: f"{len(old.open)} connections are open")
        gateway.wait_idle()
        gateway.stop()

    def test_a_leaving_server_may_die(self):
        old, new = self.fakes("m", "m")
        old.pause = 0.05
        self.write(old)
        gateway = self.start()
        stream = gateway.stream(CHAT, messages=[{"role": "user", "content": "w0"}], max_tokens=80).read(4)
        self.write(new)
        wait_until(lambda: gateway.complete("w5", max_tokens=1) and new.asked, 10, gateway.output)
        old.vanish()
        self.assertEqual(text_of(stream.finish()), words(1, 80))
        gateway.wait_idle()
        gateway.stop()

    def test_bad_content_changes_nothing(self):
        one, two = self.fakes("one", "two")
        self.write(one)
        gateway = self.start()
        complaint = f"{self.roster}:2: "
        self.write(text=f"{two.url}\nftp://secret:1\n")
        wait_until(lambda: complaint in gateway.output(), 10, gateway.output)
        self.write(text="# nothing\n")
        wait_until(lambda: "it names no endpoint" in gateway.output(), 10, gateway.output)
        os.unlink(self.roster)
        wait_until(lambda: "it cannot be read" in gateway.output(), 10, gateway.output)
        # Two more looks at what is not there.
        threading.Event().wait(2.2)
        self.assertEqual(gateway.output().count("it cannot be read"), 1)
        self.assertEqual(gateway.output().count(complaint), 1)
        self.assertEqual(gateway.complete("w1", model="one", max_tokens=1)["choices"][0]["text"], words(2, 1))
        self.write(two)
        self.wait_for_models(gateway, "two")
        gateway.stop()

    def test_a_mounted_directory_is_swapped(self):
        """As Kubernetes does it: the file is a link into a directory that is a link, which is replaced by a rename."""
        one, two = self.fakes("one", "two")
        base = pathlib.Path(self.directory.name)
        for name, engine in (("a", one), ("b", two)):
            (base / name).mkdir()
            (base / name / "roster").write_text(f"{engine.url}\n")
            # The same time and size: only the inode tells them apart.
            os.utime(base / name / "roster", (1, 1))
        os.symlink("a", base / "..data")
        os.symlink("..data/roster", self.roster)
        gateway = self.start()
        self.wait_for_models(gateway, "one")
        os.symlink("b", base / "..new")
        os.rename(base / "..new", base / "..data")
        self.wait_for_models(gateway, "two")
        gateway.stop()

    def test_a_bad_roster_at_the_start(self):
        self.write(text="\nlink+tcp:127.0.0.1:1\n")
        gateway = RosterGateway(self.roster)
        self.addCleanup(gateway.discard)
        gateway.launch()
        self.assertNotEqual(gateway.process.wait(20), 0)
        self.assertIn(f"{self.roster}:2: ", gateway.output())

    def test_load_while_the_roster_changes(self):
        engines = self.fakes("m", "m", "m")
        self.write(*engines)
        gateway = self.start("--threads", "2", engines=3)
        wrong, count, over = [], [0], threading.Event()

        def ask(number):
            while not over.is_set():
                count[0] += 1
                stream = gateway.stream(COMPLETIONS, prompt=f"w{number}", max_tokens=20).finish()
                if text_of(stream) != words(number + 1, 20):
                    wrong.append(text_of(stream))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for engine in engines:
            engine.pause = 0.005
        for thread in threads:
            thread.start()
        for keep in ((0,), (1,), (2, 0), (1, 2), (0, 1, 2)):
            self.write(*(engines[index] for index in keep))
            wait_until(
                lambda: gateway.serving_engines() == len(keep), 15, gateway.output)
        over.set()
        for thread in threads:
            thread.join(30)
        self.assertEqual(wrong, [])
        self.assertGreater(count[0], 20)
        self.assertEqual(gateway.metrics().total("tandem_router_retries_total"), 0)
        gateway.wait_idle()
        gateway.stop()


    def test_a_name(self):
        engine, = self.fakes("m")
        # It may have an IPv6 address, too, where nobody listens.
        self.write(text=f"dns+http://localhost:{engine.port}/v1\n")
        gateway = RosterGateway(self.roster, "--dns-interval", "100ms")
        self.addCleanup(gateway.discard)
        gateway.start()
        for _ in range(3):
            self.assertEqual(gateway.complete("w1", max_tokens=2)["choices"][0]["text"], words(2, 2))
        self.assertEqual(engine.asked[-1]["headers"]["host"], f"localhost:{engine.port}")
        self.assertIn(f"http://127.0.0.1:{engine.port}", gateway.get("/engines").text)
        gateway.wait_idle()
        gateway.stop()

    def test_a_name_that_nobody_knows(self):
        engine, = self.fakes("m")
        self.write(text=f"dns+http://nobody.invalid:80\n{engine.url}\n")
        gateway = self.start("--dns-interval", "100ms")
        wait_until(lambda: "nobody.invalid cannot be found" in gateway.output(), 30, gateway.output)
        self.assertEqual(gateway.complete("w1", max_tokens=2)["choices"][0]["text"], words(2, 2))
        self.assertEqual(gateway.output().count("nobody.invalid cannot be found"), 1)
        gateway.stop()


class LinkTests(unittest.TestCase):
    """Engines of Tandem itself come and go: those of a server that has a gateway of its own besides."""

    def test_engines_come_and_go(self):
        server = Server(engines=2)
        self.addCleanup(server.discard)
        server.start()
        server.wait_for_all_engines()
        sockets = [str(next(server.runtime.rglob(f"engine-{index}.sock"))) for index in range(2)]
        name = server.get("/v1/models").json["data"][0]["id"]
        roster = server.base / "roster"

        def write(*indices):
            new = roster.with_suffix(".new")
            new.write_text("".join(f"link+unix:{sockets[index]}\n" for index in indices))
            os.rename(new, roster)

        def generated(index):
            metrics = server.metrics()
            return metrics.total("tandem_engine_generated_tokens_total", engine=str(index))

        fields = dict(
            prompt="Once upon a time, in a small village by the sea,", temperature=0, max_tokens=1500, ignore_eos=True)
        undisturbed = server.complete(**fields)["choices"][0]["text"]
        write(0)
        gateway = RosterGateway(roster)
        gateway.options = (os.environ.get("TANDEM_INTEGRATION_MODEL") or name, *gateway.options)
        self.addCleanup(gateway.discard)
        gateway.start()
        self.assertEqual(gateway.get("/health").json["engines"], 1)
        server.wait_idle()
        before = [generated(index) for index in range(2)]
        stream = gateway.stream(COMPLETIONS, **fields).read(3)
        write(1)
        # The engine that leaves finishes what it has; what comes goes to the other.
        wait_until(lambda: sockets[1] in gateway.get("/engines").text, 10, gateway.output)
        self.assertEqual(gateway.metrics().total("tandem_gateway_unfinished_sequences", model_name=name), 1)
        self.assertEqual(stream.finish().text(), undisturbed)
        self.assertEqual(gateway.complete(**{**fields, "max_tokens": 7})["usage"]["completion_tokens"], 7)
        server.wait_idle()
        wait_until(
            lambda: [generated(index) - before[index] for index in range(2)] == [1500, 7], 5,
            lambda: f"{before} {[generated(index) for index in range(2)]}")
        self.assertEqual(gateway.metrics().total("tandem_router_migrations_total"), 0)
        gateway.stop()
        server.wait_idle()
        server.stop()


if __name__ == "__main__":
    unittest.main()
