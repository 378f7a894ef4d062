"""Calls of tools: what the model is told, what it is made to write, and what clients get."""
import json
import unittest

from openai import OpenAI

from serving import HOST, ServerTestCase

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gives the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 20},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {
            "type": "object",
            "properties": {"hours": {"$ref": "#/$defs/hours"}},
            "required": ["hours"],
            "additionalProperties": False,
            "$defs": {"hours": {"type": "integer", "minimum": 0, "maximum": 23}},
        },
    },
}
TOOLS = [WEATHER, TIME]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


class ToolTests(ServerTestCase):
    def check_call(self, call):
        """A call of one of the tools with arguments that its schema allows."""
        self.assertEqual(set(call), {"id", "type", "function"})
        self.assertRegex(call["id"], r"^call_[A-Za-z0-9]{24}$")
        self.assertEqual(call["type"], "function")
        arguments = json.loads(call["function"]["arguments"])
        if call["function"]["name"] == "get_weather":
            self.assertEqual(set(arguments), {"city", "unit"})
            self.assertIsInstance(arguments["city"], str)
            self.assertIn(arguments["unit"], ["celsius", "fahrenheit"])
        else:
            self.assertEqual(call["function"]["name"], "get_time")
            self.assertEqual(set(arguments), {"hours"})
            self.assertIn(arguments["hours"], range(24))

    def test_a_named_function_is_called(self):
        for seed in range(4):
            document = self.server.chat(QUESTION, tools=TOOLS, tool_choice=NAMED, seed=seed, max_tokens=120)
            (choice,) = document["choices"]
            self.assertIsNone(choice["message"]["content"])
            (call,) = choice["message"]["tool_calls"]
            self.assertEqual(call["function"]["name"], "get_weather")
            self.check_call(call)
            self.assertEqual(choice["finish_reason"], "stop")
            self.assertGreater(document["usage"]["completion_tokens"], 10)

    def test_some_function_is_called_where_that_is_required(self):
        document = self.server.chat(QUESTION, tools=TOOLS, tool_choice="required", n=4, seed=1, max_tokens=160)
        identifiers = set()
        for choice in document["choices"]:
            (call,) = choice["message"]["tool_calls"]
            self.check_call(call)
            identifiers.add(call["id"])
            self.assertEqual(choice["finish_reason"], "tool_calls")
        self.assertEqual(len(identifiers), 4)

    def test_streams_carry_the_same_call(self):
        fields = dict(messages=QUESTION, tools=TOOLS, tool_choice="required", seed=3, n=2, max_tokens=160)
        whole = self.server.ask(CHAT, **fields)
        stream = self.server.stream(CHAT, **fields).finish()
        for index in range(2):
            call = {"id": None, "type": None, "function": {"name": "", "arguments": ""}}
            for chunk in stream.choices(index):
                self.assertFalse(chunk["delta"].get("content"))
                for delta in chunk["delta"].get("tool_calls", []):
                    self.assertEqual(delta["index"], 0)
                    call["id"] = call["id"] or delta.get("id")
                    call["type"] = call["type"] or delta.get("type")
                    call["function"]["name"] += delta["function"].get("name", "")
                    call["function"]["arguments"] += delta["function"].get("arguments", "")
            self.check_call(call)
            (expected,) = whole["choices"][index]["message"]["tool_calls"]
            self.assertEqual(call["function"], expected["function"])
            self.assertEqual(stream.finish_reason(index), "tool_calls")

    def test_the_prompt_tells_of_tools_unless_they_are_not_to_be_used(self):
        def tokens(**fields):
            return self.server.ask("/tokenize", messages=QUESTION, **fields)["count"]

        plain = tokens()
        self.assertGreater(tokens(tools=TOOLS), plain + 50)
        self.assertEqual(tokens(tools=TOOLS, tool_choice="none"), plain)
        document = self.server.chat(QUESTION, tools=TOOLS, max_tokens=1)
        self.assertEqual(document["usage"]["prompt_tokens"], tokens(tools=TOOLS))

    def test_none_gives_text(self):
        document = self.server.chat(QUESTION, tools=TOOLS, tool_choice="none", temperature=0, max_tokens=16)
        plain = self.server.chat(QUESTION, temperature=0, max_tokens=16)
        self.assertEqual(document["choices"], plain["choices"])

    def test_results_may_follow_calls(self):
        call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}}
        messages = QUESTION + [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees, sunny"},
        ]
        document = self.server.chat(messages, tools=TOOLS, temperature=0, max_tokens=24)
        self.assertTrue(document["choices"][0]["message"]["content"] or document["choices"][0]["message"]["tool_calls"])

    def test_bad_tools_are_refused_by_name(self):
        bad = [
            (dict(tools=[{"type": "other"}]), "tools[0].type"),
            (dict(tools=[WEATHER, WEATHER]), "tools[1].function.name"),
            (dict(tools=[{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name"),
            (dict(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "x"}}), "tool_choice.function.name"),
            (dict(tool_choice="required"), "tool_choice"),
            (dict(tools=TOOLS, tool_choice=NAMED, response_format={"type": "json_object"}), "response_format.type"),
        ]
        for fields, parameter in bad:
            answer = self.server.post(CHAT, {"messages": QUESTION, **fields})
            self.assertEqual(answer.status, 400, answer)
            self.assertEqual(answer.error["param"], parameter)
        answer = self.server.post(
            CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]})
        self.assertEqual((answer.status, answer.error["param"]), (400, "messages[0].tool_calls[0].function.name"))


class ClientTests(ServerTestCase):
    """The official client, unmodified."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = OpenAI(base_url=f"http://{HOST}:{cls.server.port}/v1", api_key="any", max_retries=0, timeout=120)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        super().tearDownClass()

    def test_a_conversation_with_a_call(self):
        fields = dict(model=self.model["id"], tools=TOOLS, max_tokens=120)
        answer = self.client.chat.completions.create(messages=QUESTION, tool_choice="required", seed=2, **fields)
        message = answer.choices[0].message
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
        json.loads(message.tool_calls[0].function.arguments)
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "18"}
        second = self.client.chat.completions.create(
            messages=QUESTION + [message.model_dump(), result], tool_choice="none", **fields)
        self.assertTrue(second.choices[0].message.content)
        self.assertIsNone(second.choices[0].message.tool_calls)

    def test_a_stream_is_put_together(self):
        with self.client.chat.completions.stream(
            model=self.model["id"], messages=QUESTION, tools=TOOLS, tool_choice="required", seed=2, max_tokens=120
        ) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        (call,) = final.choices[0].message.tool_calls
        json.loads(call.function.arguments)
        self.assertEqual(final.choices[0].finish_reason, "tool_calls")


if __name__ == "__main__":
    unittest.main()
