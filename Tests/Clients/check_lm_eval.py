"""EleutherAI's evaluation harness: what it scores through the server must be what it scores with transformers.

Both compute in float32 on one directory of weights, so not only scores but the log-probabilities of single items are
compared. The tasks are small and our own (`tasks/`).
"""
import glob
import json
import os
import pathlib
import shutil
import sys
import tempfile

from harness import check, command, run

HERE = pathlib.Path(__file__).resolve().parent
MODEL = os.environ["TANDEM_CLIENTS_MODEL"]
PROGRAM = pathlib.Path(sys.executable).parent / "lm_eval"
SCORING = ("tandem_choice", "tandem_last_word", "tandem_text")
GENERATING = ("tandem_capital",)
CHAT = ("tandem_question",)
# Largest difference of an item's log-probability.
TOLERANCE = 2e-3
WORK = pathlib.Path(tempfile.mkdtemp(prefix="lm-eval-"))
REFERENCE = {}


def evaluate(name, model, arguments, tasks, *more):
    """One run of the program; gives scores by task and samples by task and document."""
    output = WORK / name
    options = ",".join(f"{key}={value}" for key, value in arguments.items())
    # The program reads the tasks' data relative to where it runs.
    os.chdir(HERE / "tasks")
    environment = {
        "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(WORK / "hub"), "OPENAI_API_KEY": "any",
        "TOKENIZERS_PARALLELISM": "false"}
    printed = command(
        [PROGRAM, "run", "--model", model, "--model_args", options, "--tasks", ",".join(tasks), "--include_path", ".",
         "--output_path", output, "--log_samples", *more], timeout=900, environment=environment)
    results = json.loads(pathlib.Path(glob.glob(f"{output}/**/results_*.json", recursive=True)[0]).read_text())
    scores, samples = {}, {}
    for task in tasks:
        scores[task] = {
            key: value for key, value in results["results"][task].items()
            if isinstance(value, (int, float)) and "stderr" not in key}
        path = glob.glob(f"{output}/**/samples_{task}_*.jsonl", recursive=True)[0]
        lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
        samples[task] = {line["doc_id"]: line for line in lines}
        assert len(samples[task]) >= 20, f"{task} has {len(samples[task])} items\n{printed[-2000:]}"
    return scores, samples


def api(session, **more):
    return {"model": session.model, "base_url": f"{session.url}/completions", "max_length": 2048,
            "max_retries": 1, **more}


def reference(name, tasks, *more):
    """The same by transformers; computed once."""
    if name not in REFERENCE:
        arguments = {"pretrained": MODEL, "dtype": "float32", "max_length": 2048}
        REFERENCE[name] = evaluate(
            f"hf-{name}", "hf", arguments, tasks, "--device", "cpu", "--batch_size", "4", *more)
    return REFERENCE[name]


def _answers(sample):
    """What the model said to each of a document's requests."""
    return [answer[0] if isinstance(answer[0], list) else answer for answer in sample["resps"]]


def compare(ours, theirs, tasks):
    """All items and all scores; gives the largest difference of an item."""
    largest = 0
    for task in tasks:
        for document, sample in theirs[1][task].items():
            found = ours[1][task][document]
            for index, (one, other) in enumerate(zip(_answers(found), _answers(sample), strict=True)):
                place = f"{task}, item {document}, answer {index}: {one} and not {other}"
                if task not in SCORING:
                    assert one == other, place
                    continue
                # The files hold numbers as texts; with them comes the word whether the text is the likeliest.
                difference = abs(float(one[0]) - float(other[0]))
                largest = max(largest, difference)
                assert difference <= TOLERANCE, f"{place} ({difference:.2g})"
                assert one[1:] == other[1:], place
        for metric, value in theirs[0][task].items():
            score = ours[0][task][metric]
            exact = not ("perplexity" in metric or "bits" in metric)
            assert score == value if exact else abs(score - value) <= 1e-3 * abs(value), (
                f"{task} {metric}: {score} and not {value}")
    return largest


def said(scores, tasks):
    return "; ".join(
        f"{task.removeprefix('tandem_')} " + ", ".join(
            f"{metric.split(',')[0]} {value:.4g}" for metric, value in scores[task].items() if metric != "sample_len")
        for task in tasks)


