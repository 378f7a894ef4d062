"""NVIDIA's AIPerf: short profile runs, whose own count of tokens must be the server's."""
import json
import os
import pathlib
import shutil
import sys
import tempfile

from harness import check, command, run

MODEL = os.environ["TANDEM_CLIENTS_MODEL"]
PROGRAM = pathlib.Path(sys.executable).parent / "aiperf"
WORK = pathlib.Path(tempfile.mkdtemp(prefix="aiperf-"))
REQUESTS = 20


def profile(session, name, kind, *more):
    """One run; gives the summary, the records of requests and what the recorder saw of them."""
    output = WORK / name
    before = len(session.recorder.exchanges)
    # With HF_HUB_OFFLINE the path of a tokenizer is taken for a name on the hub.
    os.environ.pop("HF_HUB_OFFLINE", None)
    printed = command(
        [PROGRAM, "profile", "--model", session.model, "--url", session.root, "--endpoint-type", kind,
         "--tokenizer", MODEL, "--request-count", REQUESTS, "--concurrency", 4, "--random-seed", 1,
         "--artifact-dir", output, "--ui", "none", *more], timeout=400)
    summary = json.loads(next(output.glob("**/profile_export_aiperf.json")).read_text())
    lines = next(output.glob("**/profile_export.jsonl")).read_text().splitlines()
    paths = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "embeddings": "/v1/embeddings"}
    exchanges = [e for e in session.recorder.exchanges[before:] if e.path == paths[kind]]
    assert not summary.get("error_summary"), summary["error_summary"]
    assert summary["request_count"]["avg"] == REQUESTS, summary["request_count"]
    assert len(lines) == len(exchanges) == REQUESTS, (len(lines), len(exchanges))
    assert not [e.error for e in exchanges if e.error]
    return summary, [json.loads(line) for line in lines], exchanges, printed


def value(record, name):
    entry = record["metrics"].get(name)
    return None if entry is None else entry["value"]


def agree(records, exchanges):
    """The client counts tokens twice: as the server says, and by its own tokenizer in the text that it got."""
    from transformers import AutoTokenizer

    for name, key in (("usage_prompt_tokens", "prompt_tokens"), ("usage_completion_tokens", "completion_tokens")):
        counted = sorted(value(record, name) for record in records)
        said = sorted(exchange.usage[key] for exchange in exchanges)
        assert counted == said, f"{key}: the client has {counted}, the server said {said}"
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    counted = sorted(value(record, "output_sequence_length") for record in records)
    texts = [len(tokenizer(text(exchange), add_special_tokens=False).input_ids) for exchange in exchanges]
    assert counted == sorted(texts), f"the client counted {counted}, in the texts are {sorted(texts)}"
    # A text can be cut into fewer tokens than it was made of, and an end of the sequence does not show in it.
    said = sum(exchange.usage["completion_tokens"] for exchange in exchanges)
    assert abs(sum(counted) - said) <= 0.1 * said, f"the client counted {sum(counted)}, the server said {said}"


def text(exchange):
    parts = []
    for document in exchange.documents:
        for choice in document["choices"]:
            message = choice.get("delta") or choice.get("message") or {}
            parts.append(choice.get("text") or message.get("content") or "")
    return "".join(parts)


SIZES = ("--synthetic-input-tokens-mean", 64, "--synthetic-input-tokens-stddev", 8, "--output-tokens-mean", 16,
         "--output-tokens-stddev", 0)


@check
def chat_streamed(session):
    summary, records, exchanges, printed = profile(
        session, "chat", "chat", "--streaming", *SIZES, "--extra-inputs", "ignore_eos:true")
    agree(records, exchanges)
    assert [exchange.usage["completion_tokens"] for exchange in exchanges] == [16] * REQUESTS
    assert summary["time_to_first_token"]["avg"] > 0 and summary["output_token_throughput"]["avg"] > 0
    first = exchanges[0].fields
    assert first["stream"] is True and first["stream_options"]["include_usage"] is True, first
    return (f"first token after {summary['time_to_first_token']['p50']:.0f} ms, "
            f"{summary['output_token_throughput']['avg']:.0f} tokens/s")


@check
def chat_not_streamed(session):
    _, records, exchanges, _ = profile(session, "whole", "chat", *SIZES)
    agree(records, exchanges)


@check
def chat_with_the_template_counted(session):
    """With `--apply-chat-template` the client makes its prompts so much shorter that they have the asked length with
    the template around them: by the server's count they must."""
    _, _, exchanges, _ = profile(
        session, "template", "chat", "--streaming", "--apply-chat-template", "--isl", 64, "--osl", 8)
    said = [exchange.usage["prompt_tokens"] for exchange in exchanges]
    assert all(abs(count - 64) <= 1 for count in said), said
    return f"{said.count(64)} of {len(said)} have 64 tokens"


@check
def completions_streamed(session):
    _, records, exchanges, _ = profile(session, "text", "completions", "--streaming", *SIZES)
    agree(records, exchanges)
    # Here the server's prompt is the client's, with no template around it.
    counted = sorted(value(record, "input_sequence_length") for record in records)
    said = sorted(exchange.usage["prompt_tokens"] for exchange in exchanges)
    assert counted == said, f"input tokens: the client counted {counted}, the server said {said}"


@check
def metrics_are_scraped(session):
    """It asks for /metrics by itself, before, during and after a run."""
    scrapes = [e for e in session.recorder.exchanges if e.path == "/metrics"]
    assert scrapes and all(e.status == 200 for e in scrapes if e.whole), [(e.method, e.status) for e in scrapes]
    found = [path for path in WORK.glob("chat/**/*server_metrics*")]
    assert found, list(WORK.glob("chat/**/*"))
    text = "".join(path.read_text() for path in found if path.suffix in (".json", ".csv"))
    assert "vllm:" in text, text[:500]
    return f"{len(scrapes)} requests, {text.count('vllm:')} names"


@check
def embeddings(session):
    _, _, exchanges, _ = profile(session, "embeddings", "embeddings", "--synthetic-input-tokens-mean", 32)
    assert all(e.usage["prompt_tokens"] > 0 for e in exchanges)


try:
    run("aiperf", ["transformers", "tokenizers"], model=MODEL)
finally:
    shutil.rmtree(WORK, ignore_errors=True)
