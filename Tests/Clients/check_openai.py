"""The official client, on everything it has a method for that a server of text models offers."""
import asyncio
import base64
import json
import math
import re
import struct
import threading
from typing import Literal

import openai
import pydantic
from openai import AsyncOpenAI, OpenAI

from harness import QUESTION, NotHere, Session, check, run

CHAT = [{"role": "user", "content": QUESTION}]
STORY = [{"role": "user", "content": "Tell me a story about a dog."}]


def client(session, **more):
    return OpenAI(base_url=session.url, api_key=session.key or "any", max_retries=0, timeout=120, **more)


def chat(session, messages=CHAT, **fields):
    with client(session) as api:
        return api.chat.completions.create(
            **{"model": session.model, "messages": messages, "temperature": 0, "max_completion_tokens": 24, **fields})


def complete(session, prompt="The capital of France is", **fields):
    with client(session) as api:
        return api.completions.create(
            **{"model": session.model, "prompt": prompt, "temperature": 0, "max_tokens": 12, **fields})


# MARK: Models


@check
def models_list_and_retrieve(session):
    with client(session) as api:
        assert session.model in [model.id for model in api.models.list()]
        model = api.models.retrieve(session.model)
        assert (model.id, model.object) == (session.model, "model")
        assert isinstance(model.created, int) and model.owned_by


# MARK: Completions


@check
def completion(session):
    answer = complete(session)
    assert "Paris" in answer.choices[0].text, answer
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens <= 12


@check
def completion_logprobs(session):
    answer = complete(session, logprobs=3, max_tokens=6)
    found = answer.choices[0].logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(found.text_offset) == 6
    for token, own, top in zip(found.tokens, found.token_logprobs, found.top_logprobs):
        assert top[token] == own == max(top.values()) and own <= 0 and len(top) >= 3
    assert "".join(found.tokens) == answer.choices[0].text


@check
def completion_echo(session):
    prompt = "The capital of France is"
    answer = complete(session, prompt, echo=True, logprobs=1, max_tokens=2)
    choice = answer.choices[0]
    assert choice.text.startswith(prompt), choice
    assert choice.logprobs.token_logprobs[0] is None
    assert len(choice.logprobs.tokens) == answer.usage.prompt_tokens + answer.usage.completion_tokens


@check
def completion_n_and_seed(session):
    fields = dict(n=4, temperature=1, seed=7, max_tokens=8)
    first, second = complete(session, **fields), complete(session, **fields)
    texts = [choice.text for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2, 3]
    assert texts == [choice.text for choice in second.choices], "the same seed gave another text"
    assert len(set(texts)) > 1, "four samples are all the same"
    other = [choice.text for choice in complete(session, **{**fields, "seed": 8}).choices]
    assert texts != other, "another seed gave the same texts"


@check
def completion_best_of(session):
    answer = complete(session, best_of=3, n=1, temperature=1, seed=3)
    assert len(answer.choices) == 1
    assert answer.usage.completion_tokens > 0


@check
def completion_stop(session):
    whole = complete(session, max_tokens=16).choices[0].text
    stop = whole[6:9]
    cut = complete(session, max_tokens=16, stop=stop).choices[0]
    assert cut.finish_reason == "stop" and cut.text == whole[: whole.index(stop)], (whole, cut)
    several = complete(session, max_tokens=16, stop=["@@@", stop]).choices[0]
    assert several.text == cut.text


@check
def completion_of_lists_and_token_ids(session):
    tokens = session.server.tokenize("The capital of France is")
    texts = complete(session, ["The capital of France is", "The capital of Italy is"])
    assert [choice.index for choice in texts.choices] == [0, 1]
    ids = complete(session, tokens)
    assert ids.choices[0].text == texts.choices[0].text
    lists = complete(session, [tokens, tokens])
    assert [choice.text for choice in lists.choices] == [texts.choices[0].text] * 2


