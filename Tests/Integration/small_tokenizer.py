"""A byte-level tokenizer of a few hundred tokens with ChatML's template, learned from the text of the licence.

What computes slowly, as a GPU's stand-in does, is not to spend its time on a large vocabulary.
"""
import collections
import json
import pathlib
import re

import serving

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def _alphabet():
    """How a byte-level vocabulary writes bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def _merges(words, count):
    """The pairs that byte-pair encoding joins, most frequent first; of equally frequent ones the least."""
    words = {tuple(word): number for word, number in words.items()}
    found = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, number in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += number
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        joined = {}
        for word, number in words.items():
            parts, index = [], 0
            while index < len(word):
                if word[index : index + 2] == best:
                    parts.append(word[index] + word[index + 1])
                    index += 2
                else:
                    parts.append(word[index])
                    index += 1
            joined[tuple(parts)] = joined.get(tuple(parts), 0) + number
        words = joined
    return found


def write(directory: pathlib.Path, size):
    """Writes `size` tokens, the special ones first."""
    alphabet = _alphabet()
    text = (serving.ROOT / "LICENSE").read_text()
    words = collections.Counter(
        "".join(alphabet[byte] for byte in word.encode()) for word in re.findall(r" ?[A-Za-z]+|[^A-Za-z\s]+", text))
    tokens = SPECIAL + [alphabet[byte] for byte in range(256)]
    merges = []
    for left, right in _merges(words, size):
        if len(tokens) == size:
            break
        # Two ways to the same text are one token.
        merges.append([left, right])
        if left + right not in tokens:
            tokens.append(left + right)
    assert len(tokens) == size, f"the text gives {len(tokens)} tokens, not {size}"
    (directory / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": index, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
            for index, text in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "vocab": {token: index for index, token in enumerate(tokens)}, "merges": merges},
    }))
    (directory / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "chat_template": TEMPLATE,
        "tokenizer_class": "GPT2Tokenizer"}))
