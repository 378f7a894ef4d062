"""Structured output and tools by the official client."""
import json
import re
from typing import Literal

import openai
import pydantic

from harness import check
from openai_requests import chat, client


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
