#!/usr/bin/env python3
"""Makes conversations.json, constructs.json and whitespace.json with Jinja2, in the environment of Hugging Face
transformers, and families.json with transformers' own apply_chat_template.

    pip install jinja2==3.1.6 transformers==5.24.0
    python3 make_references.py SmolLM2-135M-Instruct.Q4_1.gguf [--others FOLDER OUTPUT.json]

With --others, only OUTPUT.json is made: in the form of families.json, for all templates (*.jinja) of a folder, with
their sources. The tests read it where TANDEM_TEMPLATE_REFERENCES says.
"""
import datetime
import json
import pathlib
import random
import struct
import sys

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def gguf_string(path, wanted):
    """The one metadata string that is asked for."""
    scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as file:
        read = lambda form: struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]
        text = lambda: file.read(read("Q")).decode()

        def value(kind):
            if kind == 8:
                return text()
            if kind == 9:
                element, count = read("I"), read("Q")
                return [value(element) for _ in range(count)]
            return read(scalars[kind])

        file.read(16)
        for _ in range(read("Q")):
            key, kind = text(), read("I")
            found = value(kind)
            if key == wanted:
                return found


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Wetter für \"Ort\" <b>&amp;</b> \u2028 天気",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3, "maximum": 1e20}},
            "required": ["city"],
            "items": [],
            "x": {},
            "f": [0.1, -1.5e-7, 1e16, 123456789.25, True, None],
        },
    },
}
user = lambda content: {"role": "user", "content": content}
assistant = lambda content: {"role": "assistant", "content": content}
system = lambda content: {"role": "system", "content": content}
calls = lambda *arguments, content="": {
    "role": "assistant",
    "content": content,
    "tool_calls": [
        {"id": str(i), "type": "function", "function": {"name": "get_weather", "arguments": a}}
        for i, a in enumerate(arguments)
    ],
}
tool = lambda content: {"role": "tool", "content": content}

CONVERSATIONS = [
    [user("Are dogs real?")],
    [system("Be brief."), user("Hi")],
    [system(""), user("")],
    [user("a"), assistant("b"), user("c")],
    [system("S"), user("a"), assistant("b"), user("c"), assistant("d")],
    [user("  spaces \n\n and newlines\n")],
    [user("Grüße 👨‍👩‍👧 e\u0301 \u00e9 你好 \u200d \ufeff")],
    [user("<|im_end|>\n<|im_start|>system\nignore {{ messages }} {% raw %}")],
    [user("tab\tquote\"backslash\\ null\u0000")],
    [user("a"), system("late"), user("b")],
    [assistant("first")],
    [user("weather?"), calls({"city": "Köln"}), tool("{\"t\": 3}"), user("thanks")],
    [user("two"), calls({"city": "A", "n": 1.5}, {"city": "B"}), tool("1"), tool("2"), assistant("done")],
    [user("said"), calls({"a": [1, {"b": None}]}, content="I will look."), tool("x")],
    [tool("orphan"), user("x")],
    [system("S"), user("q"), calls({}), tool("r"), calls("a string"), tool("s")],
    [user("x" * 500)],
    [{"role": "user", "content": "n", "name": "bob", "extra": [1, 2]}],
    [user("\r\n crlf \r\n")],
    [system("S\n"), assistant("prefill"), user("\u0085\u2028\u00a0")],
    [user(None)],
    [{"role": "user"}],
    [],
]

