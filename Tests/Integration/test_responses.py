"""`/v1/responses` with the official client, which checks every field and event against its own types."""
import json
import unittest

import openai
import pydantic
from openai import OpenAI
from openai.types.responses import Response

from serving import HOST, ServerTestCase

QUESTION = "What is the capital of France? Answer with one word."
TEXT_EVENTS = [
    "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
]
CALL_EVENTS = [
    "response.created", "response.in_progress", "response.output_item.added",
    "response.function_call_arguments.done", "response.output_item.done", "response.completed",
]
WEATHER = {
    "type": "function", "name": "get_weather", "description": "Tells the weather of a city.", "strict": True,
    "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 30}}, "required": ["city"],
        "additionalProperties": False,
    },
}


class Capital(pydantic.BaseModel):
    city: str = pydantic.Field(max_length=30)
    country: str = pydantic.Field(max_length=30)


class ResponsesTests(ServerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Strict: what does not fit the client's types raises an error.
        cls.client = OpenAI(
            base_url=f"http://{HOST}:{cls.server.port}/v1", api_key="any", max_retries=0, timeout=120,
            _strict_response_validation=True)
        cls.name = cls.model["id"]
        if not hasattr(cls.client, "responses"):
            raise unittest.SkipTest("this version of the client has no responses")

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        super().tearDownClass()

    def create(self, **fields):
        return self.client.responses.create(model=self.name, **{"temperature": 0, "max_output_tokens": 24, **fields})

    def events(self, **fields):
        with self.create(**fields, stream=True) as stream:
            events = list(stream)
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
        return events

    @staticmethod
    def kinds(events):
        """The events in order, but for deltas."""
        return [event.type for event in events if not event.type.endswith(".delta")]

    @staticmethod
    def shown(response):
        """What two responses to the same request have in common."""
        plain = response.to_dict()
        for name in ("id", "created_at", "completed_at"):
            plain.pop(name)
        plain["usage"]["input_tokens_details"].pop("cached_tokens")
        for item in plain["output"]:
            item.pop("id")
            item.pop("call_id", None)
        return plain

    # Text

    def test_create(self):
        answer = self.create(input=QUESTION, metadata={"a": "b"}, user="u")
        self.assertIn("Paris", answer.output_text)
        self.assertEqual((answer.object, answer.status, answer.error), ("response", "completed", None))
        self.assertTrue(answer.id.startswith("resp_"))
        self.assertTrue(answer.output[0].id.startswith("msg_"))
        self.assertEqual((answer.model, answer.metadata, answer.user), (self.name, {"a": "b"}, "u"))
        self.assertIs(answer.to_dict()["store"], False)
        self.assertEqual(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)
        chat = self.server.chat(QUESTION, temperature=0, max_tokens=24)
        self.assertEqual(answer.output_text, chat["choices"][0]["message"]["content"])
        self.assertEqual(answer.usage.input_tokens, chat["usage"]["prompt_tokens"])
        self.assertEqual(answer.usage.output_tokens, chat["usage"]["completion_tokens"])

    def test_types(self):
        """Validated by the types themselves, which forbid nothing but wrong and missing fields."""
        fields = {"input": QUESTION, "max_output_tokens": 4, "temperature": 0}
        raw = self.server.post("/v1/responses", fields)
        self.assertEqual(raw.status, 200)
        response = Response.model_validate_json(raw.text, strict=True)
        self.assertEqual(response.output_text, self.create(input=QUESTION, max_output_tokens=4).output_text)

    def test_stream(self):
        events = self.events(input=QUESTION)
        self.assertEqual(self.kinds(events), TEXT_EVENTS)
        final = events[-1].response
        self.assertEqual("".join(event.delta for event in events if event.type.endswith(".delta")), final.output_text)
        self.assertEqual(self.shown(final), self.shown(self.create(input=QUESTION)))
        self.assertEqual({event.item_id for event in events if hasattr(event, "item_id")}, {final.output[0].id})
        self.assertEqual(events[0].response.id, final.id)
        self.assertEqual(events[0].response.status, "in_progress")

    def test_stream_helper(self):
        fields = dict(model=self.name, input=QUESTION, temperature=0, max_output_tokens=24)
        with self.client.responses.stream(**fields) as stream:
            snapshot = ""
            for event in stream:
                if event.type == "response.output_text.delta":
                    snapshot = event.snapshot
            final = stream.get_final_response()
        self.assertEqual(final.output_text, self.create(input=QUESTION).output_text)
        self.assertEqual(snapshot, final.output_text)

    def test_stream_on_the_wire(self):
        stream = self.server.stream("/v1/responses", input=QUESTION, max_output_tokens=4)
        text = stream.response.read().decode()
        stream.connection.close()
        self.assertNotIn("[DONE]", text)
        for event in text.split("\n\n")[:-1]:
            name, data = event.split("\n")
            self.assertEqual(name, "event: " + json.loads(data.removeprefix("data: "))["type"])

    def test_length(self):
        answer = self.create(input=QUESTION, max_output_tokens=3, extra_body={"ignore_eos": True})
        self.assertEqual((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"))
        self.assertEqual((answer.usage.output_tokens, answer.output[0].status), (3, "incomplete"))
        events = self.events(input=QUESTION, max_output_tokens=3, extra_body={"ignore_eos": True})
        self.assertEqual(self.kinds(events), TEXT_EVENTS[:-1] + ["response.incomplete"])
        self.assertEqual(self.shown(events[-1].response), self.shown(answer))

    def test_log_probabilities(self):
        fields = dict(input=QUESTION, top_logprobs=2, include=["message.output_text.logprobs"])
        answer = self.create(**fields)
        entries = answer.output[0].content[0].logprobs
        self.assertEqual(len(entries), answer.usage.output_tokens)
        for entry in entries:
            self.assertEqual(len(entry.top_logprobs), 2)
            self.assertEqual(entry.logprob, entry.top_logprobs[0].logprob)
        chat = self.server.chat(QUESTION, temperature=0, max_tokens=24, logprobs=True, top_logprobs=2)
        self.assertEqual(
            [entry.to_dict() for entry in entries], chat["choices"][0]["logprobs"]["content"])
        deltas = [event for event in self.events(**fields) if event.type == "response.output_text.delta"]
        self.assertEqual(
            [entry.token for event in deltas for entry in event.logprobs], [entry.token for entry in entries])

    # Conversations

    def test_instructions(self):
        system = "You talk only of cheese."
        answer = self.create(input=QUESTION, instructions=system)
        self.assertEqual(answer.instructions, system)
        chat = self.server.chat(
            [{"role": "system", "content": system}, {"role": "user", "content": QUESTION}], temperature=0,
            max_tokens=24)
        self.assertEqual(answer.output_text, chat["choices"][0]["message"]["content"])
        self.assertEqual(answer.usage.input_tokens, chat["usage"]["prompt_tokens"])

    def test_turns_by_passing_items_back(self):
        items = [{"role": "user", "content": QUESTION}]
        first = self.create(input=items)
        items += first.output
        items.append({"role": "user", "content": [{"type": "input_text", "text": "And of Italy?"}]})
        second = self.create(input=items)
        chat = self.server.chat(
            [
                {"role": "user", "content": QUESTION}, {"role": "assistant", "content": first.output_text},
                {"role": "user", "content": "And of Italy?"},
            ], temperature=0, max_tokens=24)
        self.assertEqual(second.output_text, chat["choices"][0]["message"]["content"])
        self.assertEqual(second.usage.input_tokens, chat["usage"]["prompt_tokens"])

    def test_truncation(self):
        length = self.model["max_model_len"]
        long = "word " * (length * 2 // 3)
        items = [
            {"role": "user", "content": long}, {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": long}, {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": QUESTION},
        ]
        with self.assertRaises(openai.BadRequestError) as caught:
            self.create(input=items, truncation="disabled")
        self.assertEqual((caught.exception.code, caught.exception.param), ("context_length_exceeded", "input"))
        answer = self.create(input=items, truncation="auto", max_output_tokens=length // 2, extra_body={"stop": "."})
        self.assertEqual(answer.truncation, "auto")
        self.assertEqual(answer.usage.input_tokens, self.create(input=QUESTION).usage.input_tokens)

    def test_input_tokens(self):
        if not hasattr(self.client.responses, "input_tokens"):
            self.skipTest("this version of the client counts no tokens")
        fields = dict(model=self.name, input=QUESTION, instructions="Be brief.", tools=[WEATHER])
        count = self.client.responses.input_tokens.count(**fields)
        answer = self.client.responses.create(**fields, max_output_tokens=1)
        self.assertEqual(count.input_tokens, answer.usage.input_tokens)

    # Structure

    def test_parse(self):
        fields = dict(model=self.name, input=QUESTION, text_format=Capital, temperature=0, max_output_tokens=120)
        answer = self.client.responses.parse(**fields)
        self.assertIsInstance(answer.output_parsed, Capital)
        self.assertEqual(answer.text.format.name, "Capital")
        with self.client.responses.stream(**fields) as stream:
            self.assertEqual(stream.get_final_response().output_parsed, answer.output_parsed)

    def test_json_object(self):
        answer = self.create(
            input="A JSON object, please.", text={"format": {"type": "json_object"}}, max_output_tokens=200,
            extra_body={"structured_outputs": None})
        if answer.status == "completed":
            self.assertIsInstance(json.loads(answer.output_text), dict)
        self.assertTrue(answer.output_text.lstrip().startswith("{"))

    # Tools

    def test_required_call(self):
        fields = dict(input="How is the weather in Paris?", tools=[WEATHER], tool_choice="required", max_output_tokens=90)
        answer = self.create(**fields)
        (call,) = answer.output
        self.assertEqual((call.type, call.name, call.status), ("function_call", "get_weather", "completed"))
        self.assertTrue(call.id.startswith("fc_"))
        self.assertEqual(list(json.loads(call.arguments)), ["city"])
        self.assertEqual((answer.status, answer.tool_choice), ("completed", "required"))
        self.assertEqual(answer.tools[0].name, "get_weather")
        events = self.events(**fields)
        self.assertEqual(self.kinds(events), CALL_EVENTS)
        self.assertEqual(
            "".join(event.delta for event in events if event.type.endswith(".delta")), call.arguments)
        self.assertEqual(self.shown(events[-1].response), self.shown(answer))
        named = self.create(**{**fields, "tool_choice": {"type": "function", "name": "get_weather"}})
        self.assertEqual(named.output[0].name, "get_weather")

    def test_calls_and_results_by_passing_items_back(self):
        items = [{"role": "user", "content": "How is the weather in Paris?"}]
        answer = self.create(input=items, tools=[WEATHER], tool_choice="required", max_output_tokens=90)
        call = answer.output[0]
        items += answer.output
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 21 degrees."})
        final = self.create(input=items, tools=[WEATHER], tool_choice="none")
        self.assertEqual(final.output[0].type, "message")
        chat = self.server.chat(
            [
                items[0],
                {
                    "role": "assistant", "tool_calls": [{
                        "id": call.call_id, "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    }],
                },
                {"role": "tool", "tool_call_id": call.call_id, "content": "Sunny, 21 degrees."},
            ], temperature=0, max_tokens=24)
        self.assertEqual(final.output_text, chat["choices"][0]["message"]["content"])

    def test_parsed_arguments(self):
        class GetWeather(pydantic.BaseModel):
            city: str = pydantic.Field(max_length=30)

        tool = openai.pydantic_function_tool(GetWeather)["function"]
        answer = self.client.responses.parse(
            model=self.name, input="How is the weather in Paris?", tools=[{"type": "function", **tool}],
            tool_choice="required", temperature=0, max_output_tokens=90)
        self.assertIsInstance(answer.output[0].parsed_arguments, dict | GetWeather)

    # Refusals and ends

    def test_errors_are_the_right_exceptions(self):
        for fields, param in [
            ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"store": True}, "store"),
            ({"background": True}, "background"), ({"temperature": 9}, "temperature"),
            ({"conversation": "conv_1"}, "conversation"), ({"prompt": {"id": "p"}}, "prompt"),
            ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
            ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ]:
            with self.subTest(param=param), self.assertRaises(openai.BadRequestError) as caught:
                self.create(**{"input": QUESTION, **fields})
            self.assertEqual(caught.exception.param, param)
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.retrieve("resp_1")
        with self.assertRaises(openai.NotFoundError):
            self.client.responses.create(model="gpt-99", input=QUESTION)

    def test_stream_left_early(self):
        with self.create(
            input=QUESTION, max_output_tokens=2000, stream=True, extra_body={"ignore_eos": True}
        ) as stream:
            for index, _ in enumerate(stream):
                if index == 8:
                    break
        self.server.wait_idle()

    def test_killed_engines(self):
        """A stream goes on with the same text once there are engines again."""
        fields = dict(input="Tell me a story.", max_output_tokens=200, extra_body={"ignore_eos": True})
        whole = self.create(**fields)
        moved = self.server.metrics().total("tandem_router_migrations_total")
        events = []
        with self.create(**fields, stream=True) as stream:
            for event in stream:
                events.append(event)
                if len(events) == 12:
                    for index in range(self.engines):
                        self.server.kill(self.server.engine(index))
        self.assertGreater(self.server.metrics().total("tandem_router_migrations_total"), moved)
        self.assertEqual([event.sequence_number for event in events], list(range(len(events))))
        self.assertEqual(self.shown(events[-1].response), self.shown(whole))
        self.server.wait_for_all_engines()
