#!/usr/bin/env python3
"""Makes the references of the grammar tests with tools that nobody here wrote.

    pip install "jsonschema[format]==4.26.0" hypothesis-jsonschema
    python3 make_references.py                      # schemas.json and patterns.json
    TANDEM_GRAMMAR_SAMPLES=samples.json swift test --filter GrammarSamples
    python3 make_references.py samples.json         # checks what was sampled

`schemas.json`: instances of every schema in schemas.py, as texts, with the verdict of `jsonschema`. A text is written as
the grammar writes it: members in the schema's order, the others behind them, one space after commas and colons, the
shortest spelling of characters, integers without fraction. `patterns.json`: the verdicts of `re.fullmatch`.
`samples.json`: texts that random walks along the masks gave; every one must be valid.
"""

import json
import pathlib
import random
import re
import sys
import urllib.parse

import jsonschema
from hypothesis import HealthCheck, given, seed, settings, strategies
from hypothesis.errors import Unsatisfiable
from hypothesis_jsonschema import from_schema
from hypothesis_jsonschema._canonicalise import HypothesisRefResolutionError

from schemas import BY_HAND, REFUSED, SCHEMAS

HERE = pathlib.Path(__file__).parent
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


def is_valid(value, schema):
    return jsonschema.Draft202012Validator(schema, format_checker=FORMATS).is_valid(value)