@check
def completion_stream_and_usage(session):
    whole = complete(session, max_tokens=24)
    text, finish, usage, chunks = "", [], [], 0
    with client(session) as api:
        stream = api.completions.create(
            model=session.model, prompt="The capital of France is", temperature=0, max_tokens=24, stream=True,
            stream_options={"include_usage": True})
        for chunk in stream:
            chunks += 1
            text += "".join(choice.text for choice in chunk.choices)
            finish += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
            usage += [chunk.usage] if chunk.usage else []
    assert text == whole.choices[0].text and finish == [whole.choices[0].finish_reason]
    assert len(usage) == 1 and usage[0] == whole.usage.model_copy(
        update={"prompt_tokens_details": usage[0].prompt_tokens_details}), (usage, whole.usage)
    assert chunks >= whole.usage.completion_tokens, f"{chunks} chunks for {whole.usage.completion_tokens} tokens"


@check
def completion_stream_of_repetition(session):
    """Text that can be guessed ahead comes a chunk a token all the same: benchmarks count chunks."""
    prompt = "red, green, blue, " * 6
    whole = complete(session, prompt, max_tokens=32, extra_body={"ignore_eos": True})
    with client(session) as api:
        chunks = [chunk.choices[0].text for chunk in api.completions.create(
            model=session.model, prompt=prompt, temperature=0, max_tokens=32, stream=True,
            extra_body={"ignore_eos": True}) if chunk.choices]
    assert "".join(chunks) == whole.choices[0].text and whole.usage.completion_tokens == 32
    assert len([chunk for chunk in chunks if chunk]) == 32, chunks


@check(provokes=True)
def completion_suffix(session):
    try:
        answer = complete(session, "def add(a, b):\n", suffix="\n    return total\n")
    except openai.BadRequestError as error:
        # This model has no tokens for it: then the refusal must name the field.
        assert error.param == "suffix", error
        return f"refused for this model: {error.message}"
    assert answer.choices[0].text


# MARK: Chat


@check
def chat_answer(session):
    answer = chat(session)
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and "Paris" in choice.message.content, choice
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert choice.message.tool_calls is None and choice.message.refusal is None


@check
def chat_roles_and_parts(session):
    messages = [
        {"role": "system", "content": "You answer with one word."},
        {"role": "user", "content": [{"type": "text", "text": "Capital of "}, {"type": "text", "text": "Italy?"}]},
        {"role": "assistant", "content": "Rome"},
        {"role": "user", "content": "Capital of France?"},
    ]
    assert chat(session, messages).choices[0].message.content
    messages[0]["role"] = "developer"
    assert chat(session, messages).choices[0].message.content


@check
def chat_max_tokens_both_names(session):
    for name in ("max_tokens", "max_completion_tokens"):
        with client(session) as api:
            answer = api.chat.completions.create(
                model=session.model, messages=STORY, temperature=0, **{name: 5})
        assert answer.usage.completion_tokens == 5 and answer.choices[0].finish_reason == "length", answer


@check
def chat_logprobs(session):
    answer = chat(session, logprobs=True, top_logprobs=5, max_completion_tokens=6)
    content = answer.choices[0].logprobs.content
    assert content and all(len(entry.top_logprobs) == 5 for entry in content)
    for entry in content:
        assert entry.logprob == max(top.logprob for top in entry.top_logprobs)
        assert bytes(entry.bytes).decode() == entry.token


@check
def chat_n_seed_and_user(session):
    fields = dict(n=3, temperature=1.2, seed=11, user="somebody", max_completion_tokens=8)
    first, second = chat(session, STORY, **fields), chat(session, STORY, **fields)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices] and len(set(texts)) > 1


@check
def chat_stream(session):
    whole = chat(session, STORY, max_completion_tokens=40)
    text, roles, finish, usage, identifiers = "", [], [], [], set()
    with client(session) as api:
        stream = api.chat.completions.create(
            model=session.model, messages=STORY, temperature=0, max_completion_tokens=40, stream=True,
            stream_options={"include_usage": True})
        for chunk in stream:
            identifiers.add(chunk.id)
            usage += [chunk.usage] if chunk.usage else []
            for choice in chunk.choices:
                text += choice.delta.content or ""
                roles += [choice.delta.role] if choice.delta.role else []
                finish += [choice.finish_reason] if choice.finish_reason else []
    assert text == whole.choices[0].message.content and roles == ["assistant"] and finish == ["length"]
    assert len(identifiers) == 1 and len(usage) == 1
    assert usage[0].total_tokens == whole.usage.total_tokens


