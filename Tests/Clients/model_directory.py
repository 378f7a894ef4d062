"""Writes the default model's GGUF file as a directory that transformers and Tandem both read.

    model_directory.py MODEL.gguf FOLDER

Runs in the environment of lm-eval, which has PyTorch. The weights are those of the file, dequantised and rounded to
bfloat16; FOLDER appears only when it is complete.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    source, folder = sys.argv[1:]
    unfinished = pathlib.Path(f"{folder}.made")
    subprocess.run(
        [sys.executable, str(ROOT / "Benchmarks/comparison/dequantize.py"), source, str(unfinished)], check=True)
    # transformers' reader of GGUF tokenizers forgets that this model's splits digits.
    path = unfinished / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    if tokenizer["pre_tokenizer"]["type"] != "Sequence":
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, tokenizer["pre_tokenizer"]]}
    path.write_text(json.dumps(tokenizer, ensure_ascii=False))
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(unfinished, folder)


if __name__ == "__main__":
    main()