@check
def tokens_of_all_texts(session):
    """The server and transformers agree on every text of the tasks."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    texts = []
    for path in sorted((HERE / "tasks").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            texts += [str(value) for value in json.loads(line).values()]
    for text in [*texts, "In 1862, 14:35, 3.14159", "a\n\n\tb  c", "naïve café — “quoted” 日本語 👩‍👩‍👧"]:
        expected = tokenizer(text, add_special_tokens=False).input_ids
        found = session.server.tokenize(text, add_special_tokens=False)
        assert found == expected, (text, found, expected)
        back = session.server.post("/detokenize", {"tokens": found}).json["prompt"]
        assert back == tokenizer.decode(expected, clean_up_tokenization_spaces=False) == text, (back, text)
    messages = [{"role": "user", "content": "Capital of France?"}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    found = session.server.post("/tokenize", {"messages": messages, "add_generation_prompt": True}).json["tokens"]
    assert found == expected, (found, expected)
    return f"{len(texts)} texts"


@check
def scores_with_local_tokenizer(session):
    theirs = reference("scoring", SCORING)
    ours = evaluate(
        "local", "local-completions", api(session, tokenizer_backend="huggingface", tokenizer=MODEL, num_concurrent=2),
        SCORING, "--batch_size", "4")
    difference = compare(ours, theirs, SCORING)
    prompts = [exchange.fields["prompt"] for exchange in session.recorder.exchanges
               if exchange.path == "/v1/completions"]
    assert all(isinstance(prompt[0][0], int) for prompt in prompts) and max(map(len, prompts)) == 4
    return f"largest difference of an item {difference:.2g}; {said(theirs[0], SCORING)}"


@check
def scores_with_the_servers_tokenizer(session):
    """`tokenizer_backend=auto` takes /tokenizer_info, /tokenize and /detokenize if the server has them."""
    answer = session.server.get("/tokenizer_info")
    assert answer.status == 200 and answer.json["eos_token"], answer
    theirs = reference("scoring", SCORING)
    ours = evaluate("remote", "local-completions", api(session), SCORING, "--batch_size", "1")
    paths = {exchange.path for exchange in session.recorder.exchanges}
    assert {"/tokenizer_info", "/tokenize"} <= paths, paths
    return f"largest difference of an item {compare(ours, theirs, SCORING):.2g}"


@check
def scores_of_texts(session):
    """Prompts as strings instead of tokens."""
    theirs = reference("scoring", SCORING)
    ours = evaluate(
        "strings", "local-completions",
        api(session, tokenizer_backend="huggingface", tokenizer=MODEL, tokenized_requests=False),
        SCORING[:2], "--batch_size", "1")
    return f"largest difference of an item {compare(ours, theirs, SCORING[:2]):.2g}"


@check
def generations(session):
    theirs = reference("generating", GENERATING)
    ours = evaluate(
        "generating", "local-completions",
        api(session, tokenizer_backend="huggingface", tokenizer=MODEL, num_concurrent=4), GENERATING)
    compare(ours, theirs, GENERATING)
    return said(ours[0], GENERATING)


@check
def chat_generations(session):
    theirs = reference("chat", CHAT, "--apply_chat_template")
    ours = evaluate(
        "chat", "local-chat-completions",
        {"model": session.model, "base_url": f"{session.url}/chat/completions", "num_concurrent": 4, "max_retries": 1},
        CHAT, "--apply_chat_template")
    compare(ours, theirs, CHAT)
    return said(ours[0], CHAT)


@check
def chat_generations_with_the_servers_tokenizer(session):
    """Here the program asks the server for the template and renders the conversation itself."""
    theirs = reference("chat", CHAT, "--apply_chat_template")
    ours = evaluate("chat-remote", "local-completions", api(session), CHAT, "--apply_chat_template")
    compare(ours, theirs, CHAT)


try:
    run("lm_eval", ["transformers", "torch", "tokenizers", "datasets"], "--cpu-compute", "f32", model=MODEL)
finally:
    shutil.rmtree(WORK, ignore_errors=True)
