#!/usr/bin/env python3
"""Makes calls.json: model outputs with calls of tools, and what SGLang's detectors find in them.

    pip download --no-deps sglang==0.5.23 && unzip sglang-*.whl 'sglang/srt/function_call/*' -d FOLDER
    pip install orjson partial_json_parser pydantic && python3 make_call_references.py FOLDER

The detectors need of the rest of SGLang only the types of a request; these stand in for it.
"""
import importlib
import json
import pathlib
import sys
import types
from typing import Any, Optional

import pydantic


class Function(pydantic.BaseModel):
    name: str
    description: Optional[str] = None
    parameters: Any = None
    strict: bool = False


class Tool(pydantic.BaseModel):
    type: str = "function"
    function: Function


class Anything:
    def __getattr__(self, name):
        return Anything()

    def get(self):
        return False


def stand_in(folder):
    for name in ("sglang", "sglang.srt", "sglang.srt.entrypoints", "sglang.srt.entrypoints.openai"):
        module = types.ModuleType(name)
        module.__path__ = [str(pathlib.Path(folder, *name.split(".")))]
        sys.modules[name] = module
    # Not its __init__, which loads all of them.
    module = types.ModuleType("sglang.srt.function_call")
    module.__path__ = [str(pathlib.Path(folder, "sglang/srt/function_call"))]
    sys.modules[module.__name__] = module
    protocol = types.ModuleType("sglang.srt.entrypoints.openai.protocol")
    protocol.Tool, protocol.ToolChoice, protocol.Function = Tool, Any, Function
    environ = types.ModuleType("sglang.srt.environ")
    environ.envs = Anything()
    sys.modules[protocol.__name__], sys.modules[environ.__name__] = protocol, environ


DETECTORS = {
    "hermes": ("qwen25_detector", "Qwen25Detector"),
    "llama": ("llama32_detector", "Llama32Detector"),
    "mistral": ("mistral_detector", "MistralDetector"),
}
TOOLS = [Tool(function=Function(name=name, parameters={})) for name in ("get_weather", "now", "search")]
ARGUMENTS = [
    "{}",
    '{"city": "Paris"}',
    '{"city": "San Francisco", "metric": "celsius"}',
    '{"a": [1, -2.5, {"b": null}], "c": true}',
    '{"text": "quotes \\" and \\\\ and \\n and </tool and [TOOL and ; and {"}',
    '{"text": "Grüße 👨‍👩‍👧 \\u00e9 你好"}',
    '{\n  "city": "Paris",\n  "days": 3\n}',
]


def texts(form):
    def call(name, arguments):
        key = "parameters" if form == "llama" else "arguments"
        return '{"name": "%s", "%s": %s}' % (name, key, arguments)

    def several(*calls):
        if form == "hermes":
            return "\n".join(f"<tool_call>\n{each}\n</tool_call>" for each in calls)
        if form == "llama":
            return ";".join(calls)
        return "[TOOL_CALLS] [" + ", ".join(calls) + "]"

    for arguments in ARGUMENTS:
        yield several(call("get_weather", arguments))
        yield several(call("now", "{}"), call("search", arguments))
    if form == "llama":
        yield "<|python_tag|>" + call("now", "{}")
        yield "I look. <|python_tag|>" + call("get_weather", ARGUMENTS[1])
    else:
        yield "I look.\n" + several(call("get_weather", ARGUMENTS[1]), call("now", "{}"))
    yield several(*[call("search", a) for a in ARGUMENTS])
    yield "Nothing to call here."
    yield "a < b, [1, 2] and so on\n"


def main():
    stand_in(sys.argv[1])
    cases = []
    for form, (module, name) in DETECTORS.items():
        detector = getattr(importlib.import_module("sglang.srt.function_call." + module), name)
        for text in texts(form):
            found = detector().detect_and_parse(text, TOOLS)
            calls = [{"name": each.name, "arguments": json.loads(each.parameters)} for each in found.calls]
            cases.append({"format": form, "text": text, "content": found.normal_text, "calls": calls})
    path = pathlib.Path(__file__).parent / "calls.json"
    path.write_text(json.dumps({"generator": "sglang 0.5.23", "cases": cases}, ensure_ascii=False, indent=0) + "\n")


main()
