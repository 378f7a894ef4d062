// Tandem — Apache-2.0

import CUDAKernels

/// Block tables, block copies, and memory that is filled in place.
extension KernelChecks {
    static let memoryChecks: [KernelCheck] = [scatterCheck, copyCheck, randomCheck, randomFloatCheck, bytesCheck]

    private static let scatterCheck = KernelCheck("scatter_tables", [.scatterTables]) { run in
        var expected = Array(repeating: Int32(-3), count: 600)
        let tables = try run.array(expected)
        let ids = (0..<400).map { Int32(1000 + $0) }
        let runs: [Int32] = [5, 3, 0, 300, 200, 3, 0, 0, 77, 599, 1, 399]
        try run.launch(
            .scatterTables(
                tables: tables.pointer, runs: try run.array(runs).pointer, ids: try run.array(ids).pointer,
                runCount: 4))
        for start in stride(from: 0, to: runs.count, by: 3) {
            for index in 0..<Int(runs[start + 1]) {
                expected[Int(runs[start]) + index] = ids[Int(runs[start + 2]) + index]
            }
        }
        try run.expectEqual(try run.read(tables), expected, "tables")
    }

    private static let copyCheck = KernelCheck("copy_blocks", [.copyBlocks]) { run in
        var random = CheckRandom(seed: 15)
        let (blocks, layers, elements) = (5, 3, 2 * 16 * 64)
        // Layers lie further apart than their blocks need.
        let layerStride = blocks * elements + 64
        let keys = random.bfloats(layers * layerStride)
        let values = random.bfloats(layers * layerStride)
        let (deviceKeys, deviceValues) = (try run.array(keys), try run.array(values))
        try run.launch(
            .copyBlocks(
                keys: deviceKeys.pointer, values: deviceValues.pointer,
                pairs: try run.array([0, 3, 4, 1] as [Int32]).pointer, pairCount: 2, layers: layers,
                layerStride: layerStride, blockElements: elements))
        func copied(_ source: [BFloat16]) -> [Float] {
            var result = source
            for layer in 0..<layers {
                for (from, to) in [(0, 3), (4, 1)] {
                    let start = layer * layerStride
                    result.replaceSubrange(
                        start + to * elements..<start + (to + 1) * elements,
                        with: source[start + from * elements..<start + (from + 1) * elements])
                }
            }
            return result.map(\.float)
        }
        try run.expectEqual(try run.read(deviceKeys), copied(keys), "keys")
        try run.expectEqual(try run.read(deviceValues), copied(values), "values")
    }

    private static func randomReference(_ index: Int, seed: UInt64) -> Float {
        let word = CheckRandom.mix(seed &+ 0x9E37_79B9_7F4A_7C15 &* UInt64(index + 1))
        return Float(word >> 40) / 8_388_608 - 1
    }

    private static let randomCheck = KernelCheck("fill_random", [.fillRandom]) { run in
        let output = try run.poisoned(BFloat16.self, count: 5001)
        try run.launch(.fillRandom(output.pointer, count: 5001, seed: 99, scale: 0.25))
        let expected = (0..<5001).map { BFloat16(randomReference($0, seed: 99) * 0.25).float }
        try run.expectEqual(try run.read(output), expected, "numbers")
    }

    private static let randomFloatCheck = KernelCheck("fill_random_f32", [.fillRandomFloat]) { run in
        let output = try run.poisoned(Float.self, count: 301)
        try run.launch(.fillRandom(output.pointer, count: 301, seed: 7, centre: 1, scale: 0.5))
        let expected = (0..<301).map { 1 + Double(randomReference($0, seed: 7)) * 0.5 }
        try run.expectNear(try run.read(output), expected, "numbers", relative: 1e-6, each: 1e-6)
    }

    private static let bytesCheck = KernelCheck("fill_bytes", [.fillBytes]) { run in
        let output = try run.poisoned(UInt8.self, count: 1001)
        try run.launch(.fillBytes(output.pointer, count: 1000, value: 0xA7))
        try run.expectEqual(
            try run.read(output, filler: 0), Array(repeating: 0xA7, count: 1000) + [0xFF], "bytes")
    }
}
