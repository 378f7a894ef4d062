"""A small OpenAI server that misbehaves on demand, for tests of what stands before such servers.

Its model counts: after a prompt that ends with "w7" it says " w8 w9 …", so that an answer that goes on elsewhere can be
compared with an undisturbed one. Every server runs in threads of this process.
"""
import json
import socket
import struct
import threading
import time


class FakeEngine:
    """Behaviour is set by attributes, for all requests from then on:

    model: its name. pause: seconds before each token. die_after: after so many events the server vanishes with a reset.
    cut_after: after so many events the connection ends in good order. freeze_after: after so many events nothing comes
    any more; 0 freezes before the response. status: answers with this status, and headers, in place of an answer.
    garbage: bytes to answer with. big_header: bytes of a header. split: sends every byte string in pieces of so many bytes.
    error_after: after so many events an error event with error_code. body and kind: what other endpoints answer. closes: it
    ends its connection after that. refuses_continuation: 400 for continue_final_message.
    """

    def __init__(self, model="fake", port=0):
        self.model, self.pause = model, 0
        self.die_after = self.cut_after = self.freeze_after = self.error_after = None
        self.status, self.headers = 200, {}
        self.garbage, self.big_header, self.split = None, 0, 0
        self.refuses_continuation = False
        self.error_code = 500
        self.body, self.kind, self.closes = None, "audio/wav", False
        self.token_ids = False
        self.frozen = False
        self.health_status = 200
        self.words = None
        self.requests = []
        self.open = set()
        self.cancelled = 0
        self.sent = 0
        self.lock = threading.Lock()
        self.listener = None
        self.port = port
        self.listen()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self):
        """Requests that were no probes."""
        return [request for request in self.requests if request["method"] == "POST"]

    def listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self.listener = listener
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.open.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def vanish(self):
        """As after kill -9: nobody listens, all connections are reset."""
        # A thread that waits in accept holds the socket: shutting it down wakes it.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            connections, self.open = self.open, set()
        for connection in connections:
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RD)
            except OSError:
                pass
            connection.close()

    def serve(self, connection):
        try:
            rest = b""
            while True:
                request, rest = self.read(connection, rest)
                if request is None:
                    return
                with self.lock:
                    self.requests.append(request)
                if not self.answer(connection, request):
                    return
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(connection)
            connection.close()

    def read(self, connection, data):
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return None, b""
            data += piece
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(data) < length:
            piece = connection.recv(1 << 20)
            if not piece:
                return None, b""
            data += piece
        body, data = data[:length], data[length:]
        return dict(method=method, target=target, headers=headers, body=body), data

    # Answers

    def send(self, connection, data):
        if not self.split:
            connection.sendall(data)
            return
        for start in range(0, len(data), self.split):
            connection.sendall(data[start : start + self.split])
            time.sleep(0.0005)

    def respond(self, connection, status, body, kind="application/json", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send(connection, "\r\n".join(lines + ["", ""]).encode() + body)
        return True

    def wait_for_the_end(self, connection):
        """Says nothing; returns when the other end is gone."""
        try:
            while connection.recv(65536):
                pass
        finally:
            self.cancelled += 1
        return False

    def answer(self, connection, request):
        path = request["target"].partition("?")[0]
        while self.frozen:
            time.sleep(0.01)
        if path == "/health":
            return self.respond(connection, self.health_status, {})
        if path == "/v1/models":
            card = {"id": self.model, "object": "model", "created": 7, "owned_by": "fake", "max_model_len": 99}
            return self.respond(connection, 200, {"object": "list", "data": [card]})
        if request["method"] != "POST":
            return self.respond(connection, 404, {"path": path})
        if self.freeze_after == 0:
            return self.wait_for_the_end(connection)
        if self.die_after == 0:
            self.vanish()
            return False
        if self.garbage is not None:
            self.send(connection, self.garbage)
            return False
        if self.status != 200:
            return self.respond(
                connection, self.status, {"error": {"message": "as told", "code": self.status}}, **self.headers)
        if self.big_header:
            return self.respond(connection, 200, {}, X_Big="x" * self.big_header)
        fields = json.loads(request["body"])
        if path == "/v1/completions":
            return self.generate(connection, fields, fields["prompt"], chat=False)
        if path == "/v1/chat/completions":
            if fields.get("continue_final_message") and self.refuses_continuation:
                return self.respond(connection, 400, {"error": {"message": "no such field", "code": 400}})
            return self.generate(connection, fields, fields["messages"][-1]["content"], chat=True)
        if self.body is not None:
            self.respond(connection, 200, self.body, kind=self.kind, Connection="close" if self.closes else "keep-alive")
            return not self.closes
        return self.respond(connection, 200, {"echo": fields, "path": request["target"]}, X_Engine=self.model)

    @staticmethod
    def next_number(prompt):
        if isinstance(prompt, list):
            return prompt[-1] - 1000 + 1 if prompt and prompt[-1] >= 1000 else 0
        last = prompt.split(" ")[-1]
        return int(last[1:]) + 1 if last[:1] == "w" and last[1:].isdigit() else 0

    def word(self, number):
        return f" w{number}"

    def generate(self, connection, fields, prompt, chat):
        # Of several texts it answers the first.
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
            prompt = prompt[0]
        number = self.next_number(prompt)
        count = fields.get("max_tokens") or fields.get("max_completion_tokens") or 16
        tokens = [(self.word(number + i), 1000 + number + i) for i in range(count)]
        prompt_tokens = len(prompt) if isinstance(prompt, list) else len(prompt.split(" "))
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": count, "total_tokens": prompt_tokens + count}
        identity = {"id": f"{self.port}-{len(self.requests)}", "created": int(time.time()), "model": self.model}
        if not fields.get("stream"):
            text = "".join(word for word, _ in tokens)
            choice = {"index": 0, "finish_reason": "length"}
            choice.update({"message": {"role": "assistant", "content": text}} if chat else {"text": text})
            if self.pause:
                time.sleep(self.pause * count)
            if self.freeze_after is not None:
                return self.wait_for_the_end(connection)
            return self.respond(connection, 200, {**identity, "choices": [choice], "usage": usage})
        self.send(
            connection, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\nX-Engine: here\r\n\r\n")
        events = []
        if chat:
            events.append({**identity, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        for index, (word, token) in enumerate(tokens):
            choice = {"index": 0, "finish_reason": "length" if index == count - 1 else None}
            choice.update({"delta": {"content": word}} if chat else {"text": word})
            if fields.get("return_token_ids"):
                choice["token_ids"] = [token]
                if index == 0:
                    choice["prompt_token_ids"] = [1, 2, 3] if isinstance(prompt, str) else prompt
            events.append({**identity, "choices": [choice]})
        if (fields.get("stream_options") or {}).get("include_usage"):
            events.append({**identity, "choices": [], "usage": usage})
        for index, event in enumerate(events + ["[DONE]"]):
            if index == self.die_after:
                self.send(connection, b"30\r\ndata: {\"id\":")
                self.vanish()
                return False
            if index == self.cut_after:
                self.send(connection, b"0\r\n\r\n")
                return True
            if index == self.freeze_after:
                return self.wait_for_the_end(connection)
            if index == self.error_after:
                event = {"error": {"message": "EngineCore died", "code": self.error_code}}
            if self.pause:
                time.sleep(self.pause)
            text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
            data = b"data: " + text.encode() + b"\n\n"
            try:
                self.send(connection, f"{len(data):x}\r\n".encode() + data + b"\r\n")
            except OSError:
                self.cancelled += 1
                raise
            self.sent += 1
        self.send(connection, b"0\r\n\r\n")
        return True