def for_validation(schema):
    """Draft 7 wrote lists of items otherwise; the validator follows 2020-12."""
    if isinstance(schema, list):
        return [for_validation(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    new = {k: v if k in ("const", "enum") else for_validation(v) for k, v in schema.items()}
    if isinstance(new.get("items"), list):
        new["prefixItems"] = new.pop("items")
        if "additionalItems" in new:
            new["items"] = new.pop("additionalItems")
    return new


def closed(schema):
    """As the grammar understands it: who lists properties and is silent about others, allows no others."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    new = {k: v if k in ("const", "enum", "required") else closed(v) for k, v in schema.items()}
    if isinstance(new.get("properties"), dict) and new["properties"] or isinstance(new.get("patternProperties"), dict):
        new.setdefault("additionalProperties", False)
    return new


def target(reference, root):
    for part in reference[1:].split("/")[1:]:
        part = urllib.parse.unquote(part).replace("~1", "/").replace("~0", "~")
        root = root[int(part)] if isinstance(root, list) else root[part]
    return root


def applied(schema, root, seen=()):
    """The schema and all that apply in its place."""
    if not isinstance(schema, dict) or id(schema) in seen:
        return
    yield schema
    seen = (*seen, id(schema))
    if "$ref" in schema:
        yield from applied(target(schema["$ref"], root), root, seen)
    for keyword in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(keyword, []):
            yield from applied(part, root, seen)


def below(schemas, key):
    for schema in schemas:
        if isinstance(key, str):
            matching = [s for p, s in schema.get("patternProperties", {}).items() if re.search(p, key)]
            matching += [schema["properties"][key]] if key in schema.get("properties", {}) else []
            yield from matching or [schema.get("additionalProperties")]
        else:
            prefix = schema.get("prefixItems", [])
            yield prefix[key] if key < len(prefix) else schema.get("items")


def text(value, schemas, root):
    """A value as the grammar writes it."""
    schemas = [part for schema in schemas for part in applied(schema, root)]
    if isinstance(value, dict):
        order = [name for schema in schemas for name in schema.get("properties", {})]
        order += [name for schema in schemas for name in schema.get("required", [])]
        order = [name for name in dict.fromkeys(order) if name in value]
        order += [name for name in value if name not in order]
        members = (f"{text(name, [], root)}: {text(value[name], below(schemas, name), root)}" for name in order)
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(text(v, below(schemas, i), root) for i, v in enumerate(value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def is_writable(value):
    """Whether the grammar has a spelling for all numbers and no needless fractions."""
    if isinstance(value, float):
        return not value.is_integer() and abs(value) < 1e6 and re.fullmatch(r"-?\d+\.\d{1,9}", repr(value)) is not None
    if isinstance(value, int):
        return abs(value) < 10**18
    if isinstance(value, list):
        return all(map(is_writable, value))
    if isinstance(value, dict):
        return all(map(is_writable, value.values()))
    return True


def is_written(value, schema):
    """Whether the grammar writes a value that is valid, as far as it describes less than the validator accepts."""
    source = json.dumps(schema)
    if any(f"\\\\{c}" in source for c in "dws") and not json.dumps(value, ensure_ascii=False).isascii():
        return False  # Classes are ASCII.
    if isinstance(value, dict):
        if not re.fullmatch(r"[a-z.]+@[a-z]+\.[a-z]+", str(value.get("email", "a@b.c"))):
            return False  # Addresses are described narrowly.
        minimum = schema.get("minProperties", 0) if isinstance(schema, dict) else 0
        listed = sum(name in schema.get("properties", {}) for name in value) if minimum > 1 else len(value)
        return listed + 1 >= minimum  # Of members that are not listed, one counts: others may have its key.
    return True


def generated(schema, count=12):
    found = {}

    @seed(1)
    @settings(max_examples=60, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(from_schema(schema))
    def collect(value):
        if len(json.dumps(value)) < 300 and is_writable(value):
            found.setdefault(json.dumps(value, sort_keys=True), value)

    try:
        collect()
    except (Unsatisfiable, HypothesisRefResolutionError):
        pass  # The instances of the pool have to do.
    values = list(found.values())
    random.Random(1).shuffle(values)
    return values[:count]


POOL = [None, True, False, 0, 1, -1, 2, 5, 10, 99, 1000, -7, 0.5, -0.25, 1.05, 2.5, 1e9, "", "a", "ab", "abc", "abcd", "b",
        "red", "x", "1", "é", "2024-02-30", "2024-02-29", "1.2.3.256", "12:00:00", "no spaces", "p-1", "[]", [], [1], [1, 2],
        ["a"], ["a", 1], [None], [[]], {}, {"a": 1}, {"a": "s"}, {"a": None}, {"b": "s"}, {"x": 1}, {"k": 1}, {"zz": 1},
        {"kind": "a"}, {"a": 1, "b": "s", "c": True}, {"x-1": "v"}, {"x-1": 1}, {"id": 9},
        {"v": 1, "next": None}, {"v": 1, "next": {"v": 2, "next": None}}, {"v": 1, "next": {"v": 2}}, {"value": 1},
        {"value": 1, "children": [{"value": 2}, {"value": 3, "children": []}]}, {"value": 1, "children": [{"value": "2"}]},
        [[1, [2]], 3], [[1, ["2"]], 3], [[], [[]]], {"k": "leaf", "n": 1}, {"k": "leaf", "n": None},
        {"k": "node", "l": {"k": "leaf", "n": 1}, "r": {"k": "leaf", "n": 2}}, {"k": "node", "l": {"k": "leaf", "n": 1}},
        {"k": "node", "l": {"k": "leaf", "n": 1}, "r": {"k": "node", "l": {"k": "leaf", "n": 1}, "r": {"k": "leaf", "n": 2}}}]


def mutations(value, chance):
    if isinstance(value, dict):
        for name in value:
            yield {k: v for k, v in value.items() if k != name}
            for new in mutations(value[name], chance):
                yield {**value, name: new}
        yield {**value, "unlisted": 1}
        yield {**value, "a": "no"}
    elif isinstance(value, list):
        yield value[:-1]
        yield [*value, value[-1] if value else 1]
        for index, element in enumerate(value):
            for new in mutations(element, chance):
                yield [*value[:index], new, *value[index + 1:]]
    elif isinstance(value, str):
        yield from [value + "!", value[:-1], value + value + "0", value.upper(), 7]
    elif isinstance(value, bool) or value is None:
        yield from [not value, "true", 0]
    else:
        yield from [value + 1, value - 1, -value, value * 10, value + 0.5, str(value)]
    yield chance.choice(POOL)


def schema_references():
    result = []
    for schema in SCHEMAS:
        validated = for_validation(schema)
        chance = random.Random(2)
        name = schema.get("format") if isinstance(schema, dict) else None
        valid = [v for v in (BY_HAND[name] if name else generated(closed(validated)))]
        valid += [v for v in POOL if is_valid(v, closed(validated)) and is_writable(v)][:10] if not name else []
        valid = [v for v in valid if is_valid(v, validated) and is_written(v, schema)]
        invalid = [v for v in POOL if not is_valid(v, validated)]
        mutated = [m for v in valid for m in mutations(v, chance) if not is_valid(m, validated)]
        chance.shuffle(mutated)
        invalid = chance.sample(invalid, min(6, len(invalid))) + mutated[:10]
        write = lambda values: list(dict.fromkeys(text(v, [validated], validated) for v in values))
        result.append({"schema": json.dumps(schema, ensure_ascii=False), "valid": write(valid), "invalid": write(invalid)})
    refused = [{"schema": json.dumps(s, ensure_ascii=False), "kind": kind, "place": place} for s, kind, place in REFUSED]
    return {"schemas": result, "refused": refused}


PATTERNS = [
    "", "a", "abc", "a|b", "a|bc|", "(a|b)c", "(?:ab)+", "a*", "a+b?", "a{3}", "a{2,}", "a{1,3}b", "(ab){2,3}c", "[abc]+",
    "[^abc]", "[a-cx-z]{2}", "[\\]a]+", "[-a]+", "[a\\-z]+", "\\d+", "\\D", "\\w+", "\\W", "\\s", "\\S+", ".", ".*",
    "a.c", "^a$", "^(a|b)$", "^a|b$", "(a|b)*abb", "\\.\\*\\+", "\\x41\\u0042", "\\u00e9+", "[\\u00e0-\\u00ff]+", "é|ü", "日本?",
    "[あ-ん]{1,2}", "😀+", "\\t|\\n|\\r", "a+?b*?c??", "(a+)b", "(a?){3}", "((a|b)(c|d)){2}", "(?P<y>\\d{4})-(?P<m>\\d\\d)",
    "[0-9a-f]{8}", "\\{\\}", "a{b", "x{,", "\\$\\d+\\.\\d{2}", "https?://[a-z.]+(/[a-z]*)*", "[+-]?\\d+(\\.\\d+)?",
    "(?:0|[1-9]\\d{0,2})(?:\\.(?:0|[1-9]\\d{0,2})){3}", "[\\d\\s]+", "[^\\d\\s]+", "[\\w.]+@[\\w.]+", "(yes|no|maybe)",
    "\\[\\w+\\]", "\"[^\"]*\"", "(\\w+ ?){1,5}", "[\\x00-\\x1f]", "a\\/b", "[.]", "[*+?]", "(|a)b", "a||b", "(a|)(b|)(c|)",
    "[^\\n]*", "(?:[a-z]+,)*[a-z]+", "[a-z]{0}", "(a{0,2}){2}", "(?:a|ab)(?:c|bcd)(?:d*)",
]


def pattern_references():
    result = []
    for pattern in PATTERNS:
        compiled = re.compile(pattern, re.ASCII)
        found = {}

        @seed(1)
        @settings(max_examples=40, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(strategies.from_regex(pattern, fullmatch=True))
        def collect(value):
            if len(value) < 60 and not any(0xD800 <= ord(c) <= 0xDFFF for c in value):
                found.setdefault(value)

        try:
            collect()
        except Unsatisfiable:
            pass
        chance = random.Random(3)
        texts = [v for v in found if compiled.fullmatch(v)]
        chance.shuffle(texts)
        texts = texts[:14]
        others = ["", "a", "b", "ab", "abc", "abb", "aab", "c", "é", "日", "1", "12", " ", "\n", "a\n", "A", "x{", "a{b", "-", "]"]
        for value in texts[:]:
            position = chance.randrange(len(value) + 1)
            others += [value + chance.choice("ab1 é"), value[:position] + chance.choice("xZ9-\n😀") + value[position:], value[1:]]
        # `$` of Python also matches before a final line feed; a whole match leaves no room for one.
        every = dict.fromkeys(texts + others)
        result.append({
            "pattern": pattern, "matching": [t for t in every if compiled.fullmatch(t)],
            "failing": [t for t in every if not compiled.fullmatch(t)],
        })
    return result


def write(name, value):
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in value)
    (HERE / name).write_text(f"[\n{rows}\n]\n", encoding="utf-8")


def check_samples(path):
    count = 0
    for sample in json.loads(pathlib.Path(path).read_text(encoding="utf-8")):
        schema = for_validation(json.loads(sample["schema"]))
        for sampled in sample["texts"]:
            count += 1
            if not is_valid(json.loads(sampled), schema):
                sys.exit(f"not valid: {sampled} by {sample['schema']}")
    print(f"{count} sampled texts are valid")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        check_samples(sys.argv[1])
    else:
        references = schema_references()
        write("schemas.json", references["schemas"])
        write("refused.json", references["refused"])
        write("patterns.json", pattern_references())
        print(len(references["schemas"]), "schemas,", len(references["refused"]), "refused,", len(PATTERNS), "patterns")