@check
def chat_stream_helper(session):
    with client(session) as api:
        with api.chat.completions.stream(
            model=session.model, messages=CHAT, temperature=0, max_completion_tokens=24
        ) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert final.choices[0].message.content == chat(session).choices[0].message.content


@check
def chat_stream_with_logprobs_and_n(session):
    entries = {0: [], 1: []}
    with client(session) as api:
        for chunk in api.chat.completions.create(
            model=session.model, messages=STORY, n=2, seed=5, temperature=1, max_completion_tokens=6, stream=True,
            logprobs=True, top_logprobs=1
        ):
            for choice in chunk.choices:
                if choice.logprobs and choice.logprobs.content:
                    entries[choice.index] += choice.logprobs.content
    assert [len(entries[0]), len(entries[1])] == [6, 6], entries


# MARK: Sampling


@check
def penalties(session):
    plain = chat(session, STORY, max_completion_tokens=60).choices[0].message.content
    for name in ("frequency_penalty", "presence_penalty"):
        answer = chat(session, STORY, max_completion_tokens=60, **{name: 2.0})
        assert answer.choices[0].message.content != plain, f"{name} changed nothing"
        same = chat(session, STORY, max_completion_tokens=60, **{name: 0.0})
        assert same.choices[0].message.content == plain


@check
def logit_bias(session):
    token = session.server.tokenize(" London", add_special_tokens=False)[0]
    answer = complete(session, max_tokens=3, logit_bias={str(token): 100})
    assert answer.choices[0].text == " London London London", answer
    banned = complete(session, max_tokens=1, logprobs=1).choices[0].logprobs.tokens[0]
    token = session.server.tokenize(banned, add_special_tokens=False)[0]
    assert complete(session, max_tokens=1, logit_bias={str(token): -100}).choices[0].text != banned


@check
def extensions_in_extra_body(session):
    """What vLLM's users send in `extra_body`."""
    answer = chat(session, CHAT, max_completion_tokens=32, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 32 and answer.choices[0].finish_reason == "length", answer
    answer = chat(session, CHAT, max_completion_tokens=32, extra_body={"min_tokens": 20})
    assert answer.usage.completion_tokens >= 20, answer
    answer = chat(session, STORY, temperature=1, seed=1, extra_body={"top_k": 1})
    assert answer.choices[0].message.content == chat(session, STORY).choices[0].message.content
    plain = chat(session, STORY, max_completion_tokens=60).choices[0].message.content
    answer = chat(session, STORY, max_completion_tokens=60, extra_body={"repetition_penalty": 1.8, "min_p": 0.0})
    assert answer.choices[0].message.content != plain
    answer = complete(session, extra_body={"return_token_ids": True})
    choice = answer.choices[0]
    assert len(choice.token_ids) == answer.usage.completion_tokens, choice
    assert len(choice.prompt_token_ids) == answer.usage.prompt_tokens, choice
    stop = choice.token_ids[2]
    answer = complete(session, extra_body={"stop_token_ids": [stop]})
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens <= 3, answer
    answer = complete(session, "one two three four five six seven", extra_body={"truncate_prompt_tokens": 3})
    assert answer.usage.prompt_tokens == 3, answer.usage
    answer = complete(session, stop="Paris", extra_body={"include_stop_str_in_output": True})
    assert answer.choices[0].text.endswith("Paris"), answer


@check
def prompt_logprobs(session):
    answer = complete(session, max_tokens=1, extra_body={"prompt_logprobs": 2})
    found = answer.choices[0].prompt_logprobs
    assert len(found) == answer.usage.prompt_tokens and found[0] is None, found
    for entry in found[1:]:
        assert 2 <= len(entry) <= 3
        for value in entry.values():
            assert value["logprob"] <= 0 and isinstance(value["decoded_token"], str), found
        # The prompt's own token may have no rank if it is not among the likeliest.
        ranks = [value["rank"] for value in entry.values()]
        assert {1, 2} <= set(ranks) and (len(ranks) == 2 or ranks[0] is None or ranks[0] > 2), found


@check
def continuous_usage(session):
    counts = []
    with client(session) as api:
        for chunk in api.chat.completions.create(
            model=session.model, messages=STORY, temperature=0, max_completion_tokens=10, stream=True,
            stream_options={"include_usage": True, "continuous_usage_stats": True}
        ):
            assert chunk.usage is not None, chunk
            counts.append(chunk.usage.completion_tokens)
    assert counts == sorted(counts) and counts[-1] == 10, counts


# MARK: Structured output


class City(pydantic.BaseModel):
    name: str
    country: Literal["France", "Italy", "Spain"]
    is_capital: bool
    population_millions: int


ASK_CITY = [{"role": "user", "content": "Describe the city of Paris as JSON."}]


@check
def response_format_json_object(session):
    answer = chat(session, ASK_CITY, max_completion_tokens=200, response_format={"type": "json_object"})
    choice = answer.choices[0]
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict), choice
    else:
        assert choice.message.content.lstrip().startswith("{"), choice
    return f"finish_reason {choice.finish_reason}"


