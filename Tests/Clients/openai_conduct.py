"""Embeddings, errors, many requests at once and requests left early, by the official client."""
import asyncio
import base64
import json
import math
import struct
import threading

import openai
from openai import AsyncOpenAI, OpenAI

from harness import Session, check
from openai_requests import CHAT, STORY, chat, client, complete


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
