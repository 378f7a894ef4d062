"""How checks of the official client ask."""
from openai import OpenAI

from harness import QUESTION

CHAT = [{"role": "user", "content": QUESTION}]
STORY = [{"role": "user", "content": "Tell me a story about a dog."}]


def client(session, **more):
    return OpenAI(base_url=session.url, api_key=session.key or "any", max_retries=0, timeout=120, **more)


def chat(session, messages=CHAT, **fields):
    with client(session) as api:
        return api.chat.completions.create(
            **{"model": session.model, "messages": messages, "temperature": 0, "max_completion_tokens": 24, **fields})


def complete(session, prompt="The capital of France is", **fields):
    with client(session) as api:
        return api.completions.create(
            **{"model": session.model, "prompt": prompt, "temperature": 0, "max_tokens": 12, **fields})