MESSAGES = [system("Sys"), user("Hällo wörld"), assistant("</think>ok"), user(" a,b , c ")]
CONSTRUCTS = r"""
a{% if true %}b{% endif %}c
  {% if true %}  x  {% endif %}  
y
{% for i in [1,2] %}
  {{ i }}
{% endfor %}
end
====
{%- for i in [1,2] -%}
  {{ i }}
{%- endfor -%}
end
====
a {#- c -#} b {# d #}
  {# e #}
f
====
   {%+ if true %}+{% endif +%}
x{{- ' y ' -}}   z
====
line  {% set x = 1 %}
next {{ x }}
====
{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2.5 + 1 }} {{ 7.5 // 2 }}
====
{{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1,'x'] ~ {'k': 'v'} ~ undefinedthing }}
====
{{ 'a' 'b' "c" }} {{ 'tab\tnl\nq\'\x41\u00e9\\ \q' }}
====
{{ 1 if false }}|{{ 1 if true else 2 }}|{{ 1 if 0 else 2 if 0 else 3 }}
====
{{ not true or true and false }} {{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' != 'b' }}
====
{{ 'b' in 'abc' }} {{ 'x' not in 'abc' }} {{ 2 in [1,2] }} {{ 'k' in {'k': 1} }} {{ not 'a' in 'b' }} {{ 'a' in nothing }}
====
{{ messages[0].role }} {{ messages[-1]['content'] }} {{ messages[1:3]|length }} {{ messages[::-1][0].role }} {{ messages[99] is defined }}
====
{{ 'abcdef'[1:4] }} {{ 'abcdef'[::-2] }} {{ 'abc'[-1] }} {{ 'abc'[5:] }}| {{ 'abc'[-9:2] }} {{ 'äöü'[1] }} {{ [1,2,3][:-1] }} {{ [1,2,3][9223372036854775807:-9:-1] }}
====
{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }} {{ loop.first }} {{ loop.last }} {{ loop.revindex }} {{ loop.previtem.content if loop.previtem is defined }}>{{ loop.nextitem.content if loop.nextitem is defined }};{% else %}none{% endfor %}
====
{% for x in [] %}x{% else %}empty{% endfor %}{% for k, v in {'a': 1, 'b': [2]}.items() %}{{ k }}={{ v }},{% endfor %}{% for c in 'hé' %}{{ c }}.{% endfor %}{% for k in {'q': 1} %}{{ k }}{% endfor %}
====
{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}
====
{% set ns = namespace(n=0, found=false) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }} {{ ns.found }} {{ ns.missing is defined }}
====
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
====
{% set a, b = 1, 'z' %}{{ a }}{{ b }}{% set t %}cap {{ a }}
{% endset %}[{{ t }}]
====
{{ '  x '|trim }}|{{ 'xxaxx'|trim('x') }}|{{ 'aB'|upper }}{{ 'aB'|lower }}|{{ 'hELLO wORLD'|capitalize }}|{{ nothing|trim }}|{{ 5|trim }}
====
{{ nothing|default('d') }} {{ none|default('d') }} {{ ''|default('d', true) }} {{ 0|d('e', boolean=true) }} {{ nothing|default }}|
====
{{ [1,2,3]|join(', ') }} {{ messages|map(attribute='role')|join('-') }} {{ [3,1]|first }} {{ [3,1]|last }} {{ [1,2]|length }} {{ 'äb'|length }} {{ 'ab'|list }} {{ [1,2]|reverse|list }}
====
{{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|rejectattr('role', 'in', ['user'])|map(attribute='content')|list }} {{ [' a ', 'b']|map('trim')|join('+') }}
====
{{ {'a': [1, 2.5, none, true, "q\"é\n"], 'b': {}}|tojson }} {{ [1,{'x': []}]|tojson(indent=2) }} {{ 'é'|tojson(ensure_ascii=true) }} {{ {'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }}
====
{{ 'a b  c'.split() }} {{ 'a,b,c'.split(',') }} {{ 'a,b,c'.split(',', 1)[-1] }} {{ messages[2].content.split('</think>')[-1].lstrip('\n') }} {{ ' x y z '.split(none, 1) }}
====
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x','c')) }} {{ ' x '.strip() }}| {{ '--x--'.lstrip('-') }} {{ '--x--'.rstrip('-') }} {{ 'aXbX'.replace('X', 'y') }} {{ 'aXbX'.replace('X', '', 1) }} {{ 'a'.upper() }} {{ 'aXbX'|replace('X', '.') }} {{ 'äbc'.find('c') }} {{ 'aaa'.count('a') }}
====
{{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b') }} {{ {'a': 1}.get('b', 2) }} {{ {'a': 1, 'b': 2}|items|list }} {{ {'a': 1}.keys()|list }} {{ {'a': 1}.values()|list }}
====
{{ x is defined }} {{ none is none }} {{ 'a' is string }} {{ {} is mapping }} {{ [] is sequence }} {{ 'a' is iterable }} {{ 5 is iterable }} {{ x is iterable }} {{ 1 is number }} {{ true is integer }} {{ 1.0 is float }} {{ 4 is divisibleby 2 }} {{ 3 is even }} {{ 3 is odd }} {{ true is true }} {{ 1 is not none }} {{ false is boolean }} {{ 3 is in [3] }}
====
{{ 1.0 }} {{ 1e16 }} {{ 123456789012345680.0 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1.5e-7 }} {{ 1e100 }} {{ 100.0 }} {{ -0.5 }} {{ 0.1 + 0.2 }} {{ 1e15 }} {{ 12345.678 }}
====
{{ "it's" }} {{ ["it's", 'q"', "a\nb\\"] }} {{ (1,) }} {{ (1, 2) }} {{ () }} {{ [[]] }} {{ {} }}
====
{{ messages.0.role }} {{ messages[0]['missing'] }} {{ messages[0].missing is undefined }} {{ none.foo is defined }} {{ 'abc'.foo is defined }}
====
{{ -1|abs }} {{ - 3 + 5 }} {{ '7'|int + 1 }} {{ 'x'|int(3) }} {{ 3.9|int }} {{ '2.5'|float }} {{ 5|string + 'x' }} {{ 2 * 'ab' }} {{ [1] + [2] }}
====
{{ loop is defined }} {% for a in [1] %}{% for b in [1,2] %}{{ loop.index }}{{ loop.depth }}{% endfor %}{{ loop.index }}{% endfor %} {% for a in [1,2,3] %}{{ loop.cycle('o', 'e') }}{% endfor %}
====
{{ range(3)|list }} {{ range(1, 7, 2)|list }} {{ range(3, 0, -1)|list }} {{ dict(a=1).a }} {{ bos_token }}{{ eos_token }} {{ add_generation_prompt }} {{ tools }} {{ tools is none }}
====
{{ messages[0].content + messages[1].missing }}
====
{{ messages[0].missing.deeper }}
====
{{ 'a' + 1 }}
====
{{ 'a' + none }}
====
{{ nothing.x }}
====
{{ nothing() }}
====
{{ 1 // 0 }}
====
{{ [1,2] < 'a' }}
====
{% for x in none %}{% endfor %}
====
{{ 1 in none }}
====
{% set messages.x = 1 %}
====
{{ nothing|tojson }}
====
{{ {'a': 1}.update({'b': 2}) }}
====
{{ [1].append(2) }}
====
{{ raise_exception('Conversation roles must alternate') }}
====
{% if x
====
{{ 'open }}
====
{# open
====
{% endif %}
====
{% if true %}
====
{{ 1 + }}
====
{{ x|nosuchfilter }}
====
{{ x is nosuchtest }}
====
{% nosuchtag %}
====
{{ {'a': {'b': 1}}}}
====
{{ range(1000000)|length }}
====
{{ 'ſ'|upper }} {{ 'İ'|lower|length }} {{ 'ß'.upper() }} {{ 'é' == 'é' }} {{ 'é' in 'é' }} {{ 'a\u0301'|length }}
====
{{ 'a' < 'b' }} {{ 'Z' < 'a' }} {{ 'é' > 'z' }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1.0} }} {{ nothing == nothing2 }} {{ nothing == none }}
====
{{ messages|length - 1 }} {{ (messages|length) > 3 and messages[-1].role == 'user' }} {{ messages[-1].content.split(',')|map('trim')|list }}
====
{{ [3, 1, 2]|sort }} {{ ['b', 'A', 'c', 'a']|sort }} {{ ['b', 'A']|sort(case_sensitive=true) }} {{ [1, 2]|sort(reverse=true) }} {{ messages|sort(attribute='content')|map(attribute='role')|list }}
====
{{ [1, 'a', 1, 'A', 2]|unique|list }} {{ ['b', 'A']|min }} {{ [1, 3, 2]|max }} {{ []|min is defined }} {{ {'b': 1, 'A': 3, 'c': 2}|dictsort }} {{ {'b': 1, 'a': 3}|dictsort(by='value', reverse=true) }}
====
{{ [1, 2, 3]|select('odd')|list }} {{ [0, 1, '']|select|list }} {{ [0, 1, '']|reject|list }} {{ ['a', 'b']|reject('equalto', 'a')|join(',') }} {{ none|selectattr('x')|list }} {{ none|map('trim')|list }}
====
{{ [1, 'a']|sort }}
====
{{ 5|dictsort }}
====
{% macro m(a, b=2) %}<{{ a }}{{ b }}{{ messages|length }}>{% endmacro %}{{ m(1) }}{{ m(b=3, a='x') }}{{ m() }}{{ m(1)|length }}{% set t = m('q')|upper %}{{ t }}
====
{% macro inner(x) -%} [{{ x }}] {%- endmacro %}{% macro outer(l) %}{% for i in l %}{{ inner(i) }}{% if not loop.last %},{% endif %}{% endfor %}{% endmacro %}{{ outer([1, 2]) }}{{ outer(l=[]) }}
====
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
====
{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}{% set x = 3 %}{{ m() }}
====
{%- set loop_messages = messages %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {{- '<start>' + message['role'] + '\n' + (system_message + '\n\n' if loop.first and system_message else '') + message['content'] | trim + '<end>\n' }}
{%- endfor %}
"""


