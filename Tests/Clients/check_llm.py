"""The command-line program `llm`, with the server's model in its `extra-openai-models.yaml`."""
import atexit
import json
import pathlib
import shutil
import sys
import tempfile

from harness import QUESTION, check, command, run

PROGRAM = pathlib.Path(sys.executable).parent / "llm"
STATE = {}


def llm(session, *arguments, input=None):
    """Runs the program with settings of its own."""
    if "directory" not in STATE:
        directory = pathlib.Path(tempfile.mkdtemp(prefix="llm-"))
        STATE["directory"] = directory
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        entry = {"model_id": "small", "model_name": session.model, "api_base": session.url, "supports_schema": True,
                 "supports_tools": True}
        text = {"model_id": "small-text", "model_name": session.model, "api_base": session.url, "completion": True}
        # JSON is YAML.
        (directory / "extra-openai-models.yaml").write_text(json.dumps([entry, text]))
    environment = {"LLM_USER_PATH": str(STATE["directory"]), "OPENAI_API_KEY": "any"}
    return command([PROGRAM, *arguments], environment=environment, input=input)


def logged(session):
    """The last exchange as the program wrote it down."""
    return json.loads(llm(session, "logs", "-n", "1", "--json"))[0]


@check
def models(session):
    assert "small" in llm(session, "models")


@check
def prompt(session):
    text = llm(session, "-m", "small", "-o", "temperature", "0", "-o", "max_tokens", "24", QUESTION)
    assert "Paris" in text, text
    entry = logged(session)
    assert entry["input_tokens"] > 0 and 0 < entry["output_tokens"] <= 24, entry


@check
def prompt_without_stream(session):
    arguments = ("-m", "small", "-o", "temperature", "0", "-o", "max_tokens", "24")
    assert llm(session, *arguments, "--no-stream", QUESTION) == llm(session, *arguments, QUESTION)


@check
def chat_with_system(session):
    text = llm(session, "-m", "small", "-s", "You answer with one word.", "-o", "temperature", "0",
               "-o", "max_tokens", "24", "What is the capital of Italy?")
    assert text.strip()
    again = llm(session, "-c", "-o", "temperature", "0", "-o", "max_tokens", "24", "And of France?")
    assert again.strip()
    history = session.recorder.exchanges[-1].fields["messages"]
    assert [message["role"] for message in history] == ["system", "user", "assistant", "user"], history


@check
def interactive_chat(session):
    text = llm(session, "chat", "-m", "small", "-o", "temperature", "0", "-o", "max_tokens", "16",
               input=f"{QUESTION}\nquit\n")
    assert "Paris" in text, text


@check
def completion(session):
    text = llm(session, "-m", "small-text", "-o", "temperature", "0", "-o", "max_tokens", "12",
               "The capital of France is")
    assert "Paris" in text, text


@check
def options(session):
    arguments = ("-m", "small", "-o", "temperature", "0.9", "-o", "top_p", "0.9", "-o", "seed", "3",
                 "-o", "max_tokens", "16", "-o", "frequency_penalty", "0.2", "-o", "presence_penalty", "0.2",
                 "-o", "stop", "@@@", "-o", "logit_bias", '{"100": -5}')
    assert llm(session, *arguments, "Tell me a story.") == llm(session, *arguments, "Tell me a story.")


@check
def json_object(session):
    text = llm(session, "-m", "small", "-o", "temperature", "0", "-o", "json_object", "1", "-o", "max_tokens", "200",
               "Describe Paris as a small JSON object.")
    assert text.lstrip().startswith("{"), text


@check
def schema(session):
    text = llm(session, "-m", "small", "-o", "temperature", "0", "-o", "max_tokens", "150",
               "--schema", "name, is_capital bool, population int", "Describe Paris.")
    document = json.loads(text)
    assert set(document) == {"name", "is_capital", "population"} and isinstance(document["is_capital"], bool), text


@check
def tools(session):
    """Offers a tool by `auto`; whether so small a model calls it is its own affair."""
    before = len(session.recorder.exchanges)
    text = llm(session, "-m", "small", "-o", "temperature", "0", "-o", "max_tokens", "60", "-T", "llm_version",
               "--chain-limit", "3", "Which version of llm is this?")
    asked = session.recorder.exchanges[before:]
    assert asked and all(exchange.fields["tools"] for exchange in asked), asked
    return f"{len(asked)} requests: {text.strip()[:60]!r}"


run("llm", ["openai"])