@check
def response_format_json_schema(session):
    schema = City.model_json_schema()
    schema["additionalProperties"] = False
    answer = chat(
        session, ASK_CITY, max_completion_tokens=200,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}})
    City.model_validate_json(answer.choices[0].message.content)
    hot = chat(
        session, ASK_CITY, max_completion_tokens=200, temperature=1.5, seed=1, n=3,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}})
    for choice in hot.choices:
        if choice.finish_reason == "stop":
            City.model_validate_json(choice.message.content)


@check
def parse_with_pydantic(session):
    with client(session) as api:
        answer = api.chat.completions.parse(
            model=session.model, messages=ASK_CITY, temperature=0, max_completion_tokens=200, response_format=City)
    city = answer.choices[0].message.parsed
    assert isinstance(city, City), answer
    return str(city)


@check
def parse_nested_with_pydantic(session):
    class Step(pydantic.BaseModel):
        explanation: str = pydantic.Field(max_length=40)
        result: float

    class Plan(pydantic.BaseModel):
        steps: list[Step] = pydantic.Field(min_length=1, max_length=2)
        verdict: Literal["yes", "no"] | None

    with client(session) as api:
        answer = api.chat.completions.parse(
            model=session.model, messages=[{"role": "user", "content": "Compute 2 + 2 in steps, as JSON."}],
            temperature=0, max_completion_tokens=300, response_format=Plan)
    assert isinstance(answer.choices[0].message.parsed, Plan), answer


@check
def stream_helper_with_pydantic(session):
    with client(session) as api:
        with api.chat.completions.stream(
            model=session.model, messages=ASK_CITY, temperature=0, max_completion_tokens=200, response_format=City
        ) as stream:
            final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, City), final


@check
def constraints_in_extra_body(session):
    """vLLM's fields for choices and regular expressions, in the newer and the older spelling."""
    choices = ["Paris", "London", "an unknown city"]
    for body in ({"structured_outputs": {"choice": choices}}, {"guided_choice": choices}):
        assert chat(session, extra_body=body).choices[0].message.content in choices
    for body in ({"structured_outputs": {"regex": "[0-9]{4}-[a-f]{3}"}}, {"guided_regex": "[0-9]{4}-[a-f]{3}"}):
        answer = chat(session, temperature=1.5, seed=2, extra_body=body).choices[0]
        assert re.fullmatch("[0-9]{4}-[a-f]{3}", answer.message.content) and answer.finish_reason == "stop", answer


# MARK: Tools


class GetWeather(pydantic.BaseModel):
    """Weather of a city."""

    city: str = pydantic.Field(max_length=30)
    unit: Literal["celsius", "fahrenheit"]


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather", "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"], "additionalProperties": False}},
}
TIME = {
    "type": "function",
    "function": {
        "name": "get_time", "description": "Time in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 30}},
                       "required": ["city"]}},
}
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]


