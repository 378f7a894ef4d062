// Tandem — Apache-2.0

import CUDAKernels
import Glibc

/// Products with the gate of a feed-forward block in them.
extension KernelChecks {
    static let gatedGEMMChecks: [KernelCheck] = [
        (GEMMTiling.small, GateActivation.silu, 70, 40, 200), (.small, .geluTanh, 1, 32, 8),
        (.tall, .silu, 130, 56, 72), (.tall, .geluTanh, 3, 33, 264), (.large, .geluTanh, 140, 72, 136),
        (.large, .silu, 5, 128, 264),
    ].map { tiling, activation, m, intermediate, k in
        let kernel = KernelLaunch.gatedGEMM(
            activation, a: DevicePointer(address: 0), aStride: 0, w: DevicePointer(address: 0),
            y: DevicePointer(address: 0), m: 1, intermediate: 1, k: 8, tiling: tiling
        ).kernel
        return KernelCheck("\(kernel.rawValue) \(activation) \(m)x\(intermediate)x\(k)", [kernel]) { run in
            try check(run, tiling, activation, m, intermediate, k)
        }
    }

    private static func check(
        _ run: CheckRun, _ tiling: GEMMTiling, _ activation: GateActivation, _ m: Int, _ intermediate: Int, _ k: Int
    ) throws {
        var random = CheckRandom(seed: 10)
        let a = random.bfloats(m * k)
        let w = random.bfloats(2 * intermediate * k, scale: 0.3)
        let y = try run.poisoned(BFloat16.self, count: m * intermediate)
        try run.launch(
            .gatedGEMM(
                activation, a: try run.array(a).pointer, aStride: k, w: try run.array(w).pointer, y: y.pointer, m: m,
                intermediate: intermediate, k: k, tiling: tiling))
        let found = try run.read(y)
        func product(_ row: Int, _ output: Int) -> Double {
            (0..<k).reduce(0) { $0 + Double(a[row * k + $1].float) * Double(w[output * k + $1].float) }
        }
        for row in 0..<m {
            let expected = (0..<intermediate).map { column in
                let (gate, up) = (product(row, column), product(row, intermediate + column))
                let activated =
                    activation == .silu
                    ? gate / (1 + exp(-gate))
                    : 0.5 * gate * (1 + tanh(0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)))
                return activated * up
            }
            // Gate, up and result are rounded to 8 bits each.
            try run.expectNear(
                Array(found[row * intermediate..<(row + 1) * intermediate]), expected, "row \(row)", relative: 1e-2,
                each: 1e-2)
        }
    }
}
