// Tandem — Apache-2.0

import CUDAKernels

/// Embedding and norms.
extension KernelChecks {
    static let layerChecks: [KernelCheck] = embedChecks + normChecks + headNormChecks

    private static let embedChecks = [64, 576, 2048].map { hidden in
        KernelCheck("embed_tokens \(hidden)", [.embedTokens]) { run in
            var random = CheckRandom(seed: 1)
            let vocabulary = 19
            let table = random.bfloats(vocabulary * hidden)
            let tokens: [Int32] = [3, -1, 18, 0, -1, 3]
            let slots: [Int32] = [0, 2, 1, 0, 1, 3]
            let last: [Int32] = [5, 7, 9, 11]
            let residual = try run.poisoned(Float.self, count: tokens.count * hidden)
            try run.launch(
                .embedTokens(
                    table: try run.array(table).pointer, tokens: try run.array(tokens).pointer,
                    slots: try run.array(slots).pointer, lastTokens: try run.array(last).pointer,
                    residual: residual.pointer, hidden: hidden, scale: 1.5, count: tokens.count))
            let expected = zip(tokens, slots).flatMap { token, slot in
                let row = Int(token < 0 ? last[Int(slot)] : token)
                return table[row * hidden..<(row + 1) * hidden].map { $0.float * 1.5 }
            }
            try run.expectEqual(try run.read(residual), expected, "residual")
        }
    }

    private struct NormCase {
        var hidden: Int
        var hasInput = true
        var hasPostNorm = false
        var hasNorm = true
        /// Bytes that are prefetched meanwhile.
        var prefetched: Int? = 1047
    }

    private static let normChecks: [KernelCheck] = [
        NormCase(hidden: 64), NormCase(hidden: 576), NormCase(hidden: 896, hasPostNorm: true),
        NormCase(hidden: 1536, hasInput: false, prefetched: 8 << 20), NormCase(hidden: 2056, prefetched: nil),
        NormCase(hidden: 8192, hasPostNorm: true),
        NormCase(hidden: 640, hasNorm: false), NormCase(hidden: 264, hasPostNorm: true, hasNorm: false),
    ].map { normCase in
        let parts = [
            normCase.hasInput ? nil : "no input", normCase.hasPostNorm ? "post norm" : nil,
            normCase.hasNorm ? nil : "no norm",
        ]
        let name = (["add_rms_norm \(normCase.hidden)"] + parts.compactMap(\.self)).joined(separator: ", ")
        return KernelCheck(name, [.addNorm]) { run in
            var random = CheckRandom(seed: 2)
            let (rows, hidden, epsilon) = (3, normCase.hidden, Float(1e-6))
            let residual = random.normals(rows * hidden, scale: 3)
            let x = normCase.hasInput ? random.bfloats(rows * hidden) : nil
            let postWeight = normCase.hasPostNorm ? random.normals(hidden) : nil
            let weight = normCase.hasNorm ? random.normals(hidden) : nil
            let onDevice = try run.array(residual)
            let y = try run.poisoned(BFloat16.self, count: rows * hidden)
            try run.launch(
                .addNorm(
                    residual: onDevice.pointer, x: try x.map { try run.array($0).pointer },
                    postWeight: try postWeight.map { try run.array($0).pointer },
                    weight: try weight.map { try run.array($0).pointer }, y: y.pointer, hidden: hidden,
                    epsilon: epsilon, count: rows,
                    next: try normCase.prefetched.map { count in
                        Prefetch(
                            memory: try run.poisoned(UInt8.self, count: count / 16 * 16).pointer, byteCount: count)
                    }))
            var sums: [Double] = []
            var norms: [Double] = []
            for row in 0..<rows {
                let (sum, norm) = normReference(
                    residual: residual, x: x, postWeight: postWeight, weight: weight, row: row, hidden: hidden,
                    epsilon: epsilon)
                sums += sum
                norms += norm
            }
            try run.expectNear(try run.read(onDevice), sums, "residual", relative: 1e-6, each: 1e-5)
            let found = try run.read(y)
            if weight == nil {
                try run.require(found.allSatisfy(\.isNaN), "without a norm y must be left alone")
            } else {
                try run.expectNear(found, norms, "y", relative: 3e-3, each: 5e-3)
            }
        }
    }

