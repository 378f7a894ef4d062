"""An HTTP client that notices every byte: what was answered, when each token came, and how a connection ended."""
import asyncio
import contextlib
import dataclasses
import json
import socket
import struct
import time

HOST = "127.0.0.1"


class Broken(Exception):
    """The connection ended before the answer did."""


class Malformed(Exception):
    """The answer is not what HTTP or server-sent events look like."""


@dataclasses.dataclass
class Reply:
    """What came of one request: whole, or as far as it got."""

    began: float
    status: int = 0
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""
    # Of a stream: (time, event's name, text of its data).
    events: list = dataclasses.field(default_factory=list)
    ended: float = 0.0

    @property
    def is_stream(self):
        return self.headers.get("content-type", "").startswith("text/event-stream")


def _parse(text):
    # As it is written: equal numbers must be equal digits.
    return json.loads(text, parse_float=str)


parse = _parse


class EventReader:
    """Cuts server-sent events out of bytes; anything that is none is an error."""

    def __init__(self):
        self.rest = b""

    def feed(self, data):
        self.rest += data
        *whole, self.rest = self.rest.split(b"\n\n")
        return [event for event in map(self._event, whole) if event]

    @staticmethod
    def _event(text):
        name, lines = "", []
        for line in text.split(b"\n"):
            if line.startswith(b":"):
                continue
            if line.startswith(b"event: "):
                name = line[7:].decode()
            elif line.startswith(b"data: "):
                lines.append(line[6:].decode())
            else:
                raise Malformed(f"not an event: {line[:200]!r}")
        return (name, "\n".join(lines)) if lines else None


class Connection:
    """One connection, used for one request at a time."""

    def __init__(self, port, receive_buffer=None):
        self.port, self.receive_buffer = port, receive_buffer
        self.opened = 0.0
        self.reader = self.writer = None

    @property
    def is_open(self):
        return self.writer is not None and not self.writer.is_closing() and not self.reader.at_eof()

    async def open(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        try:
            # From here on a gateway that dies may take the connection with it.
            self.opened = time.monotonic()
            await asyncio.get_running_loop().sock_connect(sock, (HOST, self.port))
            limit = 4096 if self.receive_buffer else 65536
            self.reader, self.writer = await asyncio.open_connection(sock=sock, limit=limit)
        except BaseException:
            sock.close()
            raise
        return self

    def close(self):
        if self.writer is not None:
            self.writer.close()

    async def closed(self):
        self.close()
        if self.writer is not None:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(self.writer.wait_closed(), 5)

    def abort(self):
        """Vanishes: the server sees a reset."""
        if self.writer is None:
            return
        sock = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def send(self, data):
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError as error:
            raise Broken(f"while sending: {error!r}") from error

    async def ask(self, method, path, body=None, on_event=None, reply=None, pace=None):
        """Sends a request and reads the answer into `reply`, which keeps what came if the connection breaks.

        `on_event` hears of each event and may stop the reading by returning true; `pace` is awaited between reads.
        """
        reply = reply or Reply(time.monotonic())
        lines = [f"{method} {path} HTTP/1.1", "Host: chaos"]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        await self.send("\r\n".join(lines + ["", ""]).encode() + (body or b""))
        await self._head(reply)
        events = EventReader() if reply.is_stream else None
        pieces = []
        async for piece in self._body(reply):
            if events is None:
                pieces.append(piece)
                continue
            now = time.monotonic()
            for name, data in events.feed(piece):
                reply.events.append((now, name, data))
                if on_event and on_event(reply):
                    return reply
            if pace:
                await pace()
        reply.body = b"".join(pieces)
        reply.ended = time.monotonic()
        if events is not None and events.rest:
            raise Malformed(f"the stream ends within an event: {events.rest[:200]!r}")
        if reply.headers.get("connection", "").lower() == "close":
            self.close()
        return reply

    async def _line(self):
        try:
            line = await self.reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Broken(repr(error)) from error
        return line[:-2]

    async def _head(self, reply):
        words = (await self._line()).split(b" ", 2)
        if len(words) < 2 or words[0] != b"HTTP/1.1" or not words[1].isdigit():
            raise Malformed(f"not a status line: {words!r}")
        headers = {}
        while line := await self._line():
            name, colon, value = line.partition(b":")
            if not colon:
                raise Malformed(f"not a header: {line!r}")
            headers[name.decode().lower()] = value.decode().strip()
        reply.status, reply.headers = int(words[1]), headers

    async def _exactly(self, count):
        try:
            return await self.reader.readexactly(count)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Broken(repr(error)) from error

    async def _body(self, reply):
        if reply.headers.get("transfer-encoding", "").lower() != "chunked":
            if "content-length" not in reply.headers:
                raise Malformed(f"an answer without a length: {reply.headers}")
            yield await self._exactly(int(reply.headers["content-length"]))
            return
        while True:
            line = await self._line()
            try:
                count = int(line, 16)
            except ValueError:
                raise Malformed(f"not the length of a chunk: {line!r}") from None
            data = await self._exactly(count + 2)
            if data[-2:] != b"\r\n":
                raise Malformed(f"a chunk ends with {data[-2:]!r}")
            if count == 0:
                return
            yield data[:-2]