def _is_call(call):
    assert call.type == "function" and call.id, call
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        assert set(arguments) == {"city", "unit"} and arguments["unit"] in ("celsius", "fahrenheit"), call
    else:
        assert call.function.name == "get_time" and set(arguments) == {"city"}, call


@check
def tools_required(session):
    answer = chat(session, ASK_WEATHER, tools=[WEATHER, TIME], tool_choice="required", max_completion_tokens=150)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls, choice
    for call in choice.message.tool_calls:
        _is_call(call)


@check
def tools_by_name(session):
    answer = chat(
        session, ASK_WEATHER, tools=[WEATHER, TIME], max_completion_tokens=150,
        tool_choice={"type": "function", "function": {"name": "get_time"}})
    calls = answer.choices[0].message.tool_calls
    assert calls and calls[0].function.name == "get_time", answer
    _is_call(calls[0])


@check
def tools_auto_and_none(session):
    answer = chat(session, ASK_WEATHER, tools=[WEATHER], max_completion_tokens=80)
    message = answer.choices[0].message
    assert message.content or message.tool_calls, answer
    for call in message.tool_calls or []:
        _is_call(call)
    answer = chat(session, ASK_WEATHER, tools=[WEATHER], tool_choice="none", max_completion_tokens=40)
    assert answer.choices[0].message.content and not answer.choices[0].message.tool_calls, answer


@check
def tools_streamed(session):
    names, arguments, finish, identifiers = {}, {}, [], {}
    with client(session) as api:
        for chunk in api.chat.completions.create(
            model=session.model, messages=ASK_WEATHER, temperature=0, max_completion_tokens=150, stream=True,
            tools=[WEATHER, TIME], tool_choice="required"
        ):
            for choice in chunk.choices:
                finish += [choice.finish_reason] if choice.finish_reason else []
                for call in choice.delta.tool_calls or []:
                    if call.id:
                        identifiers[call.index] = call.id
                    if call.function.name:
                        names[call.index] = names.get(call.index, "") + call.function.name
                    arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert finish == ["tool_calls"] and names and set(names) == set(arguments) == set(identifiers), (finish, names)
    whole = chat(session, ASK_WEATHER, tools=[WEATHER, TIME], tool_choice="required", max_completion_tokens=150)
    expected = [(call.function.name, call.function.arguments) for call in whole.choices[0].message.tool_calls]
    assert [(names[index], arguments[index]) for index in sorted(names)] == expected


@check
def tools_parsed_with_pydantic(session):
    with client(session) as api:
        answer = api.chat.completions.parse(
            model=session.model, messages=ASK_WEATHER, temperature=0, max_completion_tokens=150,
            tools=[openai.pydantic_function_tool(GetWeather)], tool_choice="required")
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, GetWeather), answer


@check
def tools_round_trip(session):
    first = chat(session, ASK_WEATHER, tools=[WEATHER], tool_choice="required", max_completion_tokens=150)
    message = first.choices[0].message
    messages = [*ASK_WEATHER, message, *(
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees, sunny"} for call in message.tool_calls)]
    answer = chat(session, messages, tools=[WEATHER], tool_choice="none", max_completion_tokens=40)
    assert answer.choices[0].message.content, answer


# MARK: Embeddings


@check
def embeddings(session):
    with client(session) as api:
        default = api.embeddings.create(model=session.model, input="The quick brown fox")
        plain = api.embeddings.create(model=session.model, input="The quick brown fox", encoding_format="float")
        raw = api.embeddings.create(model=session.model, input="The quick brown fox", encoding_format="base64")
    vector = default.data[0].embedding
    assert isinstance(vector, list) and len(vector) > 100
    assert vector == plain.data[0].embedding or max(
        abs(a - b) for a, b in zip(vector, plain.data[0].embedding)) < 1e-6, "base64 and float differ"
    data = base64.b64decode(raw.data[0].embedding)
    assert len(data) == 4 * len(vector)
    assert list(struct.unpack(f"<{len(vector)}f", data)) == [
        struct.unpack("<f", struct.pack("<f", value))[0] for value in vector]
    assert abs(math.sqrt(sum(value * value for value in vector)) - 1) < 1e-3, "not of length 1"
    assert default.usage.prompt_tokens > 0 and default.usage.total_tokens == default.usage.prompt_tokens


@check
def embeddings_of_lists_and_ids(session):
    texts = ["A cat sat on the mat.", "A kitten lies on the rug.", "Interest rates rose sharply this quarter."]
    ids = [session.server.tokenize(text) for text in texts]
    with client(session) as api:
        answer = api.embeddings.create(model=session.model, input=texts)
        by_ids = api.embeddings.create(model=session.model, input=ids)
        alone = api.embeddings.create(model=session.model, input=ids[0])
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    vectors = [entry.embedding for entry in answer.data]
    for one, other in zip(vectors, (entry.embedding for entry in by_ids.data)):
        assert max(abs(a - b) for a, b in zip(one, other)) < 1e-5, "texts and their tokens differ"
    assert max(abs(a - b) for a, b in zip(vectors[0], alone.data[0].embedding)) < 1e-5, "alone and in a list differ"

    def dot(one, other):
        return sum(a * b for a, b in zip(one, other))

    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2]), "what is alike is not nearer"