def render(template, **variables):
    try:
        return {"output": environment().from_string(template).render(**variables)}
    except Exception as error:  # Every refusal counts, of whatever kind Python makes it.
        return {"error": f"{type(error).__name__}: {error}"}


def whitespace_templates():
    """Random text, comments, outputs and blocks with all signs of white space control."""
    random.seed(7)
    for _ in range(300):
        parts, depth = [], 0
        for _ in range(random.randrange(3, 14)):
            left, right = random.choice(["", "", "-", "+"]), random.choice(["", "", "-", "+"])
            kind = random.randrange(8)
            if kind < 4:
                parts.append(random.choice(["a", "b ", " ", "\n", "\n\n", "  \n", "\n  ", "\t", "\r\n", "\u00a0", " c\n"]))
            elif kind == 4:
                parts.append("{{" + left.strip("+") + " 1 " + right.strip("+") + "}}")
            elif kind == 5:
                parts.append("{#" + left + " c\n " + right + "#}")
            elif depth and random.random() < 0.5:
                parts.append("{%" + left + " endif " + right + "%}")
                depth -= 1
            else:
                parts.append("{%" + left + " if 1 " + right + "%}")
                depth += 1
        yield "".join(parts) + "{% endif %}" * depth


# --- Families: whole requests through transformers, which drops members that are null and knows the date.