    private static let headNormChecks: [KernelCheck] = [576, 2048].flatMap { hidden in
        [false, true].map { isFloat in
            KernelCheck(
                "\(isFloat ? "head_norm_f32" : "head_norm") \(hidden)", [isFloat ? .headNormFloat : .headNorm]
            ) { run in
                var random = CheckRandom(seed: 3)
                let (rows, epsilon) = (4, Float(1e-5))
                let tokens: [Int32] = [2, 0, -1, 2, 3]
                let residual = random.normals(rows * hidden, scale: 2)
                let x = random.bfloats(rows * hidden)
                let postWeight = hidden == 576 ? random.normals(hidden) : nil
                let weight = random.normals(hidden)
                let onDevice = try run.array(residual)
                let (xPointer, weightPointer) = (try run.array(x).pointer, try run.array(weight).pointer)
                let postPointer = try postWeight.map { try run.array($0).pointer }
                let tokenPointer = try run.array(tokens).pointer
                let found: [Float]
                if isFloat {
                    let y = try run.poisoned(Float.self, count: tokens.count * hidden)
                    try run.launch(
                        .headNorm(
                            residual: onDevice.pointer, x: xPointer, postWeight: postPointer, weight: weightPointer,
                            tokens: tokenPointer, y: y.pointer, hidden: hidden, epsilon: epsilon,
                            count: tokens.count))
                    found = try run.read(y)
                } else {
                    let y = try run.poisoned(BFloat16.self, count: tokens.count * hidden)
                    try run.launch(
                        .headNorm(
                            residual: onDevice.pointer, x: xPointer, postWeight: postPointer, weight: weightPointer,
                            tokens: tokenPointer, y: y.pointer, hidden: hidden, epsilon: epsilon,
                            count: tokens.count))
                    found = try run.read(y)
                }
                try run.expectEqual(try run.read(onDevice), residual, "residual")
                for (row, token) in tokens.enumerated() {
                    let part = Array(found[row * hidden..<(row + 1) * hidden])
                    if token < 0 {
                        try run.require(part.allSatisfy(\.isNaN), "padding must be left alone")
                        continue
                    }
                    let (_, norm) = normReference(
                        residual: residual, x: x, postWeight: postWeight, weight: weight, row: Int(token),
                        hidden: hidden, epsilon: epsilon)
                    try run.expectNear(
                        part, norm, "row \(row)", relative: isFloat ? 1e-6 : 3e-3, each: isFloat ? 1e-5 : 5e-3)
                }
            }
        }
    }

    /// The new residual stream and its norm.
    private static func normReference(
        residual: [Float], x: [BFloat16]?, postWeight: [Float]?, weight: [Float]?, row: Int, hidden: Int,
        epsilon: Float
    ) -> (sum: [Double], norm: [Double]) {
        let range = row * hidden..<(row + 1) * hidden
        var sum = residual[range].map(Double.init)
        if let x {
            var added = x[range].map { Double($0.float) }
            if let postWeight { added = normalized(added, postWeight, epsilon) }
            for index in sum.indices { sum[index] += added[index] }
        }
        return (sum, weight.map { normalized(sum, $0, epsilon) } ?? [])
    }

    static func normalized(_ values: [Double], _ weight: [Float], _ epsilon: Float) -> [Double] {
        let mean = values.reduce(0) { $0 + $1 * $1 } / Double(values.count)
        let factor = 1 / (mean + Double(epsilon)).squareRoot()
        return zip(values, weight).map { $0 * factor * Double($1) }
    }
}
