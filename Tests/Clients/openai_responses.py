"""OpenAI's newer interface by the official client. Nothing is stored here, so all input is in the request."""
import json

import openai

from harness import QUESTION, check
from openai_requests import STORY, chat, client
from openai_structure import City

WEATHER = {
    "type": "function", "name": "get_weather", "description": "Weather of a city.", "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 30}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"], "additionalProperties": False},
}


def respond(session, given=QUESTION, **fields):
    with client(session) as api:
        return api.responses.create(
            **{"model": session.model, "input": given, "temperature": 0, "max_output_tokens": 24, **fields})


@check
def response(session):
    answer = respond(session)
    assert answer.object == "response" and answer.id and answer.status in ("completed", "incomplete"), answer
    assert answer.output_text == chat(session).choices[0].message.content
    usage = answer.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens and 0 < usage.output_tokens <= 24, usage
    message = answer.output[0]
    assert (message.type, message.role, message.content[0].type) == ("message", "assistant", "output_text"), message


@check
def response_cut_short(session):
    answer = respond(session, "Tell me a story about a dog.", max_output_tokens=5)
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens", answer
    assert answer.usage.output_tokens == 5


@check
def response_to_a_conversation(session):
    ask = [{"role": "user", "content": "Capital of Italy?"}]
    first = respond(session, ask, instructions="You answer with one word.")
    given = [
        *ask, *first.output,
        {"role": "user", "content": [{"type": "input_text", "text": "And of France?"}]}]
    answer = respond(session, given, instructions="You answer with one word.")
    assert answer.output_text, answer
    messages = [
        {"role": "system", "content": "You answer with one word."}, {"role": "user", "content": "Capital of Italy?"},
        {"role": "assistant", "content": first.output_text}, {"role": "user", "content": "And of France?"}]
    assert answer.output_text == chat(session, messages).choices[0].message.content


@check
def response_streamed(session):
    whole = respond(session, STORY, max_output_tokens=40)
    text, kinds, numbers, last = "", [], [], None
    with client(session) as api:
        for event in api.responses.create(
            model=session.model, input=STORY, temperature=0, max_output_tokens=40, stream=True
        ):
            kinds.append(event.type)
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
            last = event
    assert text == whole.output_text and numbers == list(range(len(numbers))), numbers
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete"), kinds
    assert last.response.output_text == text and last.response.usage.output_tokens == 40
    for kind in ("response.in_progress", "response.output_item.added", "response.content_part.added",
                 "response.output_text.done", "response.content_part.done", "response.output_item.done"):
        assert kind in kinds, kinds


@check
def response_stream_helper(session):
    with client(session) as api:
        with api.responses.stream(
            model=session.model, input=QUESTION, temperature=0, max_output_tokens=200, text_format=City
        ) as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response()
    assert isinstance(final.output_parsed, City) and City.model_validate_json(text) == final.output_parsed, final


@check
def response_parsed_with_pydantic(session):
    with client(session) as api:
        answer = api.responses.parse(
            model=session.model, input="Describe the city of Paris as JSON.", temperature=0, max_output_tokens=200,
            text_format=City)
    assert isinstance(answer.output_parsed, City), answer


@check
def response_with_tools(session):
    ask = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]
    answer = respond(session, ask, tools=[WEATHER], tool_choice="required", max_output_tokens=150)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert calls and calls[0].name == "get_weather" and calls[0].call_id, answer
    arguments = json.loads(calls[0].arguments)
    assert set(arguments) == {"city", "unit"} and arguments["unit"] in ("celsius", "fahrenheit"), calls
    given = [*ask, *answer.output, *(
        {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees, sunny"} for call in calls)]
    last = respond(session, given, tools=[WEATHER], tool_choice="none", max_output_tokens=40)
    assert last.output_text and not [item for item in last.output if item.type == "function_call"], last
    with client(session) as api:
        events = list(api.responses.create(
            model=session.model, input=ask, temperature=0, max_output_tokens=150, stream=True, tools=[WEATHER],
            tool_choice="required"))
    parts = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(parts) == calls[0].arguments, parts


@check(provokes=True)
def responses_that_need_a_store(session):
    for fields in ({"previous_response_id": "resp_1"}, {"background": True}, {"temperature": 9}):
        try:
            respond(session, **fields)
        except openai.APIStatusError as error:
            assert error.status_code in (400, 404) and error.body["message"], error
        else:
            raise AssertionError(f"{fields} was not refused")
    with client(session) as api:
        try:
            api.responses.retrieve("resp_1")
        except openai.APIStatusError as error:
            assert error.status_code in (404, 405) and error.body["message"], error
        else:
            raise AssertionError("a response that nobody stored was found")
