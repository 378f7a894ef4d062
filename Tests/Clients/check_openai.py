"""The official client, on everything it has a method for that a server of text models offers."""
# Checks run in the order in which these define them.
import openai_generation  # noqa: F401
import openai_structure  # noqa: F401
import openai_responses  # noqa: F401
import openai_conduct  # noqa: F401
from harness import run

run("openai", ["httpx2", "pydantic"])
