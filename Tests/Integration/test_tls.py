"""TLS, with clients and towards servers: `--tls-certificate`, `--tls-key`, `https://` endpoints, `--endpoint-ca`.

Skipped if the program was built without it; `Scripts/check-tls` builds one that has it, and lets nothing be skipped.
"""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest

import serving
from certificates import Authority
from fake_engine import FakeEngine
from serving import BINARY, HOST, PATIENCE, Server, wait_until
from test_engine_ports import free_ports
from test_proxy import CHAT, COMPLETIONS, FAST, text_of, words

MISCONFIGURED = 78
STORY = dict(prompt="Once upon a time, in a small village by the sea,", temperature=0, ignore_eos=True)

authority = stranger = None
identity = ()


def setUpModule():
    global authority, stranger, identity
    reason = None
    if shutil.which("openssl") is None:
        reason = "there is no openssl to make certificates with"
    elif not os.access(BINARY, os.X_OK):
        raise AssertionError(f"no program at {BINARY}")
    elif "built without TLS" in gateway_start("--tls-certificate", "a", "--tls-key", "b")[1]:
        reason = "the program was built without TLS: swift build -c release --traits TLS"
    if reason:
        print(f"test_tls: {reason}")
        if os.environ.get("TANDEM_REQUIRE_TLS"):
            raise AssertionError(reason)
        raise unittest.SkipTest(reason)
    authority, stranger = Authority(), Authority()
    identity = authority.local()


def tearDownModule():
    for one in (authority, stranger):
        if one is not None:
            one.remove()


def gateway_start(*options, environment=None):
    """Exit code and output of a gateway that is not to start."""
    done = subprocess.run(
        [BINARY, "gateway", "--port", "0", "--endpoints", "http://127.0.0.1:9", *map(str, options)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * PATIENCE,
        env={**os.environ, **(environment or {})})
    return done.returncode, done.stdout + done.stderr


def flags(pair=None):
    certificate, key = pair or identity
    return "--tls-certificate", str(certificate), "--tls-key", str(key)


class SecureMixin:
    """Asks by TLS, and trusts the test's authority alone."""

    def context(self):
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def connection(self, timeout):
        return http.client.HTTPSConnection(HOST, self.port, timeout=timeout * PATIENCE, context=self.context())

    def connect(self, timeout=60):
        return self.context().wrap_socket(
            super().connect(timeout), server_hostname=HOST, suppress_ragged_eofs=False)

    def connect_plainly(self, timeout=60):
        return super().connect(timeout)

    def handshakes(self, outcome):
        return self.metrics().total("tandem_tls_handshakes_total", outcome=outcome)


class SecureServer(SecureMixin, Server):
    pass


class SecureGateway(SecureMixin, Server):
    """`tandem gateway` with TLS for its clients, in front of `endpoints`."""

    def __init__(self, *endpoints, options=(), pair=None):
        super().__init__(*FAST, *flags(pair), *options, engines=len(endpoints))
        self.endpoints = endpoints

    def command(self):
        return [
            BINARY, "gateway", "--port", str(self.port), "--endpoints", ",".join(self.endpoints), *self.options]


class SecureEngine(FakeEngine):
    """A fake that speaks TLS, and keeps the names by which it was asked."""

    def __init__(self, pair=None, **more):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*map(str, pair or identity))
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.sni_callback = lambda connection, name, context: self.names.append(name)
        self.names, self.refused = [], 0
        super().__init__(**more)

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def serve(self, connection):
        with self.lock:
            self.open.discard(connection)
        try:
            secure = self.context.wrap_socket(connection, server_side=True)
        except OSError:
            self.refused += 1
            connection.close()
            return
        with self.lock:
            self.open.add(secure)
        super().serve(secure)


def curl(*arguments, trust=True):
    """Exit code and output of curl."""
    command = ["curl", "--silent", "--show-error", "--max-time", str(60 * PATIENCE), "--noproxy", "*"]
    command += ["--cacert", str(authority.certificate)] if trust else []
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=90 * PATIENCE)
    return done.returncode, done.stdout + done.stderr


