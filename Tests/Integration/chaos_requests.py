"""What clients ask, mixed at random from a seed: bodies of every kind, and how the client behaves that sends them."""
import dataclasses
import itertools
import json
import random

COMPLETIONS, CHAT, RESPONSES = "/v1/completions", "/v1/chat/completions", "/v1/responses"

_WORDS = (
    "river stone lantern market winter harbour engine paper signal garden copper window letter bridge forest morning "
    "number little quiet broken silver early distant common secret open").split()
_SCRIPTS = [
    "Grüße aus Köln: schöne Straßen, süße Äpfel. ", "こんにちは世界。東京は夜の七時。", "Привет, как дела? Всё хорошо. ",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈 flag 👍🏽 thumbs 🧑🏿‍🚀 ", "e\u0301 n\u0303 o\u0308 combining \u202eright to left\u202c ",
    "नमस्ते दुनिया। ", "مرحبا بالعالم. ", "한국어 문장입니다. ", "\t\tcode {\n  \"k\": [1, 2]\n}\n", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝕞𝕒𝕥𝕙 ",
]
# Characters whose bytes are tokens of their own: biases towards those make answers of characters cut in pieces.
SPLIT_CHARACTERS = "🦀🏔️鬱龘ぱ🥨ꙮ"

_SCHEMAS = [
    {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120}}, "required": ["name", "age"], "additionalProperties": False},
    {"type": "array", "minItems": 2, "maxItems": 9, "items": {"enum": ["red", "green", "blue", 7, None]}},
    {"type": "object", "properties": {"at": {"type": "string", "format": "date"}, "tags": {"type": "array", "maxItems": 4, "items": {"type": "string", "pattern": "^[a-z]{2,6}$"}}}, "required": ["at", "tags"]},
    {"anyOf": [{"type": "number"}, {"type": "object", "properties": {"v": {"type": "boolean"}}, "required": ["v"]}]},
]
_PATTERNS = ["([a-z]{1,9} ){1,40}", "\\d{4}-\\d\\d-\\d\\d( \\d\\d:\\d\\d){0,9}", "(yes|no|(perhaps ){1,7}not)", "[🦀-🦉é]{3,30}x"]
_GRAMMAR = 'root ::= item ("," item){1,12}\nitem ::= "(" [a-c]+ (item | "") ")"\n'
_TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {
        "type": "object", "properties": {
            "city": {"type": "string", "maxLength": 10}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"], "additionalProperties": False}}}
    for name in ("get_weather", "find_hotel")
]


@dataclasses.dataclass
class Body:
    """One of the pool: what is asked, and later what must be answered."""

    key: int
    kind: str
    path: str
    fields: dict
    # Cut from the undisturbed answer: (where in it, as a share; how long).
    stop: tuple = None
    expected: dict = None

    @property
    def data(self):
        return json.dumps(self.fields, ensure_ascii=False).encode()

    @property
    def is_stream(self):
        return self.fields.get("stream", False)


@dataclasses.dataclass
class Request:
    """One that is sent: a body of the pool and a behaviour, or noise without a body."""

    number: int
    behaviour: str
    body: Body = None
    # Whether it comes on a connection of its own.
    fresh: bool = False
    # What the behaviour needs: after how many events a client leaves, how long it pauses.
    amount: float = 0
    noise: bytes = b""

    @property
    def kind(self):
        return self.body.kind if self.body else self.behaviour


class Author:
    """Writes bodies. `pieces` are token ids whose bytes are parts of characters, `longest` the most new tokens."""

    def __init__(self, seed, pieces, longest=200, long_prompt=900):
        self.random = random.Random(f"bodies {seed}")
        self.pieces, self.longest, self.long_prompt = pieces, longest, long_prompt
        # Where long prompts are short, these are few: each has some dozens of tokens.
        self.most_scripts = min(6, max(1, long_prompt // 30))
        self.prefixes = [self._words(self.random.randint(long_prompt // 3, long_prompt)) for _ in range(4)]

    def _words(self, count):
        return " ".join(self.random.choice(_WORDS) for _ in range(count))

    def _prompt(self):
        draw = self.random.random()
        if draw < 0.25:
            return self.random.choice(self.prefixes) + " " + self._words(self.random.randint(1, 20))
        if draw < 0.45:
            return "".join(self.random.choice(_SCRIPTS) for _ in range(self.random.randint(1, self.most_scripts)))
        if draw < 0.55:
            # Answers that copy are guessed ahead.
            return " ".join([self._words(6)] * self.random.randint(3, 8))
        return self._words(self.random.randint(1, 40))

    def _length(self):
        return min(self.longest, self.random.choice([1, 2, 5, 16, 40, 60, 80, 120, 200, 200]))

    def _sampling(self):
        draw, fields = self.random, {}
        if draw.random() < 0.35:
            fields["temperature"] = 0
        else:
            fields.update(temperature=round(draw.uniform(0.2, 1.5), 2), seed=draw.randint(-(2**40), 2**63 - 1))
            if draw.random() < 0.3:
                fields["top_p"] = round(draw.uniform(0.3, 1), 2)
            if draw.random() < 0.3:
                fields["top_k"] = draw.randint(1, 200)
            if draw.random() < 0.2:
                fields["min_p"] = round(draw.uniform(0, 0.3), 2)
        if draw.random() < 0.3:
            fields.update(
                presence_penalty=round(draw.uniform(-1, 1), 2), frequency_penalty=round(draw.uniform(-1, 1), 2),
                repetition_penalty=round(draw.uniform(0.8, 1.5), 2))
        if draw.random() < 0.25:
            chosen = draw.sample(self.pieces, min(len(self.pieces), draw.randint(2, 12)))
            fields["logit_bias"] = {str(token): draw.randint(4, 16) for token in chosen}
        if draw.random() < 0.7:
            fields["ignore_eos"] = True
        if draw.random() < 0.15:
            fields["priority"] = draw.randint(-3, 3)
        if draw.random() < 0.1:
            fields["cache_salt"] = f"salt {draw.randint(0, 2)}"
        return fields

    def _structure(self):
        draw = self.random.randint(0, 4)
        if draw == 0:
            return {"response_format": {
                "type": "json_schema", "json_schema": {"name": "a", "schema": self.random.choice(_SCHEMAS)}}}
        if draw == 1:
            return {"guided_regex": self.random.choice(_PATTERNS)}
        if draw == 2:
            return {"guided_grammar": _GRAMMAR}
        if draw == 3:
            return {"guided_json": self.random.choice(_SCHEMAS)}
        return {"guided_choice": ["alpha and omega", "alphabet", "beta 🦀 crab", "gamma"]}

    def _stream(self, fields):
        if self.random.random() < 0.65:
            fields["stream"] = True
            if self.random.random() < 0.6:
                fields["stream_options"] = {"include_usage": True}
                if self.random.random() < 0.3:
                    fields["stream_options"]["continuous_usage_stats"] = True

    def body(self, key):
        kinds = ["completions"] * 8 + ["chat"] * 8 + ["responses"] * 3 + ["structured"] * 5 + ["choices"] * 4
        kinds += ["tools"] * 2 + ["prompts", "echo", "embeddings", "score", "rerank", "classify", "refused"]
        kind = self.random.choice(kinds)
        path, fields, stop = getattr(self, "_" + kind)()
        return Body(key, kind, path, fields, stop)

    # Kinds

    def _completions(self):
        fields = {"prompt": self._prompt(), "max_tokens": self._length(), **self._sampling()}
        self._stream(fields)
        if self.random.random() < 0.35:
            fields["logprobs"] = self.random.choice([0, 1, 5, 20])
        if self.random.random() < 0.3:
            fields["return_token_ids"] = True
        if not fields.get("stream") and self.random.random() < 0.25:
            fields["prompt_logprobs"] = self.random.randint(0, 3)
        if self.random.random() < 0.1:
            fields["truncate_prompt_tokens"] = self.random.randint(1, 40)
        if self.random.random() < 0.1:
            fields["min_tokens"] = min(5, fields["max_tokens"])
        stop = None
        if self.random.random() < 0.35:
            stop = (self.random.random(), self.random.randint(1, 12))
            if self.random.random() < 0.3:
                fields["include_stop_str_in_output"] = True
        return COMPLETIONS, fields, stop

    def _chat(self):
        messages = [{"role": "user", "content": self._prompt()}]
        if self.random.random() < 0.3:
            messages.insert(0, {"role": "system", "content": self._words(12)})
        if self.random.random() < 0.2:
            messages += [{"role": "assistant", "content": self._words(8)}, {"role": "user", "content": self._prompt()}]
        fields = {"messages": messages, "max_tokens": self._length(), **self._sampling()}
        self._stream(fields)
        if self.random.random() < 0.35:
            fields.update(logprobs=True, top_logprobs=self.random.choice([0, 1, 5, 20]))
        if self.random.random() < 0.3:
            fields["return_token_ids"] = True
        if not fields.get("stream") and self.random.random() < 0.2:
            fields["prompt_logprobs"] = self.random.randint(0, 3)
        stop = (self.random.random(), self.random.randint(1, 12)) if self.random.random() < 0.35 else None
        return CHAT, fields, stop

    def _responses(self):
        fields = {"input": self._prompt(), "max_output_tokens": self._length()}
        fields.update(temperature=round(self.random.uniform(0, 1.3), 2), seed=self.random.randint(0, 2**40))
        if self.random.random() < 0.6:
            fields["stream"] = True
        if self.random.random() < 0.3:
            fields.update(include=["message.output_text.logprobs"], top_logprobs=self.random.randint(0, 5))
        if self.random.random() < 0.2:
            fields["text"] = {"format": {
                "type": "json_schema", "name": "a", "schema": self.random.choice(_SCHEMAS), "strict": True}}
        return RESPONSES, fields, None

    def _structured(self):
        path, fields, _ = self._chat() if self.random.random() < 0.5 else self._completions()
        fields.update(self._structure())
        fields.pop("min_tokens", None)
        fields.pop("ignore_eos", None)
        return path, fields, None

    def _choices(self):
        path, fields, _ = self._chat() if self.random.random() < 0.5 else self._completions()
        fields["max_tokens"] = min(fields["max_tokens"], 80)
        fields.update(temperature=round(self.random.uniform(0.5, 1.3), 2), seed=self.random.randint(0, 2**50))
        fields["n"] = self.random.randint(2, 5)
        if path == COMPLETIONS and not fields.get("stream") and self.random.random() < 0.4:
            fields["best_of"] = fields["n"] + self.random.randint(1, 3)
        if self.random.random() < 0.2:
            fields.update(self._structure())
            fields.pop("min_tokens", None)
        return path, fields, None

    def _tools(self):
        path, fields, _ = self._chat()
        fields.pop("logit_bias", None)
        fields["tools"] = _TOOLS
        fields["max_tokens"] = 150
        fields["tool_choice"] = self.random.choice(
            ["required", "required", {"type": "function", "function": {"name": "find_hotel"}}, "auto"])
        return path, fields, None

    def _prompts(self):
        _, fields, _ = self._completions()
        fields["prompt"] = [self._prompt() for _ in range(self.random.randint(2, 5))]
        fields["max_tokens"] = min(fields["max_tokens"], 60)
        return COMPLETIONS, fields, None

    def _echo(self):
        _, fields, _ = self._completions()
        fields.update(echo=True, max_tokens=self.random.choice([0, 10, 60]), logprobs=self.random.randint(0, 3))
        fields.pop("min_tokens", None)
        fields.pop("prompt_logprobs", None)
        return COMPLETIONS, fields, None

    def _embeddings(self):
        fields = {
            "input": [self._prompt() for _ in range(self.random.randint(1, 12))],
            "encoding_format": self.random.choice(["float", "base64"]),
            "pooling": self.random.choice(["last", "mean"]),
        }
        return "/v1/embeddings", fields, None

    def _score(self):
        return "/v1/score", {
            "text_1": self._prompt(), "text_2": [self._prompt() for _ in range(self.random.randint(1, 8))],
            "method": self.random.choice(["judge", "cosine"])}, None

    def _rerank(self):
        return "/v1/rerank", {
            "query": self._words(5), "documents": [self._prompt() for _ in range(self.random.randint(1, 8))]}, None

    def _classify(self):
        return "/classify", {"input": [self._prompt(), self._words(9)], "labels": [" yes", " no", " maybe"]}, None

    def _refused(self):
        """What cannot be served is refused in the same words, whatever happens meanwhile."""
        return self.random.choice([
            (COMPLETIONS, {"prompt": "x", "max_tokens": -1}, None),
            (COMPLETIONS, {"prompt": "x " * 40000, "max_tokens": 4}, None),
            (CHAT, {"messages": [{"role": "user", "content": "x"}], "guided_regex": "(a"}, None),
            (CHAT, {"messages": []}, None),
            (COMPLETIONS, {"prompt": "x", "model": "nobody"}, None),
        ])


_NOISE = [
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HELO chaos\r\n\r\n", b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{\"prompt\"", b"\r\n\r\n\r\n\0\0\0\0\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
]


def requests(seed, pool):
    """The sequence that is sent, without end: the same for the same seed and pool."""
    draw = random.Random(f"requests {seed}")
    streams = [body for body in pool if body.is_stream and body.fields.get("max_tokens", 50) >= 16]
    # What is long in bytes fills the buffers between the server and a client that does not read.
    wide = [body for body in streams if body.fields.get("logprobs")] or streams
    for number in itertools.count():
        chance = draw.random()
        fresh = draw.random() < 0.35
        if chance < 0.80 or not streams:
            request = Request(number, "plain", draw.choice(pool), fresh)
        elif chance < 0.88:
            request = Request(number, "cancel", draw.choice(streams), True, draw.randint(0, 40))
        elif chance < 0.93:
            request = Request(number, "slow", draw.choice(wide), True, draw.uniform(0.05, 1.5))
        elif chance < 0.95:
            request = Request(number, "garbage", noise=draw.choice(_NOISE))
        elif chance < 0.97:
            text = draw.choice(pool).data
            head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(text)
            whole = head + text
            request = Request(
                number, "half", amount=draw.uniform(0, 2), noise=whole[: draw.randrange(1, len(whole))])
        elif chance < 0.995:
            request = Request(number, "idle", amount=draw.uniform(0.5, 8))
        else:
            request = Request(number, "flood")
        yield request
