// Tandem — Apache-2.0

extension BuiltInStudy {
    static let textCPU5 = #"""
        {
          "figure": "CPU5",
          "title": "Throughput and latency under load on a CPU",
          "question": "At a latency that users accept: what do two engines, asynchronous scheduling and both give on a CPU?",
          "phase": "serving",
          "models": ["smollm2-135m-instruct"],
          "contexts": [64],
          "output_tokens": 32,
          "loads": [2, 4, 8, 12],
          "arrival_seconds": 9,
          "latency_target": 4,
          "conventions": ["total"],
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
