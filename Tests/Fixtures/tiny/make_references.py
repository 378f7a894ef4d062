"""Makes the random checkpoints qwen3-tied and qwen3-untied with float32 outputs of transformers; see README.md.

    pip install torch transformers safetensors
    python3 make_references.py
"""
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
LENGTHS = [1, 5, 33, 80]


def randomized(model, tied, generator):
    """Numbers of bfloat16 in float32, none of them trivial."""
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            values = 1 + 0.3 * torch.randn(parameter.shape, generator=generator)
        elif "embed_tokens" in name or "lm_head" in name:
            values = (0.05 if tied else 0.3) * torch.randn(parameter.shape, generator=generator)
        else:
            values = 0.2 * torch.randn(parameter.shape, generator=generator)
        parameter.data = values.to(torch.bfloat16).to(torch.float32)


def case(model, ids):
    """Outputs for one prompt, and 16 greedy tokens after it."""
    with torch.no_grad():
        output = model(torch.tensor([ids]), output_hidden_states=True)
        logits = output.logits[0]
        log_probabilities = torch.log_softmax(logits, -1)
        tokens, chosen = list(ids), []
        for _ in range(16):
            last = torch.log_softmax(model(torch.tensor([tokens])).logits[0, -1], -1)
            token = int(last.argmax())
            chosen.append((token, round(float(last[token]), 7)))
            tokens.append(token)
    numbers = {
        "name": f"len{len(ids)}",
        "input_ids": ids,
        "logits_last": [round(float(value), 7) for value in logits[-1]],
        "argmax_all": logits.argmax(-1).tolist(),
        "prompt_logprobs": [None] + [
            round(float(log_probabilities[i, ids[i + 1]]), 7) for i in range(len(ids) - 1)],
        "logits_rms_per_pos": [round(float(row.pow(2).mean().sqrt()), 7) for row in logits],
        "greedy16": [token for token, _ in chosen],
        "greedy16_logprobs": [value for _, value in chosen],
    }
    return numbers, logits, [state[0] for state in output.hidden_states]


def make(name, tied, seed):
    generator = torch.Generator().manual_seed(seed)
    config = Qwen3Config(
        vocab_size=320, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=512, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=tied,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, use_sliding_window=False, attn_implementation="eager")
    model = Qwen3ForCausalLM(config).eval()
    randomized(model, tied, generator)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    tensors = {
        key: value.detach().to(torch.bfloat16).contiguous() for key, value in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.architectures = ["Qwen3ForCausalLM"]
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    cases, outputs = [], {}
    for length in LENGTHS:
        ids = torch.randint(3, 320, (length,), generator=generator).tolist()
        numbers, logits, hidden = case(model, ids)
        cases.append(numbers)
        outputs[f"logits.{numbers['name']}"] = logits.contiguous()
        if length < 33:
            for index, state in enumerate(hidden):
                outputs[f"hidden{index}.{numbers['name']}"] = state.contiguous()
    save_file(outputs, folder / "reference.safetensors")
    reference = {
        "kind": "qwen3", "transformers": transformers.__version__, "torch": torch.__version__,
        "dtype": "weights stored bf16 (exact), computed in float32", "cases": cases}
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")


make("qwen3-tied", True, 3)
make("qwen3-untied", False, 4)
