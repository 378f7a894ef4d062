// Tandem — Apache-2.0

extension BuiltInStudy {
    static let textF4 = #"""
        {
          "figure": "F4",
          "title": "Parts and whole, decode",
          "question": "Does what attention and MLP gain alone say what the whole model gains?",
          "phase": "decode",
          "models": ["qwen2.5-3b"],
          "contexts": [128, 256, 512, 1024, 2048, 4096, 8192],
          "batches": [1024],
          "conventions": ["total", "per-engine"],
          "ablations": ["full", "attentionOnly", "mlpOnly"],
          "caches": ["equal"],
          "hosts": [
            {"name": "none", "seconds_per_step": 0, "seconds_per_sequence": 0,
             "source": "the GPU alone: steps are replayed without a host"},
            {"name": "assumed", "seconds_per_step": 0.001, "seconds_per_sequence": 1.1e-6,
             "source": "a step: assumed; a sequence: update_from_output of vLLM, vllm-project/vllm pull request 46112"}
          ],
          "arms": [
            {"id": "one", "title": "one engine", "engines": 1, "sharing": "alone", "asynchronous": false},
            {"id": "time-sliced", "title": "two engines, no MPS", "engines": 2, "sharing": "time-sliced", "asynchronous": false},
            {"id": "mps", "title": "two engines, MPS", "engines": 2, "sharing": "mps", "asynchronous": false},
            {"id": "in-process", "title": "two engines in one process", "engines": 2, "sharing": "in-process", "asynchronous": false}
          ],
          "repetitions": 3,
          "device": "simulated:h100"
        }
        """#
}
