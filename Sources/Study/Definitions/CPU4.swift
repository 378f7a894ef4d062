// Tandem — Apache-2.0

extension BuiltInStudy {
    static let textCPU4 = #"""
        {
          "figure": "CPU4",
          "title": "Parts and whole, decode on a CPU",
          "question": "Does what attention and MLP gain alone say what the whole model gains?",
          "phase": "decode",
          "models": ["smollm2-135m-instruct"],
          "contexts": [256],
          "batches": [8],
          "output_tokens": 48,
          "conventions": ["total", "per-engine"],
          "ablations": ["full", "attentionOnly", "mlpOnly"],
          "caches": ["equal"],
          "arms": [
            {"id": "one", "title": "one engine, all cores", "engines": 1, "sharing": "alone", "asynchronous": false},
            {"id": "two", "title": "two engines, half of the cores each", "engines": 2, "sharing": "cores", "asynchronous": false}
          ],
          "repetitions": 3,
          "device": "cpu"
        }
        """#
}
