"""A listener between a client and the server that passes every byte on as it is and writes down what went by.

So a client that nobody changed can be asked afterwards what it sent and what it was refused.
"""
import asyncio
import contextlib
import dataclasses
import json
import threading
import time

HOST = "127.0.0.1"
# Bytes of a body that are kept.
KEPT = 4 << 20


class Messages:
    """Cuts one direction of a connection into HTTP messages; calls `finish(head, body)` for each."""

    def __init__(self, finish, has_body=lambda head: True):
        self.finish, self.has_body = finish, has_body
        self.data, self.head, self.body = b"", None, b""
        self.left, self.chunked, self.until_close = 0, False, False

    def feed(self, data):
        self.data += data
        while self._step():
            pass

    def close(self):
        if self.head is not None:
            self._end()

    def _end(self):
        head, body = self.head, self.body
        self.head, self.body = None, b""
        self.finish(head, body)

    def _keep(self, data):
        if len(self.body) < KEPT:
            self.body += data

    def _step(self):
        if self.head is None:
            text, separator, rest = self.data.partition(b"\r\n\r\n")
            if not separator:
                return False
            self.head, self.data = Head(text), rest
            headers = self.head.headers
            self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
            self.left = int(headers.get("content-length", 0))
            if not self.has_body(self.head):
                self.chunked, self.left = False, 0
            self.until_close = (
                self.head.status is not None and self.has_body(self.head) and not self.chunked
                and "content-length" not in headers)
            if not self.chunked and not self.until_close and self.left == 0:
                self._end()
            return True
        if self.until_close:
            self._keep(self.data)
            self.data = b""
            return False
        if self.chunked:
            line, separator, rest = self.data.partition(b"\r\n")
            if not separator:
                return False
            size = int(line.split(b";")[0], 16)
            if len(rest) < size + 2:
                return False
            self._keep(rest[:size])
            self.data = rest[size + 2 :]
            if size == 0:
                self._end()
            return True
        part = self.data[: self.left]
        self._keep(part)
        self.data = self.data[len(part) :]
        self.left -= len(part)
        if self.left == 0:
            self._end()
            return bool(self.data)
        return False


class Head:
    def __init__(self, text):
        first, *lines = text.decode("latin-1").split("\r\n")
        self.words = first.split(" ", 2)
        self.status = int(self.words[1]) if first.startswith("HTTP/") else None
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()


@dataclasses.dataclass
class Exchange:
    """One request and its answer."""

    began: float
    method: str
    path: str
    headers: dict
    body: bytes
    status: int = 0
    answer_headers: dict = dataclasses.field(default_factory=dict)
    answer: bytes = b""
    whole: bool = False

    @property
    def fields(self):
        """The request's document; empty if there is none."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def documents(self):
        """What was answered: one document, or the events of a stream."""
        if self.answer_headers.get("content-type", "").startswith("text/event-stream"):
            lines = [line[6:] for line in self.answer.split(b"\n") if line.startswith(b"data: ")]
            return [json.loads(line) for line in lines if line != b"[DONE]"]
        try:
            return [json.loads(self.answer)]
        except ValueError:
            return []

    @property
    def usage(self):
        """The last usage that was answered."""
        found = [document["usage"] for document in self.documents
                 if isinstance(document, dict) and document.get("usage")]
        return found[-1] if found else None

    @property
    def error(self):
        """The refusal: that of the status, or an error event of a stream; None if all went well."""
        for document in self.documents:
            if isinstance(document, dict) and "error" in document:
                return document["error"]
        return {"message": self.answer[:300].decode(errors="replace")} if self.status >= 400 else None


class Recorder:
    """Listens on a port of its own for as long as the `with` block runs."""

    def __init__(self, port):
        self.target = port
        self.exchanges = []
        self._lock = threading.Lock()

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        started = threading.Event()

        def run():
            asyncio.set_event_loop(self._loop)
            server = self._loop.run_until_complete(asyncio.start_server(self._serve, HOST, 0))
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            self._loop.run_forever()
            server.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0.05))
            self._loop.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert started.wait(10), "the recorder does not start"
        return self

    def __exit__(self, *reason):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def between(self, began, ended):
        """Exchanges that began in this time (seconds of `time.time()`)."""
        with self._lock:
            return [exchange for exchange in self.exchanges if began <= exchange.began <= ended]

    async def _serve(self, reader, writer):
        try:
            back, forth = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.close()
            return
        waiting = []

        def asked(head, body):
            exchange = Exchange(time.time(), head.words[0], head.words[1], head.headers, body)
            waiting.append(exchange)
            with self._lock:
                self.exchanges.append(exchange)

        def answered(head, body):
            if head.status < 200 or not waiting:
                return
            exchange = waiting.pop(0)
            exchange.status, exchange.answer_headers, exchange.answer = head.status, head.headers, body
            exchange.whole = True

        def answer_has_body(head):
            return head.status >= 200 and head.status not in (204, 304) and not (
                waiting and waiting[0].method == "HEAD")

        requests, answers = Messages(asked), Messages(answered, answer_has_body)

        async def pass_on(source, sink, messages):
            try:
                while data := await source.read(65536):
                    messages.feed(data)
                    sink.write(data)
                    await sink.drain()
            except (ConnectionError, OSError):
                pass
            messages.close()
            sink.close()

        # At the end, tasks of connections that clients keep open are cancelled.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(pass_on(reader, forth, requests), pass_on(back, writer, answers))
