"""Models, completions, chats and sampling by the official client."""
import openai

from harness import check
from openai_requests import CHAT, STORY, chat, client, complete


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
        ranks = sorted(value["rank"] for value in entry.values())
        assert ranks[:2] == [1, 2] and (len(ranks) == 2 or ranks[2] > 2), found


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