class StartTests(unittest.TestCase):
    """What cannot be used is said at the start."""

    def assert_refused(self, *texts, options, environment=None):
        code, output = gateway_start(*options, environment=environment)
        self.assertEqual(code, MISCONFIGURED, output)
        for text in texts:
            self.assertIn(text, output)

    def test_files_that_cannot_be_used(self):
        certificate, key = identity
        other = authority.local()
        with tempfile.TemporaryDirectory(prefix="tdm", dir="/tmp") as directory:
            def file(name, text):
                path = pathlib.Path(directory) / name
                path.write_text(text)
                return path

            missing = pathlib.Path(directory) / "missing.pem"
            self.assert_refused("--tls-certificate", str(missing), "No such file", options=flags((missing, key)))
            self.assert_refused("--tls-key", str(missing), options=flags((certificate, missing)))
            self.assert_refused("it is no file", options=flags((directory, key)))
            self.assert_refused("is not the key of the first certificate", options=flags((certificate, other[1])))
            self.assert_refused("no certificate in PEM", options=flags((file("junk", "\0junk" * 99), key)))
            self.assert_refused("no certificate in PEM", options=flags((file("empty", ""), key)))
            self.assert_refused("no certificate in PEM", options=flags((key, key)))
            self.assert_refused("no private key in PEM", options=flags((certificate, certificate)))
            cut = file("cut", certificate.read_text()[:200])
            self.assert_refused("no certificate in PEM", options=flags((cut, key)))
            # The authority's certificate before the server's own.
            turned = file("turned", authority.certificate.read_text() + certificate.read_text())
            self.assert_refused("has to stand before", options=flags((turned, key)))
            locked = pathlib.Path(directory) / "locked.key"
            subprocess.run(
                ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked], check=True,
                timeout=60)
            self.assert_refused("pass phrase", options=flags((certificate, locked)))
            self.assert_refused("--endpoint-ca", "missing.pem", options=("--endpoint-ca", missing))
            self.assert_refused("--endpoint-ca", "no certificate", options=("--endpoint-ca", key))

    def test_one_without_the_other(self):
        certificate, key = identity
        self.assert_refused("--tls-key, too", options=("--tls-certificate", certificate))
        self.assert_refused("--tls-certificate, too", options=("--tls-key", key))
        self.assert_refused(
            "--tls-key, too", options=(), environment={"TANDEM_TLS_CERTIFICATE": str(certificate)})
        for options, variables in (
            (("--tls-certificate", str(certificate)), {}), ((), {"TANDEM_TLS_KEY": str(key)}),
            (flags((certificate, authority.certificate)), {}),
        ):
            done = subprocess.run(
                [BINARY, "serve", "--port", "0", *options], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=60 * PATIENCE, env={**os.environ, **variables})
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("key", done.stderr)
            self.assertNotIn("is served by", done.stdout)

    def test_what_is_doubtful_is_said(self):
        certificate, key = authority.local(days=-1)
        key.chmod(0o644)
        engine = FakeEngine()
        self.addCleanup(engine.vanish)
        gateway = SecureGateway(engine.url, pair=(certificate, key))
        self.addCleanup(gateway.discard)
        gateway.launch()
        wait_until(lambda: "serving on https://" in gateway.output(), 20, gateway.output)
        self.assertIn(f"warning: {certificate}: a certificate in it has expired", gateway.output())
        self.assertIn(f"warning: {key}: every user may read this key; chmod 600", gateway.output())
        code, output = curl(f"https://{HOST}:{gateway.port}/health")
        self.assertEqual(code, 60, output)
        gateway.stop()


class GatewayCase(unittest.TestCase):
    """A gateway with TLS for its clients, in front of a fake."""

    options = ()

    def setUp(self):
        self.engine = FakeEngine()
        self.addCleanup(self.engine.vanish)
        self.gateway = SecureGateway(self.engine.url, options=self.options)
        self.addCleanup(self.gateway.discard)
        self.gateway.start()
        self.gateway.wait_for_all_engines()
        self.url = f"https://localhost:{self.gateway.port}"

    def finish(self):
        self.gateway.wait_idle()
        self.gateway.stop()


