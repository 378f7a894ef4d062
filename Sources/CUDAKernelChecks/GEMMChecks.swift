// Tandem — Apache-2.0

import CUDAKernels

/// Products of matrices in a fixed order.
extension KernelChecks {
    private struct Shape {
        var m: Int
        var n: Int
        var k: Int
        var hasBias = false
        var isFloat = false
        var tiling = GEMMTiling.small
    }

    static let gemmChecks: [KernelCheck] =
        [
            Shape(m: 1, n: 64, k: 64), Shape(m: 70, n: 130, k: 200, hasBias: true),
            Shape(m: 64, n: 64, k: 8), Shape(m: 5, n: 67, k: 72, hasBias: true, isFloat: true),
            Shape(m: 130, n: 33, k: 576, isFloat: true), Shape(m: 3, n: 1, k: 264),
            Shape(m: 150, n: 70, k: 72, hasBias: true, tiling: .tall), Shape(m: 1, n: 66, k: 336, tiling: .tall),
            Shape(m: 129, n: 40, k: 392, isFloat: true, tiling: .tall),
            Shape(m: 140, n: 131, k: 72, hasBias: true, tiling: .large), Shape(m: 2, n: 128, k: 264, tiling: .large),
            Shape(m: 20, n: 135, k: 328, isFloat: true, tiling: .large),
        ].map { shape in
            let kernel = launch(shape).kernel
            let name = "\(kernel.rawValue) \(shape.m)x\(shape.n)x\(shape.k)\(shape.hasBias ? ", bias" : "")"
            return KernelCheck(name, [kernel]) { run in try check(shape, run) }
        } + [rowsDoNotDependOnTheBatch]

    /// A launch of a shape with no addresses in it.
    private static func launch(_ shape: Shape) -> KernelLaunch {
        let nothing = DevicePointer<BFloat16>(address: 0)
        return shape.isFloat
            ? .gemm(
                a: nothing, aStride: 0, w: nothing, bias: nil, d: nothing.retyped(as: Float.self), dStride: 0, m: 1,
                n: 1,
                k: 8, tiling: shape.tiling)
            : .gemm(
                a: nothing, aStride: 0, w: nothing, bias: nil, d: nothing, dStride: 0, m: 1, n: 1, k: 8,
                tiling: shape.tiling)
    }

    private static func check(_ shape: Shape, _ run: CheckRun) throws {
        var random = CheckRandom(seed: 8)
        let (m, n, k) = (shape.m, shape.n, shape.k)
        // Rows lie apart, with what is no number between them.
        let (aStride, dStride) = (k + 8, n + 3)
        let rows = random.bfloats(m * k)
        var a = Array(repeating: BFloat16(bits: 0xFFFF), count: m * aStride)
        for row in 0..<m { a.replaceSubrange(row * aStride..<row * aStride + k, with: rows[row * k..<(row + 1) * k]) }
        let w = random.bfloats(n * k)
        let bias = shape.hasBias ? random.bfloats(n, scale: 10) : nil
        let found = try product(
            run, a: a, aStride: aStride, w: w, bias: bias, dStride: dStride, m: m, n: n, k: k, isFloat: shape.isFloat,
            tiling: shape.tiling)
        for row in 0..<m {
            let expected = (0..<n).map { column in
                var sum = bias.map { Double($0[column].float) } ?? 0
                for inner in 0..<k {
                    sum += Double(rows[row * k + inner].float) * Double(w[column * k + inner].float)
                }
                return sum
            }
            try run.expectNear(
                Array(found[row * dStride..<row * dStride + n]), expected, "row \(row)",
                relative: shape.isFloat ? 1e-5 : 5e-3, each: shape.isFloat ? 1e-5 : 1e-2)
            try run.require(
                found[row * dStride + n..<(row + 1) * dStride].allSatisfy(\.isNaN), "what is between rows is written")
        }
    }

    private static let rowsDoNotDependOnTheBatch = KernelCheck(
        "gemm_bf16_f32out, a row alone and in all tiles", [.gemmFloat, .gemmFloatTall, .gemmFloatLarge]
    ) { run in
        var random = CheckRandom(seed: 9)
        let (m, n, k) = (90, 70, 328)
        let a = random.bfloats(m * k)
        let w = random.bfloats(n * k)
        let all = try product(
            run, a: a, aStride: k, w: w, bias: nil, dStride: n, m: m, n: n, k: k, isFloat: true)
        for tiling in GEMMTiling.allCases {
            let other = try product(
                run, a: a, aStride: k, w: w, bias: nil, dStride: n, m: m, n: n, k: k, isFloat: true, tiling: tiling)
            try run.expectEqual(other, all, "\(tiling) tiles")
            for row in [0, 17, 63, 64, 89] {
                let one = try product(
                    run, a: Array(a[row * k..<(row + 1) * k]), aStride: k, w: w, bias: nil, dStride: n, m: 1, n: n,
                    k: k, isFloat: true, tiling: tiling)
                try run.expectEqual(one, Array(all[row * n..<(row + 1) * n]), "row \(row), \(tiling) tiles")
            }
        }
    }

    private static func product(
        _ run: CheckRun, a: [BFloat16], aStride: Int, w: [BFloat16], bias: [BFloat16]?, dStride: Int, m: Int, n: Int,
        k: Int, isFloat: Bool, tiling: GEMMTiling = .small
    ) throws -> [Float] {
        let (left, right) = (try run.array(a).pointer, try run.array(w).pointer)
        let added = try bias.map { try run.array($0).pointer }
        if isFloat {
            let d = try run.poisoned(Float.self, count: m * dStride)
            try run.launch(
                .gemm(
                    a: left, aStride: aStride, w: right, bias: added, d: d.pointer, dStride: dStride, m: m, n: n, k: k,
                    tiling: tiling))
            return try run.read(d)
        }
        let d = try run.poisoned(BFloat16.self, count: m * dStride)
        try run.launch(
            .gemm(
                a: left, aStride: aStride, w: right, bias: added, d: d.pointer, dStride: dStride, m: m, n: n, k: k,
                tiling: tiling))
        return try run.read(d)
    }
}