@check
def embeddings_dimensions(session):
    with client(session) as api:
        whole = api.embeddings.create(model=session.model, input="fox")
        short = api.embeddings.create(model=session.model, input="fox", dimensions=64)
    vector = short.data[0].embedding
    assert len(vector) == 64 and abs(sum(value * value for value in vector) - 1) < 1e-3
    scale = math.sqrt(sum(value * value for value in whole.data[0].embedding[:64]))
    assert max(abs(a - b / scale) for a, b in zip(vector, whole.data[0].embedding)) < 1e-5


# MARK: Errors


def _raises(kind, call, **expected):
    try:
        call()
    except kind as error:
        found = {name: getattr(error, name) for name in expected}
        assert found == expected, f"{found} and not {expected}: {error}"
        assert error.message and error.request_id is not None, error
        return error
    raise AssertionError(f"no {kind.__name__}")


@check(provokes=True)
def errors_of_bad_requests(session):
    bad = openai.BadRequestError
    _raises(bad, lambda: chat(session, temperature=9), param="temperature", type="invalid_request_error")
    _raises(bad, lambda: chat(session, n=0), param="n")
    _raises(bad, lambda: chat(session, stream=True, n=0), param="n")
    _raises(bad, lambda: chat(session, []), type="invalid_request_error")
    _raises(bad, lambda: complete(session, [400] * (session.model_entry["max_model_len"] + 1)),
            code="context_length_exceeded")
    image = [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}]
    _raises(bad, lambda: chat(session, image), type="invalid_request_error")
    _raises(bad, lambda: chat(session, response_format={
        "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "thing"}}}),
        type="invalid_request_error")
    _raises(bad, lambda: chat(session, tool_choice="required"), type="invalid_request_error")


@check(provokes=True)
def errors_of_unknown_names(session):
    with client(session) as api:
        _raises(openai.NotFoundError, lambda: chat(session, model="gpt-99"), code="model_not_found", param="model")
        _raises(openai.NotFoundError, lambda: api.models.retrieve("gpt-99"), code="model_not_found")
        # Endpoints that no text server of this kind has.
        for call in (
            lambda: api.images.generate(model=session.model, prompt="x"),
            lambda: api.moderations.create(model=session.model, input="x"),
            lambda: api.files.list(),
            lambda: api.models.delete("gpt-99"),
        ):
            try:
                call()
            except openai.APIStatusError as error:
                assert error.status_code in (404, 405), error
                assert isinstance(error.body, dict) and error.body.get("message"), error
            else:
                raise AssertionError("no error")


@check(provokes=True)
def responses_api(session):
    """The client's newest interface. A server without it must say so in the client's own terms."""
    with client(session) as api:
        try:
            answer = api.responses.create(model=session.model, input=QUESTION, temperature=0, max_output_tokens=24)
        except openai.NotFoundError as error:
            assert isinstance(error.body, dict) and error.body.get("message"), error
            raise NotHere("no /v1/responses: a NotFoundError with a message") from None
        assert "Paris" in answer.output_text, answer


@check(provokes=True)
def errors_of_keys(session):
    with Session(key="the-right-key", engines=1) as guarded:
        assert chat(guarded).choices[0].message.content
        for key in ("another-key", "the-right-ke", "the-right-key2"):
            with OpenAI(base_url=guarded.url, api_key=key, max_retries=0) as api:
                _raises(openai.AuthenticationError, api.models.list, code="invalid_api_key")


@check(provokes=True)
def errors_of_overload(session):
    """More sequences than the gateway holds: some requests are refused, all others answered."""
    outcomes = []

    def ask():
        try:
            answer = complete(session, [[400]] * 512, n=4, max_tokens=2, temperature=1)
            outcomes.append(len(answer.choices))
        except openai.RateLimitError as error:
            outcomes.append((error.status_code, error.code, error.response.headers.get("retry-after")))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [outcome for outcome in outcomes if outcome != 2048]
    assert len(outcomes) == 4 and refused and 2048 in outcomes, outcomes
    for status, code, wait in refused:
        assert (status, code) == (429, "rate_limit_exceeded") and int(wait) >= 1, refused
    session.server.wait_idle(60)
    return f"{len(refused)} of 4 refused"


@check(provokes=True)
def retries_by_the_client_itself(session):
    """With its default of two retries the client must end with the same error, and not hang."""
    with OpenAI(base_url=session.url, api_key="any", timeout=60) as api:
        _raises(openai.NotFoundError, lambda: api.models.retrieve("gpt-99"))


# MARK: Many at once, and leaving early


@check
async def async_streams(session):
    """32 streams at once: each the text that the prompt gives alone."""
    prompts = [f"{number} little ducks went to" for number in range(2, 34)]
    alone = [choice.text for choice in complete(session, prompts, max_tokens=24).choices]

    async with AsyncOpenAI(base_url=session.url, api_key="any", max_retries=0, timeout=120) as api:
        async def ask(prompt):
            text = ""
            stream = await api.completions.create(
                model=session.model, prompt=prompt, temperature=0, max_tokens=24, stream=True)
            async for chunk in stream:
                text += "".join(choice.text for choice in chunk.choices)
            return text

        texts = await asyncio.gather(*(ask(prompt) for prompt in prompts))
    assert texts == alone


@check
def stream_left_early(session):
    with client(session) as api:
        with api.chat.completions.create(
            model=session.model, messages=STORY, max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
        ) as stream:
            for index, _ in enumerate(stream):
                if index == 5:
                    break
    session.server.wait_idle(10)


@check
async def async_task_cancelled(session):
    async with AsyncOpenAI(base_url=session.url, api_key="any", max_retries=0, timeout=120) as api:
        task = asyncio.create_task(api.chat.completions.create(
            model=session.model, messages=STORY, max_tokens=2000, extra_body={"ignore_eos": True}))
        while session.server.in_flight()[1] == 0:
            await asyncio.sleep(0.02)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
    await asyncio.to_thread(session.server.wait_idle, 10)


@check
def timeout_of_the_client(session):
    with OpenAI(base_url=session.url, api_key="any", max_retries=0, timeout=0.5) as api:
        try:
            api.chat.completions.create(
                model=session.model, messages=STORY, max_tokens=2000, extra_body={"ignore_eos": True})
        except openai.APITimeoutError:
            pass
        else:
            raise AssertionError("no timeout")
    session.server.wait_idle(10)


@check
def raw_and_streaming_responses(session):
    with client(session) as api:
        raw = api.chat.completions.with_raw_response.create(
            model=session.model, messages=CHAT, max_tokens=2, extra_headers={"X-Request-Id": "from-the-client"})
        assert raw.headers["x-request-id"] == "from-the-client"
        assert raw.parse()._request_id == "from-the-client"
        with api.chat.completions.with_streaming_response.create(
            model=session.model, messages=CHAT, max_tokens=2
        ) as response:
            assert json.loads(b"".join(response.iter_bytes()))["choices"]


run("openai", ["httpx2", "pydantic"])