class ClientTests(GatewayCase):
    def test_curl(self):
        code, output = curl(
            "--http2", self.url + "/live", self.url + "/live", "-o", "/dev/null", "-o", "/dev/null", "-w",
            "%{http_version} %{ssl_verify_result} %{num_connects}\n")
        self.assertEqual((code, output), (0, "1.1 0 1\n1.1 0 0\n"))
        body = json.dumps({"prompt": "x", "max_tokens": 5, "stream": True})
        code, output = curl("-N", self.url + COMPLETIONS, "-d", body)
        self.assertEqual(code, 0)
        self.assertEqual(output.count("data: {"), 5)
        self.assertTrue(output.endswith("data: [DONE]\n\n"))
        for version in ("1.2", "1.3"):
            code, output = curl(f"--tlsv{version}", "--tls-max", version, self.url + "/live")
            self.assertEqual(code, 0, output)
        self.finish()

    def test_big_bodies(self):
        text = "x" * (8 << 20)
        answer = self.gateway.post("/v1/embeddings", {"model": "fake", "input": text})
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json["echo"]["input"], text)
        # Too big is an answer, too, not a broken connection.
        answer = self.gateway.post("/v1/embeddings", b"x" * (33 << 20), headers={"Expect": "100-continue"})
        self.assertEqual(answer.status, 413)
        self.finish()

    def test_requests_in_one_record_and_in_pieces(self):
        request = b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n"
        with self.gateway.connect() as connection:
            self.assertEqual(connection.selected_alpn_protocol(), "http/1.1")
            self.assertIn(connection.version(), ("TLSv1.2", "TLSv1.3"))
            connection.sendall(request * 2 + request[:-2] + b"Connection: close\r\n\r\n")
            # The end of the last answer is shown as such: without it this would be an error.
            self.assertEqual(serving.read_raw(connection).count(b"HTTP/1.1 200 OK"), 3)
        with self.gateway.connect() as connection:
            for byte in request:
                connection.sendall(bytes([byte]))
            self.assertEqual(serving.read_answer(connection).status, 200)
        with self.gateway.connect() as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            self.assertIn(b" 400 ", serving.read_raw(connection))
        self.finish()

    def test_what_is_no_tls(self):
        before = self.gateway.handshakes("plaintext")
        for _ in range(3):
            with self.gateway.connect_plainly() as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertNotIn(b"HTTP", serving.read_raw(connection))
        wait_until(lambda: self.gateway.handshakes("plaintext") == before + 3, 10, self.gateway.output)
        for junk in (b"\0" * 99, b"\x16\x03\x01\xff\xff" + b"\1" * 99, os.urandom(4096), b"\x15\x03\x03\0\2\2\x28"):
            with self.gateway.connect_plainly() as connection:
                with contextlib.suppress(OSError):
                    connection.sendall(junk)
                    connection.shutdown(socket.SHUT_WR)
                self.assertNotIn(b"HTTP", serving.read_raw(connection))
        # Says nothing at all.
        incomplete = self.gateway.handshakes("incomplete")
        self.gateway.connect_plainly().close()
        wait_until(lambda: self.gateway.handshakes("incomplete") == incomplete + 1, 10, self.gateway.output)
        self.assertEqual(self.gateway.health(), 200)
        self.finish()

    def test_old_versions_and_distrust(self):
        # Python and curl would not even ask for them by the security level of their library.
        code, output = curl("--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", self.url + "/live")
        self.assertEqual(code, 35, output)
        wait_until(lambda: self.gateway.handshakes("version") == 1, 10, self.gateway.output)
        for version in ("1.2", "1.3"):
            code, output = curl(
                "--cacert", stranger.certificate, f"--tlsv{version}", "--tls-max", version, self.url + "/live",
                trust=False)
            self.assertEqual(code, 60, output)
        wait_until(lambda: self.gateway.handshakes("distrusted") == 2, 10, self.gateway.output)
        self.finish()

    def test_a_handshake_that_never_ends(self):
        with self.gateway.connect_plainly() as silent, self.gateway.connect_plainly() as slow:
            slow.sendall(b"\x16\x03\x01")
            # The deadline of request heads, 10 s.
            self.assertEqual(serving.read_raw(silent, seconds=60), b"")
            self.assertEqual(serving.read_raw(slow, seconds=60), b"")
        wait_until(lambda: self.gateway.handshakes("incomplete") >= 2, 10, self.gateway.output)
        self.finish()

    def test_clients_that_leave(self):
        self.engine.pause = 0.01
        for goodbye in (True, False):
            stream = self.gateway.stream(COMPLETIONS, prompt="x", max_tokens=100_000).read(3)
            if goodbye:
                # Says the end of TLS, and leaves the connection open: as without TLS, that is the client's end.
                stream.connection.sock.settimeout(0)
                with contextlib.suppress(OSError, ValueError):
                    stream.connection.sock.unwrap()
            else:
                stream.abort()
            wait_until(lambda: self.gateway.in_flight()[0] == 0, 20, self.gateway.output)
            stream.close()
        self.finish()

    def test_the_end_of_the_gateway(self):
        self.engine.pause = 0.01
        idle = self.gateway.connect()
        stream = self.gateway.stream(COMPLETIONS, prompt="x", max_tokens=60).read(3)
        half = self.gateway.connect_plainly()
        self.gateway.process.send_signal(signal.SIGINT)
        self.assertEqual(text_of(stream.finish()), words(0, 60))
        self.assertEqual(serving.read_raw(idle), b"")
        idle.close()
        half.close()
        wait_until(lambda: self.gateway.process.poll() is not None, 20, self.gateway.output)
        self.assertEqual(self.gateway.process.returncode, 0)


