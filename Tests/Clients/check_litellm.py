"""LiteLLM as a library, with the prefixes `openai/`, `hosted_vllm/` and `text-completion-openai/`."""
import asyncio
import json
import os

# Else it fetches a price list when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
import pydantic  # noqa: E402
from litellm import acompletion, completion, embedding, text_completion  # noqa: E402

from harness import QUESTION, check, run  # noqa: E402

CHAT = [{"role": "user", "content": QUESTION}]
litellm.num_retries = 0
litellm.telemetry = False


def common(session, provider="openai", **more):
    return {"model": f"{provider}/{session.model}", "api_base": session.url, "api_key": "any", "temperature": 0,
            "timeout": 120, **more}


@check
def chat(session):
    for provider in ("openai", "hosted_vllm"):
        answer = completion(**common(session, provider), messages=CHAT, max_tokens=24)
        assert "Paris" in answer.choices[0].message.content, answer
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.choices[0].finish_reason in ("stop", "length")


@check
def chat_stream(session):
    whole = completion(**common(session), messages=CHAT, max_tokens=24)
    chunks = list(completion(
        **common(session), messages=CHAT, max_tokens=24, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    rebuilt = litellm.stream_chunk_builder(chunks, messages=CHAT)
    assert rebuilt.choices[0].message.content == text
    assert rebuilt.usage.completion_tokens == whole.usage.completion_tokens, (rebuilt.usage, whole.usage)


@check
async def chat_async(session):
    answers = await asyncio.gather(*(acompletion(**common(session), messages=CHAT, max_tokens=8) for _ in range(4)))
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    stream = await acompletion(**common(session), messages=CHAT, max_tokens=8, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == answers[0].choices[0].message.content


@check
def parameters(session):
    answer = completion(
        **{**common(session), "temperature": 0.9}, messages=CHAT, max_completion_tokens=16, top_p=0.9, seed=3, n=2,
        stop=["\n\n"], presence_penalty=0.2, frequency_penalty=0.2, logit_bias={"100": -5}, user="somebody",
        logprobs=True, top_logprobs=2)
    assert len(answer.choices) == 2 and answer.choices[0].logprobs.content, answer
    answer = completion(
        **common(session, "hosted_vllm"), messages=CHAT, max_tokens=16, extra_body={"ignore_eos": True, "top_k": 5})
    assert answer.usage.completion_tokens == 16, answer


@check
def response_format(session):
    class City(pydantic.BaseModel):
        name: str
        is_capital: bool

    ask = [{"role": "user", "content": "Describe Paris as JSON."}]
    answer = completion(**common(session), messages=ask, max_tokens=150, response_format=City)
    City.model_validate_json(answer.choices[0].message.content)
    answer = completion(**common(session), messages=ask, max_tokens=200, response_format={"type": "json_object"})
    if answer.choices[0].finish_reason == "stop":
        json.loads(answer.choices[0].message.content)


@check
def tools(session):
    weather = {
        "type": "function",
        "function": {"name": "get_weather", "description": "Weather of a city.", "parameters": {
            "type": "object", "properties": {"city": {"type": "string", "maxLength": 30}}, "required": ["city"]}}}
    ask = [{"role": "user", "content": "What is the weather in Paris?"}]
    fields = dict(messages=ask, max_tokens=100, tools=[weather], tool_choice="required")
    answer = completion(**common(session), **fields)
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls" and call.function.name == "get_weather", answer
    assert set(json.loads(call.function.arguments)) == {"city"}
    rebuilt = litellm.stream_chunk_builder(list(completion(**common(session), **fields, stream=True)), messages=ask)
    assert rebuilt.choices[0].message.tool_calls[0].function.arguments == call.function.arguments, rebuilt


@check
def responses_interface(session):
    fields = {"model": f"openai/{session.model}", "api_base": session.url, "api_key": "any", "temperature": 0}
    answer = litellm.responses(**fields, input=QUESTION, max_output_tokens=24)
    assert "Paris" in answer.output[0].content[0].text, answer
    events = list(litellm.responses(**fields, input=QUESTION, max_output_tokens=24, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == (
        answer.output[0].content[0].text)


@check
def completions_of_text(session):
    for provider in ("text-completion-openai", "hosted_vllm", "openai"):
        answer = text_completion(**common(session, provider), prompt="The capital of France is", max_tokens=12)
        assert answer.choices[0].text, (provider, answer)
    answer = text_completion(
        **common(session, "text-completion-openai"), prompt="The capital of France is", max_tokens=12)
    assert "Paris" in answer.choices[0].text and answer.usage.completion_tokens <= 12
    chunks = text_completion(
        **common(session, "text-completion-openai"), prompt="The capital of France is", max_tokens=12, stream=True)
    assert "".join(chunk.choices[0].text or "" for chunk in chunks) == answer.choices[0].text
    lists = text_completion(
        **common(session, "text-completion-openai"), prompt=["The capital of France is", "One, two,"], max_tokens=4)
    assert len(lists.choices) == 2


@check
def embeddings(session):
    for provider in ("openai", "hosted_vllm"):
        fields = {key: value for key, value in common(session, provider).items() if key != "temperature"}
        answer = embedding(**fields, input=["A cat sat on the mat.", "Interest rates rose."])
        assert len(answer.data) == 2 and len(answer.data[0]["embedding"]) > 100
        assert answer.usage.prompt_tokens > 0


@check
def rerank(session):
    """vLLM's reranking, which LiteLLM reaches by `hosted_vllm/`."""
    answer = litellm.rerank(
        model=f"hosted_vllm/{session.model}", api_base=session.url, api_key="any", query="Where do cats sleep?",
        documents=["Interest rates rose.", "Cats sleep on sofas."], top_n=2)
    assert sorted(result["index"] for result in answer.results) == [0, 1], answer
    scores = [result["relevance_score"] for result in answer.results]
    assert scores == sorted(scores, reverse=True), answer


def _raises(kind, call):
    try:
        call()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


@check(provokes=True)
def errors(session):
    bad = {**common(session), "model": "openai/gpt-99"}
    _raises(litellm.NotFoundError, lambda: completion(**bad, messages=CHAT))
    _raises(litellm.BadRequestError, lambda: completion(**{**common(session), "temperature": 9}, messages=CHAT))
    _raises(litellm.ContextWindowExceededError, lambda: completion(
        **common(session), messages=[{"role": "user", "content": "word " * 12000}]))


@check
def router(session):
    router = litellm.Router(model_list=[
        {"model_name": "small", "litellm_params": {
            "model": f"openai/{session.model}", "api_base": session.url, "api_key": "any"}}])
    answer = router.completion(model="small", messages=CHAT, temperature=0, max_tokens=12)
    assert "Paris" in answer.choices[0].message.content


run("litellm", ["openai"])