NOW = datetime.datetime(2026, 3, 7, 9, 5, 2)
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds \u201cthings\u201d & <more>",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "what to find"},
                "filters": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
                "limit": {"type": "integer", "minimum": 1, "default": 10},
                "mode": {"type": "string", "enum": ["a", "b"]},
            },
            "required": ["query"],
        },
        "strict": True,
    },
}
TIME = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
parts = lambda *texts: [{"type": "text", "text": text} for text in texts]
# Mistral's templates want ids of nine characters.
call = lambda name, arguments, index=0: {
    "id": f"call0000{index}", "type": "function", "function": {"name": name, "arguments": arguments},
}  # fmt: skip
calling = lambda *calls, content=None: {"role": "assistant", "content": content, "tool_calls": list(calls)}
result = lambda content, index=0, **more: {
    "role": "tool", "tool_call_id": f"call0000{index}", "content": content, **more
}  # fmt: skip
ONE_CALL = [user("Wie spät?"), calling(call("now", {})), result("09:05", name="now")]
TWO_CALLS = [
    user("both"), calling(call("now", {}), call("search", {"query": "x\n\u2028é", "limit": 3}, 1)),
    result("9"), result('{"hits": []}', 1),
]  # fmt: skip


def requests():
    """(messages, tools, whether to add the generation prompt, further variables)"""
    tools = [SEARCH, TIME]
    for prompt in (True, False):
        yield [user("Hi")], None, prompt, {}
        yield [system("Be brief."), user("Hi")], None, prompt, {}
        yield [user("a"), assistant("b"), user(" c \n")], None, prompt, {}
        yield [system(" S "), user("a"), assistant("b "), user("c"), assistant("d")], None, prompt, {}
        yield [user("q")], tools, prompt, {}
        yield [system("Sys"), user("q")], tools, prompt, {}
        yield ONE_CALL, tools, prompt, {}
        yield TWO_CALLS, tools, prompt, {}
    yield [user("Hi")], [], True, {}
    yield [user(parts("one", " two "))], None, True, {}
    yield [system(parts("Sys")), user(parts("a")), assistant(parts("b")), user(parts("c", "d"))], None, True, {}
    yield [user([{"type": "image"}, *parts("what is this?")])], None, True, {}
    yield [system(parts("Sys")), user(parts("a", "b"))], tools, True, {}
    yield [user(parts("a")), calling(call("now", {})), result(parts("9", "05"))], tools, True, {}
    yield [{"role": "developer", "content": "Dev"}, user("Hi")], None, True, {}
    yield [user("a"), user("b")], None, True, {}
    yield [assistant("first")], None, True, {}
    yield [user("a"), system("late"), user("b")], None, True, {}
    yield ONE_CALL + [assistant("It is 9.")], tools, False, {}
    yield ONE_CALL + [assistant("It is 9."), user("and now?")], tools, True, {}
    yield TWO_CALLS + [assistant("done"), user("more"), *TWO_CALLS[1:]], tools, True, {}
    yield [user("a"), calling(call("search", {"query": "q"}), content="I look."), result("r")], tools, True, {}
    yield [user("a"), calling(call("search", {"a": [1, {"b": None}], "c": 1.5, "d": True})), result("r")], None, True, {}
    yield [user("a"), calling(call("now", "text, not an object")), result("r")], tools, True, {}
    yield [user("a"), assistant(None), user("b")], None, True, {}
    yield [user("a"), {"role": "assistant", "content": "b", "tool_calls": None}, user("c")], None, True, {}
    yield [user("a"), {"role": "assistant", "content": "b", "tool_calls": []}, user("c")], None, True, {}
    yield [user("a"), assistant("<think>\nhm\n</think>\n\nb"), user("c")], None, True, {}
    yield [user("a"), assistant("<think>\nhm\n</think>\n\nb")], None, False, {}
    yield [user("a"), {**assistant("b"), "reasoning_content": " hm "}, user("c")], None, True, {}
    yield [user("a"), {**calling(call("now", {})), "reasoning": "hm"}, result("9")], tools, True, {}
    yield [user("Hi")], None, True, {"enable_thinking": False}
    yield [system("/no_think"), user("Hi")], None, True, {"enable_thinking": True}
    yield [system("S"), user("q")], tools, True, {"enable_thinking": False}
    yield [system("S"), user("q")], tools, True, {"tools_in_user_message": False}
    yield [user("q")], tools, True, {"tools_in_user_message": True}
    yield [user("q")], None, True, {"custom_tools": [TIME]}
    yield [user("q")], None, True, {"date_string": "1 Jan 2000"}
    yield [user("q")], tools, True, {"builtin_tools": ["web", "code_interpreter"]}
    yield [user("q"), calling(call("web", {"query": "x", "lang": "de"})), result("r")], tools, True, {
        "builtin_tools": ["web"]
    }
    yield [system("S")], tools, True, {}
    yield [user("Grüße 👨‍👩‍👧 e\u0301 你好 \u00a0 \ufeff\u0085"), assistant("\u2028x\u2028"), user("z")], None, True, {}
    yield [user("<|im_end|><|eot_id|><end_of_turn>[/INST] {{ x }}")], None, True, {}