class LongWords(FakeEngine):
    """Fills buffers."""

    def word(self, number):
        return f" w{number}" + "-" * 4000


class SlowReaderTests(unittest.TestCase):
    TOKENS = 4000  # 16 MB

    def start(self, *options):
        self.engine = LongWords()
        self.addCleanup(self.engine.vanish)
        gateway = SecureGateway(self.engine.url, options=options)
        self.addCleanup(gateway.discard)
        gateway.start()
        gateway.wait_for_all_engines()
        return gateway

    def ask(self, gateway):
        """A connection with a small window, on which a stream was asked for and nothing was read."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        plain.settimeout(60 * PATIENCE)
        plain.connect((HOST, gateway.port))
        connection = gateway.context().wrap_socket(plain, server_hostname=HOST, suppress_ragged_eofs=False)
        body = json.dumps({"model": "fake", "prompt": "x", "max_tokens": self.TOKENS, "stream": True}).encode()
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: "
            + str(len(body)).encode() + b"\r\n\r\n" + body)
        return connection

    def held_back(self, engine):
        """Waits until the engine can send nothing more, and returns how much it has sent."""
        seen = []

        def stands_still():
            seen.append(engine.sent)
            return len(seen) > 100 and seen[-1] == seen[-100] > 0

        wait_until(stands_still, 60, "the engine goes on sending")
        return engine.sent

    def test_a_slow_reader_holds_its_engine_back_and_gets_all(self):
        gateway = self.start()
        with self.ask(gateway) as connection:
            sent = self.held_back(self.engine)
            self.assertLess(sent, self.TOKENS)
            # Others are served meanwhile.
            self.assertEqual(gateway.health(), 200)
            response = http.client.HTTPResponse(connection, method="POST")
            response.begin()
            text = response.read().decode()
            events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
            self.assertEqual(events.pop(), "[DONE]")
            got = [json.loads(event)["choices"][0]["text"] for event in events]
            self.assertEqual(got, [self.engine.word(number) for number in range(self.TOKENS)])
        gateway.wait_idle()
        gateway.stop()

    def test_a_client_that_reads_nothing_is_cut(self):
        gateway = self.start("--slow-client-timeout", "1s")
        with self.ask(gateway) as connection:
            self.held_back(self.engine)
            wait_until(lambda: gateway.in_flight()[0] == 0, 30, gateway.output)
            # What is missing is seen as missing: no end of TLS comes.
            with self.assertRaises(OSError):
                while connection.recv(65536):
                    pass
        gateway.wait_idle()
        gateway.stop()


class PlainServer(FakeEngine):
    """Answers whatever comes as servers do that took it for HTTP."""

    def read(self, connection, data):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        return None, b""


class UpstreamTests(unittest.TestCase):
    """Servers behind the gateway that speak TLS."""

    def start(self, *engines, options=(), urls=None, waits=True, environment=None):
        for engine in engines:
            self.addCleanup(engine.vanish)
        options = (*FAST, "--endpoint-ca", str(authority.certificate), *options)
        urls = urls or [engine.url for engine in engines]
        gateway = Server(*options, engines=len(engines), environment=environment)
        gateway.command = lambda: [
            BINARY, "gateway", "--port", str(gateway.port), "--endpoints", ",".join(urls), *options]
        self.addCleanup(gateway.discard)
        gateway.launch()
        wait_until(lambda: gateway.health() is not None, 20, gateway.output)
        if waits:
            gateway.wait_for_all_engines()
        return gateway

    def test_passing(self):
        engine = SecureEngine()
        gateway = self.start(engine)
        text = "x" * (4 << 20)
        answer = gateway.post("/v1/embeddings", {"model": "fake", "input": text})
        self.assertEqual(answer.json["echo"]["input"], text)
        stream = gateway.stream(CHAT, messages=[{"role": "user", "content": "x"}], max_tokens=200).finish()
        self.assertEqual(text_of(stream), words(0, 200))
        # Connections are kept.
        self.assertEqual(set(engine.names), {"localhost"})
        self.assertLess(len(engine.names), len(engine.requests))
        self.assertEqual(engine.asked[0]["headers"]["host"], f"localhost:{engine.port}")
        gateway.wait_idle()
        gateway.stop()

    def test_addresses_and_names(self):
        engine = SecureEngine()
        gateway = self.start(engine, urls=[f"https://127.0.0.1:{engine.port}/v1"])
        self.assertEqual(gateway.complete("x", model="fake")["choices"][0]["text"], words(0, 16))
        # Addresses are not sent as names (RFC 6066, section 3).
        self.assertEqual(set(engine.names), {None})
        gateway.stop()
        engine.names.clear()
        gateway = self.start(engine, urls=[f"dns+https://localhost:{engine.port}"], waits=False)
        wait_until(lambda: gateway.health() == 200, 20, gateway.output)
        self.assertEqual(set(engine.names), {"localhost"})
        self.assertIn("https://", gateway.get("/engines").text)
        gateway.stop()

    def assert_refused(self, text, engine, url=None):
        gateway = self.start(engine, urls=[url or engine.url], waits=False)
        wait_until(lambda: text in gateway.output(), 20, gateway.output)
        self.assertEqual(gateway.health(), 503)
        self.assertEqual([request for request in engine.requests if request["method"] == "POST"], [])
        gateway.stop()

    def test_servers_that_are_not_trusted(self):
        self.assert_refused(
            "certificate is for another name", SecureEngine(authority.sign("DNS:elsewhere.example", "IP:10.1.2.3")))
        by_name = SecureEngine(authority.sign("DNS:localhost"))
        self.assert_refused("certificate is for another name", by_name, f"https://127.0.0.1:{by_name.port}")
        self.assert_refused("no authority that is trusted", SecureEngine(stranger.local()))
        self.assert_refused("has expired", SecureEngine(authority.local(days=-1)))
        gone = SecureEngine()
        gone.vanish()
        self.assert_refused("refused", gone)
        plain = PlainServer()
        self.assert_refused("does not speak TLS", plain, f"https://localhost:{plain.port}")

    def test_old_versions(self):
        engine = SecureEngine()
        engine.context.set_ciphers("DEFAULT@SECLEVEL=0")
        engine.context.minimum_version = ssl.TLSVersion.TLSv1
        engine.context.maximum_version = ssl.TLSVersion.TLSv1_1
        self.assert_refused("neither TLS 1.2 nor 1.3", engine)

    def test_a_server_that_never_agrees(self):
        with socket.socket() as listener:
            listener.bind((HOST, 0))
            listener.listen(16)
            mute = f"https://localhost:{listener.getsockname()[1]}"
            engine = SecureEngine()
            gateway = self.start(engine, urls=[mute, engine.url], waits=False)
            wait_until(lambda: "did not finish the TLS handshake in time" in gateway.output(), 20, gateway.output)
            wait_until(lambda: gateway.health() == 200, 20, gateway.output)
            self.assertEqual(gateway.complete("x", model="fake")["choices"][0]["text"], words(0, 16))
            gateway.stop()

    def test_streams_go_on_elsewhere(self):
        for how in ("die_after", "cut_after", "error_after"):
            first, second = SecureEngine(), SecureEngine()
            gateway = self.start(first, second)
            setattr(first, how, 7)
            setattr(second, how, None)
            texts = []
            for _ in range(4):
                texts.append(text_of(gateway.stream(COMPLETIONS, prompt="x", max_tokens=20).finish()))
            self.assertEqual(texts, [words(0, 20)] * 4, how)
            self.assertTrue(first.asked, how)
            gateway.wait_idle()
            gateway.stop()

    def test_an_answer_without_the_end_of_tls_is_not_whole(self):
        # Its length is not told, so only the end of the connection says where it ends.
        first, second = SecureEngine(), SecureEngine()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        first.garbage = head + b'{"half": '
        second.garbage = None
        gateway = self.start(first, second)
        answers = [gateway.post("/v1/embeddings", {"input": str(number)}) for number in range(4)]
        self.assertEqual([answer.json["echo"]["input"] for answer in answers], ["0", "1", "2", "3"])
        self.assertTrue(first.asked)
        gateway.stop()

    def test_a_slow_client_holds_its_engine_back(self):
        class Engine(SecureEngine, LongWords):
            pass

        engine = Engine()
        gateway = self.start(engine)
        tokens = SlowReaderTests.TOKENS
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        connection.connect((HOST, gateway.port))
        connection.settimeout(60 * PATIENCE)
        body = json.dumps({"model": "fake", "prompt": "x", "max_tokens": tokens, "stream": True}).encode()
        with connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: " + str(len(body)).encode()
                + b"\r\n\r\n" + body)
            self.assertLess(SlowReaderTests.held_back(self, engine), tokens)
            response = http.client.HTTPResponse(connection, method="POST")
            response.begin()
            self.assertEqual(response.read().count(b"data: {"), tokens)
        gateway.wait_idle()
        gateway.stop()

    def test_clients_that_leave_are_not_computed_for(self):
        engine = SecureEngine()
        engine.pause = 0.01
        gateway = self.start(engine)
        gateway.stream(COMPLETIONS, prompt="x", max_tokens=100_000).read(3).abort()
        wait_until(lambda: engine.cancelled == 1, 20, gateway.output)
        gateway.wait_idle()
        gateway.stop()

    def test_a_roster_names_them(self):
        first, second = SecureEngine(), SecureEngine()
        for engine in (first, second):
            self.addCleanup(engine.vanish)
        with tempfile.TemporaryDirectory(prefix="tdm", dir="/tmp") as directory:
            roster = pathlib.Path(directory) / "roster"
            roster.write_text(first.url + "\n")
            options = (*FAST, "--roster", str(roster))
            gateway = Server(
                *options, engines=2, environment={"TANDEM_ENDPOINT_CA": str(authority.certificate)})
            gateway.command = lambda: [BINARY, "gateway", "--port", str(gateway.port), *options]
            self.addCleanup(gateway.discard)
            gateway.start()
            fresh = roster.with_suffix(".new")
            fresh.write_text(f"{first.url}\n{second.url}\n")
            fresh.rename(roster)
            gateway.wait_for_all_engines()
            gateway.stop()

    def test_a_tandem_behind_a_tandem(self):
        engine = FakeEngine()
        self.addCleanup(engine.vanish)
        inner = SecureGateway(engine.url)
        self.addCleanup(inner.discard)
        inner.start()
        inner.wait_for_all_engines()
        outer = SecureGateway(
            f"https://localhost:{inner.port}/v1", options=("--endpoint-ca", str(authority.certificate)))
        self.addCleanup(outer.discard)
        outer.start()
        outer.wait_for_all_engines()
        stream = outer.stream(CHAT, messages=[{"role": "user", "content": "x"}], max_tokens=300).finish()
        self.assertEqual(text_of(stream), words(0, 300))
        code, output = curl(f"https://localhost:{outer.port}/v1/models")
        self.assertEqual(json.loads(output)["data"][0]["id"], "fake")
        outer.wait_idle()
        outer.stop()
        inner.stop()


class RenewalTests(unittest.TestCase):
    REQUEST = b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n"

    def serial(self, port):
        with socket.create_connection((HOST, port), timeout=30 * PATIENCE) as plain:
            context = ssl.create_default_context(cafile=str(authority.certificate))
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                return connection.getpeercert()["serialNumber"]

    def test_new_files_are_taken_without_a_restart(self):
        pair = authority.local(name="renewed")
        engine = FakeEngine()
        self.addCleanup(engine.vanish)
        gateway = SecureGateway(engine.url, pair=pair)
        self.addCleanup(gateway.discard)
        gateway.start()
        engine.pause = 0.05
        old = self.serial(gateway.port)
        kept = gateway.connect()
        kept.sendall(self.REQUEST)
        self.assertEqual(serving.read_answer(kept).status, 200)
        fresh = authority.local()
        # First the key alone: it does not belong to the certificate, which stays.
        os.replace(fresh[1], pair[1])
        wait_until(lambda: "the certificate stays as it was" in gateway.output(), 60, gateway.output)
        self.assertEqual(self.serial(gateway.port), old)
        os.replace(fresh[0], pair[0])
        wait_until(lambda: self.serial(gateway.port) != old, 60, gateway.output)
        self.assertIn("new connections get the certificate that is there now", gateway.output())
        # Who was there before stays.
        with kept:
            kept.sendall(self.REQUEST)
            self.assertEqual(serving.read_answer(kept).status, 200)
        gateway.stop()


class ServeTests(unittest.TestCase):
    """`tandem serve` with two real engines, by a file of settings."""

    @staticmethod
    def busy(server):
        running = server.metrics().all("vllm:num_requests_running")
        return [dict(labels)["engine"] for labels, value in running.items() if value]

    def test_serving(self):
        ports = free_ports(2)
        with tempfile.TemporaryDirectory(prefix="tdm", dir="/tmp") as directory:
            settings = pathlib.Path(directory) / "tandem.yaml"
            settings.write_text(f"tls-certificate: {identity[0]}\ntls-key: /nowhere\nengine-ports: {ports}\n")
            server = SecureServer(
                "--config", str(settings), engines=2, environment={"TANDEM_TLS_KEY": str(identity[1])})
            self.addCleanup(server.discard)
            server.start()
            server.wait_for_all_engines()
            url = f"https://{HOST}:{server.port}"
            wait_until(lambda: "Ctrl-C" in server.output(), 20, server.output)
            self.assertIn(f"endpoint  {url}/v1", server.output())
            self.assertIn(f"curl -N --cacert {identity[0]} {url}/v1/chat/completions", server.output())
            status = subprocess.run(
                [BINARY, "status"], capture_output=True, text=True, timeout=60 * PATIENCE,
                env={**os.environ, "XDG_RUNTIME_DIR": str(server.runtime)})
            self.assertIn(f": {url}\n", status.stdout)
            for engine in range(2):
                code, output = curl(f"https://{HOST}:{ports + engine}/health")
                self.assertEqual(code, 0, output)
            undisturbed = server.complete(max_tokens=500, **STORY)["choices"][0]["text"]
            for _ in range(2):
                stream = server.stream(COMPLETIONS, max_tokens=500, **STORY).read(5)
                server.kill(server.engine(wait_until(lambda: self.busy(server), 10, "no engine runs anything")[0]))
                self.assertEqual(stream.finish().text(), undisturbed)
                server.wait_for_all_engines()
            # A new gateway shows the same certificate.
            server.kill(server.gateway())
            wait_until(lambda: server.health() == 200, 30, server.output)
            self.assertEqual(server.complete(max_tokens=500, **STORY)["choices"][0]["text"], undisturbed)
            server.wait_idle()
            server.stop()


if __name__ == "__main__":
    unittest.main()
