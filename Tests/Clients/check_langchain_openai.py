"""LangChain's classes for OpenAI."""
import asyncio
import math
from typing import Literal

import pydantic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from harness import QUESTION, check, run


def chat(session, **more):
    return ChatOpenAI(
        **{"model": session.model, "base_url": session.url, "api_key": "any", "max_retries": 0, "timeout": 120,
           "temperature": 0, "max_tokens": 32, **more})


class City(pydantic.BaseModel):
    """A city."""

    name: str
    country: Literal["France", "Italy", "Spain"]
    is_capital: bool


@tool
def get_weather(city: str, unit: Literal["celsius", "fahrenheit"]) -> str:
    """Weather of a city."""
    return f"21 degrees {unit} in {city}"


ASK_WEATHER = "What is the weather in Paris, in celsius?"


@check
def invoke(session):
    answer = chat(session).invoke(QUESTION)
    assert isinstance(answer, AIMessage) and "Paris" in answer.content, answer
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] and usage["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert answer.response_metadata["model_name"] == session.model


@check
def invoke_with_history(session):
    messages = [SystemMessage("You answer with one word."), HumanMessage("Capital of Italy?"), AIMessage("Rome"),
                HumanMessage("Capital of France?")]
    assert chat(session).invoke(messages).content


@check
def stream(session):
    whole = chat(session).invoke("Tell me a story.").content
    chunks = list(chat(session, stream_usage=True).stream("Tell me a story."))
    assert "".join(chunk.content for chunk in chunks) == whole
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total.usage_metadata["output_tokens"] == 32, total.usage_metadata


@check
def batch(session):
    model = chat(session)
    questions = [f"What is the capital of {country}?" for country in ("France", "Italy", "Spain", "Greece", "Norway")]
    together = [answer.content for answer in model.batch(questions)]
    assert together == [model.invoke(question).content for question in questions]


@check
async def asynchronous(session):
    model = chat(session)
    one, other = await asyncio.gather(model.ainvoke(QUESTION), model.ainvoke(QUESTION))
    text = "".join([chunk.content async for chunk in model.astream(QUESTION)])
    assert one.content == other.content == text


@check
def chain(session):
    prompt = ChatPromptTemplate.from_messages([("system", "You are brief."), ("user", "Capital of {country}?")])
    text = (prompt | chat(session) | StrOutputParser()).invoke({"country": "France"})
    assert isinstance(text, str) and text


@check
def parameters(session):
    model = chat(session, temperature=0.8, top_p=0.9, seed=4, n=1, stop=["\n\n"], frequency_penalty=0.4,
                 presence_penalty=0.3, logprobs=True, top_logprobs=2, model_kwargs={"user": "somebody"})
    one, other = model.invoke("Tell me a story."), model.invoke("Tell me a story.")
    assert one.content == other.content
    assert len(one.response_metadata["logprobs"]["content"][0]["top_logprobs"]) == 2


@check
def structured_output_by_schema(session):
    """The default way: response_format with a JSON schema."""
    answer = chat(session, max_tokens=200).with_structured_output(City).invoke("Describe Paris as JSON.")
    assert isinstance(answer, City), answer
    return str(answer)


@check
def structured_output_by_tool(session):
    model = chat(session, max_tokens=200).with_structured_output(City, method="function_calling")
    answer = model.invoke("Describe Paris.")
    assert isinstance(answer, City), answer
    return str(answer)


@check
def structured_output_by_json_mode(session):
    model = chat(session, max_tokens=300).with_structured_output(None, method="json_mode", include_raw=True)
    answer = model.invoke("Describe Paris as a small JSON object.")
    raw = answer["raw"]
    if raw.response_metadata["finish_reason"] == "stop":
        assert isinstance(answer["parsed"], dict), answer
    return f"finish_reason {raw.response_metadata['finish_reason']}"


@check
def structured_output_streamed(session):
    parts = list(chat(session, max_tokens=200).with_structured_output(City).stream("Describe Paris as JSON."))
    assert isinstance(parts[-1], City), parts


@check
def bind_tools(session):
    model = chat(session, max_tokens=150)
    answer = model.bind_tools([get_weather], tool_choice="any").invoke(ASK_WEATHER)
    call = answer.tool_calls[0]
    assert call["name"] == "get_weather" and set(call["args"]) == {"city", "unit"} and call["id"], answer
    assert not answer.invalid_tool_calls
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    last = model.bind_tools([get_weather], tool_choice="none").invoke([HumanMessage(ASK_WEATHER), answer, result])
    assert last.content and not last.tool_calls, last
    named = model.bind_tools([get_weather], tool_choice="get_weather").invoke(ASK_WEATHER)
    assert named.tool_calls[0]["name"] == "get_weather", named


@check
def bind_tools_auto(session):
    answer = chat(session, max_tokens=80).bind_tools([get_weather]).invoke(ASK_WEATHER)
    assert answer.content or answer.tool_calls, answer


@check
def bind_tools_streamed(session):
    model = chat(session, max_tokens=150).bind_tools([get_weather], tool_choice="any")
    total = None
    for chunk in model.stream(ASK_WEATHER):
        total = chunk if total is None else total + chunk
    assert total.tool_calls == [{**model.invoke(ASK_WEATHER).tool_calls[0], "id": total.tool_calls[0]["id"]}], total


@check
def responses_interface(session):
    """LangChain takes OpenAI's newer interface when told to."""
    model = chat(session, use_responses_api=True, max_tokens=200)
    answer = model.invoke(QUESTION)
    assert "Paris" in answer.text and answer.usage_metadata["output_tokens"] > 0, answer
    assert "".join(chunk.text for chunk in model.stream(QUESTION)) == answer.text
    called = model.bind_tools([get_weather], tool_choice="any").invoke(ASK_WEATHER)
    assert called.tool_calls[0]["name"] == "get_weather", called
    result = get_weather.invoke(called.tool_calls[0])
    assert model.bind_tools([get_weather], tool_choice="none").invoke([HumanMessage(ASK_WEATHER), called, result]).text
    assert isinstance(model.with_structured_output(City).invoke("Describe Paris as JSON."), City)


@check
def completions(session):
    model = OpenAI(model=session.model, base_url=session.url, api_key="any", max_retries=0, temperature=0,
                   max_tokens=12)
    text = model.invoke("The capital of France is")
    assert "Paris" in text
    assert "".join(model.stream("The capital of France is")) == text
    answer = model.generate(["The capital of France is", "The capital of Italy is"])
    assert answer.generations[0][0].text == text and len(answer.generations) == 2
    assert answer.llm_output["token_usage"]["completion_tokens"] > 0


@check
def completions_as_by_default(session):
    """With the defaults of the class: no temperature, no limit, nulls."""
    assert OpenAI(model=session.model, base_url=session.url, api_key="any", max_retries=0).invoke("One, two, three,")


@check
def embeddings(session):
    # The check would count tokens with a tokenizer that has to be fetched.
    model = OpenAIEmbeddings(
        model=session.model, base_url=session.url, api_key="any", check_embedding_ctx_length=False, max_retries=0)
    texts = ["A cat sat on the mat.", "A kitten lies on the rug.", "Interest rates rose sharply this quarter."]
    vectors = model.embed_documents(texts)
    query = model.embed_query(texts[0])
    assert len(vectors) == 3 and math.dist(query, vectors[0]) < 1e-4
    assert math.dist(vectors[0], vectors[1]) < math.dist(vectors[0], vectors[2])


run("langchain-openai", ["langchain-core", "openai"])
