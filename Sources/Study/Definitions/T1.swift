// Tandem — Apache-2.0

extension BuiltInStudy {
    static let textT1 = #"""
        {
          "figure": "T1",
          "title": "What grows with the context",
          "question": "What do MLP and attention take of a device, by phase and context?",
          "phase": "resources",
          "models": ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b"],
          "contexts": [128, 1024, 4096, 8192],
          "device": "simulated:h100"
        }
        """#
}
