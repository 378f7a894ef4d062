"""Kubernetes' inference-perf, with the server as one of type vllm. Needs Python 3.12."""
import json
import os
import pathlib
import shutil
import sys
import tempfile

from harness import check, command, run

MODEL = os.environ["TANDEM_CLIENTS_MODEL"]
PROGRAM = pathlib.Path(sys.executable).parent / "inference-perf"
WORK = pathlib.Path(tempfile.mkdtemp(prefix="inference-perf-"))
OUTPUT_TOKENS = 12


def spread(mean, total):
    return {"min": mean, "max": mean, "mean": mean, "std_dev": 0, "total_count": total}


def measure(session, name, api, data, rate=4, duration=5):
    """One run of `rate * duration` requests; gives the summary and what the recorder saw."""
    configuration = {
        "api": api,
        "data": data,
        "load": {"type": "constant", "num_workers": 1, "stages": [{"rate": rate, "duration": duration}]},
        "server": {"type": "vllm", "model_name": session.model, "base_url": session.root, "ignore_eos": True},
        "tokenizer": {"pretrained_model_name_or_path": MODEL},
        "report": {"request_lifecycle": {"summary": True, "per_stage": True, "per_request": True}},
        "storage": {"local_storage": {"path": str(WORK / name)}},
    }
    # JSON is YAML.
    path = WORK / f"{name}.yml"
    path.write_text(json.dumps(configuration))
    os.environ.pop("HF_HUB_OFFLINE", None)
    before = len(session.recorder.exchanges)
    printed = command([PROGRAM, "-c", path], timeout=400)
    reports = list((WORK / name).glob("**/summary_lifecycle_metrics.json"))
    assert reports, printed[-3000:]
    summary = json.loads(reports[0].read_text())
    paths = ("/v1/completions", "/v1/chat/completions")
    exchanges = [e for e in session.recorder.exchanges[before:] if e.path in paths]
    total = rate * duration
    assert summary["failures"]["count"] == 0 and summary["successes"]["count"] == total, summary["failures"]
    assert len(exchanges) == total and not [e.error for e in exchanges if e.error]
    return summary, exchanges


def agree(summary, exchanges, output=OUTPUT_TOKENS):
    """What the client reports of tokens is what the server said, and that is what transformers counts."""
    from transformers import AutoTokenizer

    found = summary["successes"]
    said = [exchange.usage for exchange in exchanges]
    totals = (found["prompt_tokens"]["total"], found["output_tokens"]["total"])
    assert totals == tuple(sum(usage[key] for usage in said) for key in ("prompt_tokens", "completion_tokens")), found
    cached = sum((usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0) for usage in said)
    assert found["prompt_tokens"]["cached"] == cached, (found["prompt_tokens"], cached)
    assert [usage["completion_tokens"] for usage in said] == [output] * len(said), said
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    for exchange in exchanges:
        if "prompt" in exchange.fields:
            counted = len(tokenizer(exchange.fields["prompt"]).input_ids)
            assert exchange.usage["prompt_tokens"] == counted, (exchange.fields["prompt"], exchange.usage, counted)
    return cached


@check
def completions_streamed(session):
    """Prompts of random tokens, in which control characters and U+FFFD occur."""
    summary, exchanges = measure(
        session, "random", {"type": "completion", "streaming": True},
        {"type": "random", "input_distribution": spread(48, 20), "output_distribution": spread(OUTPUT_TOKENS, 20)})
    assert all(e.fields["ignore_eos"] is True and e.fields["stream"] is True for e in exchanges)
    agree(summary, exchanges)
    assert summary["successes"]["client_fallback_requests"] in (0, {}, None) or not any(
        summary["successes"]["client_fallback_requests"].values()), summary["successes"]["client_fallback_requests"]
    return f"mismatches {summary['successes']['token_count_mismatches']}"


@check
def completions_not_streamed(session):
    summary, exchanges = measure(
        session, "whole", {"type": "completion", "streaming": False},
        {"type": "random", "input_distribution": spread(32, 20), "output_distribution": spread(OUTPUT_TOKENS, 20)})
    agree(summary, exchanges)


@check
def shared_prefixes_streamed(session):
    summary, exchanges = measure(
        session, "shared", {"type": "completion", "streaming": True},
        {"type": "shared_prefix", "shared_prefix": {
            "num_groups": 2, "num_prompts_per_group": 10, "system_prompt_len": 128, "question_len": 16,
            "output_len": OUTPUT_TOKENS}})
    cached = agree(summary, exchanges)
    # Two groups of ten prompts on two engines: at least half of what could be found is.
    assert cached >= 0.5 * 16 * 128, f"{cached} tokens of shared prefixes were found"
    return f"{cached} tokens of shared prefixes were found"


@check
def chat_streamed(session):
    summary, exchanges = measure(session, "chat", {"type": "chat", "streaming": True}, {"type": "mock"}, rate=2)
    assert all(e.path == "/v1/chat/completions" for e in exchanges)
    agree(summary, exchanges, exchanges[0].fields["max_tokens"])


@check
def completions_with_a_schema(session):
    """Here the client sends `response_format` together with `ignore_eos`: the text is the document alone."""
    schema = {"type": "object", "properties": {"answer": {"type": "boolean"}}, "required": ["answer"],
              "additionalProperties": False}
    _, exchanges = measure(
        session, "schema",
        {"type": "completion", "streaming": False,
         "response_format": {"type": "json_schema", "name": "answer", "json_schema": schema}},
        {"type": "shared_prefix", "shared_prefix": {
            "num_groups": 1, "num_prompts_per_group": 10, "system_prompt_len": 32, "question_len": 16,
            "output_len": 64}}, rate=2)
    texts = [exchange.documents[0]["choices"][0]["text"] for exchange in exchanges]
    for text in texts:
        assert set(json.loads(text)) == {"answer"}, text
    return texts[0]


try:
    run("inference-perf", ["transformers", "tokenizers"], model=MODEL)
finally:
    shutil.rmtree(WORK, ignore_errors=True)
