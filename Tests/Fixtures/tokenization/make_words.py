#!/usr/bin/env python3
"""Makes words.json: how the third-party `regex` module splits texts by the patterns of byte-level tokenizers.

    pip install regex && python3 make_words.py > words.json
"""
import json
import pathlib
import random

import regex

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+"""
)


def smollm(text):
    words = []
    for part in regex.findall(r"\p{N}|[^\p{N}]+", text):
        words += regex.findall(GPT2, part)
    return words


SPLITTERS = {
    "smollm": smollm,
    "gpt-2": lambda text: regex.findall(GPT2, text),
    "qwen2": lambda text: regex.findall(LLAMA3 % 1, text),
    "llama-bpe": lambda text: regex.findall(LLAMA3 % 3, text),
}


def texts():
    reference = pathlib.Path(__file__).parent.parent / "reference"
    for case in json.load(open(reference / "smollm2-135m-instruct-q4_1.tok.hf.json"))["cases"]:
        yield case["s"]
    random.seed(1)
    pieces = list("abzAZ 019'\"!.,-_\n\r\t") + [
        " ", "  ", "\r\n", "\u00a0", "\u3000", "\u2009", "\u0085", "'s", "'LL", "'Re", "'\u017f", "é", "e\u0301",
        "你", "ａ", "½", "Ⅷ", "٣", "😀", "\u200b", "\u200d", "\ufeff", "ǅ", "ª", "ʰ",
    ]  # fmt: skip
    for length in list(range(1, 13)) * 12:
        yield "".join(random.choice(pieces) for _ in range(length))


cases = [{"text": t, "words": {name: split(t) for name, split in SPLITTERS.items()}} for t in texts()]
for case in cases:
    for words in case["words"].values():
        assert "".join(words) == case["text"], case
print(json.dumps({"generator": "regex " + regex.__version__, "cases": cases}, ensure_ascii=False, indent=0))