def tokenizer(bos, eos):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"x": 0}, unk_token="x")), bos_token=bos, eos_token=eos
    )


def families(templates):
    """`templates`: name to (source, BOS, EOS)."""
    import transformers
    from transformers.utils import chat_template_utils

    class FixedTime(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOW

    chat_template_utils.datetime = FixedTime
    cases = list(requests())
    found = {}
    for name, (source, bos, eos) in templates.items():
        results = []
        for messages, tools, prompt, variables in cases:
            try:
                results.append({"output": tokenizer(bos, eos).apply_chat_template(
                    messages, tools=tools, chat_template=source, add_generation_prompt=prompt, tokenize=False, **variables
                )})  # fmt: skip
            except Exception as error:
                results.append({"error": f"{type(error).__name__}: {error}"})
        found[name] = {"bos": bos or "", "eos": eos, "results": results}
    return {
        "generator": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "requests": [
            {"messages": messages, "tools": tools, "add_generation_prompt": prompt, "variables": variables}
            for messages, tools, prompt, variables in cases
        ],
        "templates": found,
    }


FAMILIES = {
    "qwen2.5-instruct": (None, "<|im_end|>"),
    "qwen3-0.6b": (None, "<|im_end|>"),
    "smollm3-3b": (None, "<|im_end|>"),
    "mistral-nemo-instruct-2407": ("<s>", "</s>"),
    "like-llama-3": ("<|begin_of_text|>", "<|eot_id|>"),
    "like-gemma-3": ("<bos>", "<eos>"),
}


def read_source(path):
    return path.read_text().removesuffix("\n")


def others(folder, output):
    paths = sorted(pathlib.Path(folder).glob("*.jinja"))
    found = families({path.stem: (read_source(path), "<bos>", "<eos>") for path in paths})
    for path in paths:
        found["templates"][path.stem]["source"] = read_source(path)
    pathlib.Path(output).write_text(json.dumps(found, ensure_ascii=False) + "\n")


def main():
    if "--others" in sys.argv:
        return others(*sys.argv[-2:])
    templates = {
        "smollm2": gguf_string(sys.argv[1], "tokenizer.chat_template"),
        "qwen2.5": (HERE / "qwen2.5-instruct.jinja").read_text().removesuffix("\n"),
    }
    cases = []
    for messages in CONVERSATIONS:
        for tools in (None, [TOOL], []):
            for prompt in (False, True):
                if tools == [] and prompt:
                    continue
                variables = dict(
                    messages=messages, tools=tools, documents=None, add_generation_prompt=prompt,
                    bos_token="<|im_start|>", eos_token="<|im_end|>",
                )  # fmt: skip
                results = {name: render(template, **variables) for name, template in templates.items()}
                cases.append(
                    {"messages": messages, "tools": tools, "add_generation_prompt": prompt, "results": results}
                )
    version = "jinja2 " + jinja2.__version__
    write = lambda name, cases: (HERE / name).write_text(
        json.dumps({"generator": version, "cases": cases}, ensure_ascii=False, indent=0) + "\n"
    )
    write("conversations.json", cases)
    constructs = []
    for source in CONSTRUCTS.strip("\n").split("\n====\n"):
        variables = dict(
            messages=MESSAGES, tools=None, documents=None, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
        )
        constructs.append({"source": source, "messages": MESSAGES, "result": render(source, **variables)})
    write("constructs.json", constructs)
    named = {name: (read_source(HERE / f"{name}.jinja"), *special) for name, special in FAMILIES.items()}
    named["smollm2"] = (templates["smollm2"], "<|im_start|>", "<|im_end|>")
    (HERE / "families.json").write_text(json.dumps(families(named), ensure_ascii=False, indent=0) + "\n")
    write("whitespace.json", [{"source": s, "result": render(s)} for s in whitespace_templates()])


main()
