// Tandem — Apache-2.0

extension BuiltInStudy {
    static let textCPU2 = #"""
        {
          "figure": "CPU2",
          "title": "Decode on a CPU, by context",
          "question": "What do two engines on half of the cores each gain over one on all, by context?",
          "phase": "decode",
          "models": ["smollm2-135m-instruct"],
          "contexts": [64, 256, 1024],
          "batches": [8],
          "output_tokens": 96,
          "conventions": ["total", "per-engine"],
          "ablations": ["full"],
          "caches": ["equal"],
          "arms": [
            {"id": "one", "title": "one engine, all cores", "engines": 1, "sharing": "alone", "asynchronous": false},
            {"id": "one-async", "title": "one engine, all cores, asynchronous", "engines": 1, "sharing": "alone", "asynchronous": true},
            {"id": "two", "title": "two engines, half of the cores each", "engines": 2, "sharing": "cores", "asynchronous": false},
            {"id": "two-async", "title": "two engines, half of the cores each, asynchronous", "engines": 2, "sharing": "cores", "asynchronous": true}
          ],
          "repetitions": 3,
          "device": "cpu"
        }
        """#
}
