// Tandem — Apache-2.0

extension BuiltInStudy {
    static let textF6 = #"""
        {
          "figure": "F6",
          "title": "Throughput and latency under load",
          "question": "At a latency that users accept: do two engines give what asynchronous scheduling gives, and both together more?",
          "phase": "serving",
          "models": ["gemma-3-4b"],
          "contexts": [1000],
          "output_tokens": 256,
          "loads": [8, 16, 24, 28, 32, 36, 40, 44],
          "latency_target": 8,
          "conventions": ["total"],
          "ablations": ["full"],
          "caches": ["memory"],
          "hosts": [
            {"name": "assumed", "seconds_per_step": 0.001, "seconds_per_sequence": 1.1e-6,
             "source": "a step: assumed; a sequence: update_from_output of vLLM, vllm-project/vllm pull request 46112"},
            {"name": "20us", "seconds_per_step": 0.001, "seconds_per_sequence": 20e-6,
             "source": "assumed: a host that spends 20 us on each sequence of a step"}
          ],
          "arms": [
            {"id": "one", "title": "one engine", "engines": 1, "sharing": "alone", "asynchronous": false},
            {"id": "one-async", "title": "one engine, asynchronous", "engines": 1, "sharing": "alone", "asynchronous": true},
            {"id": "mps", "title": "two engines, MPS", "engines": 2, "sharing": "mps", "asynchronous": false},
            {"id": "mps-async", "title": "two engines, MPS, asynchronous", "engines": 2, "sharing": "mps", "asynchronous": true}
          ],
          "repetitions": 3,
          "device": "simulated:h100"
        }
        """#
}
