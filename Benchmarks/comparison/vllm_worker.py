"""Runs inside vLLM's own Python: measures on order.

    vllm_worker.py MODEL_FOLDER

Reads orders as JSON lines from standard input and answers each with {"figures": {"prompt 512": …, "decode 16": …}}.
Prompts are timed with one token of answer; decoding as the time of longer answers less that of answers of one token.
"""
import json
import os
import random
import sys
import time


def main():
    # Libraries write to standard output; answers keep it for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import torch

    # vLLM replaces this function by one that does nothing.
    set_threads = torch.set_num_threads
    import vllm

    model = vllm.LLM(
        model=sys.argv[1], dtype="bfloat16", skip_tokenizer_init=True, enable_prefix_caching=False, max_model_len=2304,
        max_num_seqs=64, max_num_batched_tokens=8192, disable_log_stats=True,
    )
    print(json.dumps({"versions": {"vllm": vllm.__version__, "torch": torch.__version__}}), file=answers, flush=True)
    source = random.Random(os.urandom(8))

    def seconds(count, length, new):
        prompts = [
            {"prompt_token_ids": [source.randrange(1000, 40000) for _ in range(length)]} for _ in range(count)
        ]
        parameters = vllm.SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
        began = time.perf_counter()
        outputs = model.generate(prompts, parameters, use_tqdm=False)
        taken = time.perf_counter() - began
        assert all(len(output.outputs[0].token_ids) == new for output in outputs)
        return taken

    for line in sys.stdin:
        order = json.loads(line)
        set_threads(order["threads"])
        length, decode = order["prompt_length"], order["decode"]
        seconds(1, length, 2)
        figures = {}
        for prompt in order["prompts"]:
            figures[f"prompt {prompt}"] = prompt / seconds(1, prompt, 1)
        for batch in order["batches"]:
            prefill = seconds(batch, length, 1)
            figures[f"decode {batch}"] = batch * decode / (seconds(batch, length, decode + 1) - prefill)
        print(json.dumps({"figures": figures}), file=answers, flush=True)


if __name__ == "__main__":
    main()
