// Tandem — Apache-2.0

import CUDAKernels
import Glibc

/// Gates of feed-forward blocks.
extension KernelChecks {
    /// The sizes of a gate, and how many bytes are prefetched meanwhile.
    private static let gateCases: [(Int, Int?)] = [(8, nil), (1536, 8 << 20), (4864, 4096), (2056, 4096)]

    static let gateChecks: [KernelCheck] = gateCases.flatMap { intermediate, prefetched in
        [GateActivation.silu, .geluTanh].map { activation in
            let kernel: Kernel = activation == .silu ? .gatedSiLU : .gatedGELU
            return KernelCheck("\(kernel.rawValue) \(intermediate)", [kernel]) { run in
                var random = CheckRandom(seed: 7)
                let rows = 3
                var gateUp = random.bfloats(rows * 2 * intermediate, scale: 3)
                // Beyond where exponentials overflow.
                let hard: [Float] = [200, -200, 3e38, -3e38, 0, 88, -88]
                for (index, value) in hard.enumerated() {
                    gateUp[index] = BFloat16(value)
                    gateUp[intermediate + index] = BFloat16(1)
                }
                let y = try run.poisoned(BFloat16.self, count: rows * intermediate)
                try run.launch(
                    .gate(
                        activation, gateUp: try run.array(gateUp).pointer, y: y.pointer, intermediate: intermediate,
                        count: rows,
                        next: try prefetched.map { count in
                            Prefetch(memory: try run.poisoned(UInt8.self, count: count).pointer, byteCount: count)
                        }))
                let found = try run.read(y)
                for row in 0..<rows {
                    for index in 0..<intermediate {
                        let gate = Double(gateUp[row * 2 * intermediate + index].float)
                        let up = Double(gateUp[row * 2 * intermediate + intermediate + index].float)
                        let activated =
                            activation == .silu
                            ? gate / (1 + exp(-gate))
                            : 0.5 * gate * (1 + tanh(0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)))
                        let value = Double(found[row * intermediate + index])
                        let difference = abs(value - activated * up)
                        try run.require(
                            difference <= 5e-3 * abs(activated * up) + 1e-5,
                            "y[\(row)][\(index)] is \(value), not about \(activated * up) (gate \(gate), up \(up))")
                    }
                }
            }
        }
    }
}
