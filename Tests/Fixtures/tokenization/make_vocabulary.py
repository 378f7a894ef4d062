# Tandem — Apache-2.0
"""Cuts a vocabulary down to what the reference strings need.

    make_vocabulary.py qwen.gguf

reads the tokenizer of a model file and writes qwen2.5.vocabulary.json beside this script. Kept are the tokens that
occur in a string of ../reference/qwen2.5.tok.hf.json once it is normalized, all tokens of single bytes, and of the merges those between kept tokens: no other token or merge can ever be reached from these
strings. `ids` are the tokens' ids in the full vocabulary.
"""

import json
import pathlib
import struct
import sys
import unicodedata

HERE = pathlib.Path(__file__).parent
SIZES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def metadata(path):
    """The key-value pairs of a GGUF file."""
    data = memoryview(pathlib.Path(path).read_bytes())
    position = 4

    def number(code):
        nonlocal position
        value = struct.unpack_from("<" + code, data, position)[0]
        position += struct.calcsize("<" + code)
        return value

    def string():
        nonlocal position
        length = number("Q")
        position += length
        return bytes(data[position - length : position]).decode("utf-8")

    def value(kind):
        if kind == STRING:
            return string()
        if kind == ARRAY:
            kind, count = number("I"), number("Q")
            return [value(kind) for _ in range(count)]
        return number(SIZES[kind])

    number("I")
    number("Q")
    pairs = {}
    for _ in range(number("Q")):
        key = string()
        pairs[key] = value(number("I"))
    return pairs


def byte_alphabet():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def main(qwen):
    alphabet = byte_alphabet()

    def strings(name):
        cases = json.loads((HERE.parent / "reference" / name).read_text())["cases"]
        return [case["s"] for case in cases]

    def write(name, model, texts, is_byte):
        tokens = model["tokenizer.ggml.tokens"]
        everything = "\0".join(texts)
        kept = [i for i, token in enumerate(tokens) if is_byte(i) or token in everything]
        result = {"ids": kept, "tokens": [tokens[i] for i in kept]}
        result["token_type"] = [model["tokenizer.ggml.token_type"][i] for i in kept]
        known = set(result["tokens"])
        pairs = [(merge, merge.split(" ")) for merge in model["tokenizer.ggml.merges"]]
        result["merges"] = [m for m, (l, r) in pairs if l in known and r in known and l + r in known]
        lines = [json.dumps(k) + ": " + json.dumps(v, ensure_ascii=False) for k, v in result.items()]
        (HERE / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(name, len(kept), "tokens")

    model = metadata(qwen)
    texts = strings("qwen2.5.tok.hf.json")
    texts = texts + ["".join(alphabet[b] for b in unicodedata.normalize("NFC", s).encode()) for s in texts]
    characters = set(alphabet.values())
    write("qwen2.5.vocabulary.json", model, texts, lambda i: model["tokenizer.ggml.tokens"][i] in characters)


main(*sys.argv[1:])
