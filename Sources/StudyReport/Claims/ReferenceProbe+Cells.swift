// Tandem — Apache-2.0

internal import LanguageModel
internal import Study

extension ReferenceProbe {
    /// From `Results/gpu-probe/h100-2026-11-26/sharing.jsonl`: all cells of two processes, a gain within one run where
    /// that run has both arms. Pause in µs; steps a second of one loop, two time-sliced, two under MPS, two streams.
    public static let cells: [Cell] = [
        .init("qwen2.5-0.5b", .decode, 128, 64, .full, 0, 710.894, 659.404, 748.029, 828.129),
        .init("qwen2.5-0.5b", .decode, 128, 256, .full, 0, 506.066, 480.481, 519.885, 595.192),
        .init("qwen2.5-0.5b", .decode, 1024, 256, .full, 0, 305.994, 287.24, 295.845, 331.879),
        .init("qwen2.5-0.5b", .decode, 128, 512, .full, 0, 370.35, 328.021, 384.897, 419.488),
        .init("qwen2.5-0.5b", .decode, 512, 512, .full, 0, 269.222, 246.761, 251.443, 284.87),
        .init("qwen2.5-0.5b", .decode, 2048, 512, .full, 0, 124.534, 115.863, 121.902, 127.19),
        .init("qwen2.5-0.5b", .decode, 128, 1024, .full, 0, 227.045, 198.622, 228.235, 237.617),
        .init("qwen2.5-0.5b", .decode, 1024, 1024, .full, 0, 104.595, 95.976, 102.984, 105.674),
        .init("qwen2.5-1.5b", .decode, 128, 256, .full, 0, 275.975, 258.349, 280.098, 310.789),
        .init("qwen2.5-1.5b", .decode, 2048, 256, .full, 0, 110.954, 101.967, 108.808, 114.447),
        .init("qwen2.5-1.5b", .decode, 128, 512, .full, 0, 179.891, 165.368, 178.331, 192.57),
        .init("qwen2.5-1.5b", .decode, 512, 512, .full, 0, 127.408, 116.14, 128.676, 133.369),
        .init("qwen2.5-1.5b", .decode, 2048, 512, .full, 0, 58.883, 54.432, 59.243, 60.504),
        .init("qwen2.5-3b", .decode, 128, 64, .full, 0, 257.661, 238.839, 264.623, nil),
        .init("qwen2.5-3b", .decode, 128, 256, .full, 0, 175.888, 160.541, 173.581, 186.955),
        .init("qwen2.5-3b", .decode, 1024, 256, .full, 0, 110.959, 100.552, 110.504, 114.674),
        .init("qwen2.5-3b", .decode, 2048, 256, .full, 0, 76.553, 70.028, 76.023, 78.448),
        .init("qwen2.5-3b", .decode, 128, 512, .full, 0, 108.107, 97.942, 108.322, 115.966),
        .init("qwen2.5-3b", .decode, 512, 512, .full, 0, 82.057, 75.264, 83.173, 85.418),
        .init("qwen2.5-3b", .decode, 1024, 512, .full, 0, 62.098, 56.882, 62.749, 64.203),
        .init("qwen2.5-7b", .decode, 128, 128, .full, 0, 136.073, 121.946, 141.959, 149.825),
        .init("qwen2.5-7b", .decode, 128, 256, .full, 0, 107.325, 97.239, 107.851, nil),
        .init("qwen2.5-7b", .decode, 512, 256, .full, 0, 86.687, 79.487, 86.772, 91.186),
        .init("qwen2.5-7b", .decode, 1024, 256, .full, 0, 68.343, 62.737, 68.739, 71.238),
        .init("qwen2.5-0.5b", .decode, 128, 256, .full, 500, 398.976, 480.629, 492.283, 588.524),
        .init("qwen2.5-0.5b", .decode, 128, 64, .full, 1500, 333.693, 644.406, 577.036, 638.475),
        .init("qwen2.5-0.5b", .decode, 128, 256, .full, 1500, 284.193, 478.634, 446.634, 586.927),
        .init("qwen2.5-0.5b", .decode, 128, 512, .full, 1500, 236.379, 291.518, 349.045, 417.027),
        .init("qwen2.5-0.5b", .decode, 1024, 512, .full, 1500, 152.542, 170.923, 185.005, 206.001),
        .init("qwen2.5-3b", .decode, 128, 256, .full, 1500, 139.87, 159.04, 168.295, 190.347),
        .init("qwen2.5-3b", .decode, 1024, 512, .full, 1500, 58.235, 56.529, 62.057, 63.949),
        .init("qwen2.5-0.5b", .decode, 128, 256, .full, 4000, 167.978, 324.143, 309.102, 246.293),
        .init("qwen2.5-3b", .decode, 128, 256, .full, 4000, 103.63, 134.467, 157.084, 190.197),
        .init("qwen2.5-3b", .decode, 1024, 256, .full, 4000, 78.315, 86.54, 106.243, 116.491),
        .init("qwen2.5-3b", .decode, 128, 512, .attentionOnly, 0, 302.645, 273.086, 273.616, 317.942),
        .init("qwen2.5-3b", .decode, 128, 512, .mlpOnly, 0, 152.358, 138.29, 156.442, 158.426),
        .init("qwen2.5-3b", .decode, 1024, 512, .attentionOnly, 0, 97.866, 90.726, 95.345, 100.152),
        .init("qwen2.5-3b", .decode, 1024, 512, .mlpOnly, 0, 153.204, 137.348, 157.151, 158.191),
        .init("qwen2.5-0.5b", .prefill, 1024, 8, .full, 0, 55.222, 50.464, 55.469, 56.381),
        .init("qwen2.5-0.5b", .prefill, 128, 64, .full, 0, 58.771, 54.29, 59.253, 59.978),
        .init("qwen2.5-3b", .prefill, 1024, 8, .full, 0, 10.389, 9.61, 10.486, 11.003),
        .init("qwen2.5-3b", .prefill, 128, 64, .full, 0, 10.893, 9.932, 10.835, 11.011),
        .init("qwen2.5-7b", .prefill, 1024, 8, .full, 0, 5.303, 4.853, 5.204, 5.337),
        .init("qwen2.5-3b", .prefill, 1024, 8, .attentionOnly, 0, 64.925, 58.8, 67.849, 69.939),
        .init("qwen2.5-3b", .prefill, 1024, 8, .mlpOnly, 0, 12.741, 11.702, 12.393, 12.619),
    ]
}
