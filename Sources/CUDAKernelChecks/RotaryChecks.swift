// Tandem — Apache-2.0

import CUDAKernels
import Glibc

/// Rotary embedding, norms of queries and keys, and the store into the cache.
extension KernelChecks {
    static let rotaryChecks: [KernelCheck] = HeadDimension.allCases.flatMap { dimension in
        [(9, 3, false), (4, 1, true), (1, 1, true), (16, 8, false)].map { queryHeads, keyHeads, hasNorms in
            KernelCheck(
                "rotate_and_store h\(dimension.rawValue) heads \(queryHeads)/\(keyHeads)\(hasNorms ? ", norms" : "")",
                [.rotateAndStore]
            ) { run in
                try checkRotation(run, dimension, queryHeads: queryHeads, keyHeads: keyHeads, hasNorms: hasNorms)
            }
        }
    }

    private static func checkRotation(
        _ run: CheckRun, _ dimension: HeadDimension, queryHeads: Int, keyHeads: Int, hasNorms: Bool
    ) throws {
        var random = CheckRandom(seed: 6)
        let size = dimension.rawValue
        let half = size / 2
        let epsilon = Float(1e-6)
        let slots: [Int32] = [1, 1, 0, 2]
        let positions: [Int32] = [15, 16, 0, 37]
        let tableStride = 4
        let blockCount = 13
        let order = random.shuffled(blockCount)
        let tables = (0..<3 * tableStride).map { order[$0] }
        let stride = (queryHeads + 2 * keyHeads) * size
        let qkv = random.bfloats(slots.count * stride)
        let queryNorm = hasNorms ? random.normals(size) : nil
        let keyNorm = hasNorms ? random.normals(size) : nil
        var rotary: [Float] = []
        for position in 0..<40 {
            let angles = (0..<half).map { Double(position) * pow(10_000, -Double($0) / Double(half)) }
            rotary += angles.map { Float(cos($0)) } + angles.map { Float(sin($0)) }
        }
        let rows = try run.array(qkv)
        let keys = try run.poisoned(BFloat16.self, count: blockCount * keyHeads * 16 * size)
        let values = try run.poisoned(BFloat16.self, count: blockCount * keyHeads * 16 * size)
        try run.launch(
            .rotateAndStore(
                ProjectedHeads(rows: rows.pointer, queryHeads: queryHeads, keyHeads: keyHeads, dimension: dimension),
                positions: try run.array(positions).pointer, slots: try run.array(slots).pointer,
                cache: PagedCache(
                    keys: keys.pointer, values: values.pointer, tables: try run.array(tables).pointer,
                    tableStride: tableStride),
                rotary: try run.array(rotary).pointer, queryNorm: try queryNorm.map { try run.array($0).pointer },
                keyNorm: try keyNorm.map { try run.array($0).pointer }, epsilon: epsilon, count: slots.count))
        let foundRows = try run.read(rows)
        let foundKeys = try run.read(keys)
        let foundValues = try run.read(values)
        var written = Set<Int>()
        for token in slots.indices {
            for head in 0..<queryHeads + keyHeads {
                let start = token * stride + head * size
                var source = qkv[start..<start + size].map { Double($0.float) }
                let isKey = head >= queryHeads
                if let norm = isKey ? keyNorm : queryNorm { source = normalized(source, norm, epsilon) }
                let angles = Int(positions[token]) * size
                let expected = (0..<size).map { element in
                    let pair = element % half
                    let cosine = Double(rotary[angles + pair])
                    let sine = Double(rotary[angles + half + pair])
                    return element < half
                        ? source[element] * cosine - source[element + half] * sine
                        : source[element] * cosine + source[element - half] * sine
                }
                if !isKey {
                    try run.expectNear(
                        Array(foundRows[start..<start + size]), expected, "query head \(head) of token \(token)",
                        relative: 4e-3, each: 5e-3)
                    continue
                }
                let keyHead = head - queryHeads
                let block = Int(tables[Int(slots[token]) * tableStride + Int(positions[token]) / 16])
                let place = ((block * keyHeads + keyHead) * 16 + Int(positions[token]) % 16) * size
                written.formUnion(place..<place + size)
                try run.expectNear(
                    Array(foundKeys[place..<place + size]), expected, "key head \(keyHead) of token \(token)",
                    relative: 4e-3, each: 5e-3)
                let valueStart = token * stride + (queryHeads + keyHeads + keyHead) * size
                try run.expectEqual(
                    Array(foundValues[place..<place + size]), qkv[valueStart..<valueStart + size].map(\.float),
                    "value head \(keyHead) of token \(token)")
            }
            let untouched = token * stride + queryHeads * size..<(token + 1) * stride
            try run.expectEqual(
                Array(foundRows[untouched]), qkv[untouched].map(\.float), "keys and values of the projection")
        }
        for index in foundKeys.indices where !written.contains(index) {
            try run.require(foundKeys[index].isNaN && foundValues[index].isNaN, "other places must be left alone")
        }
    }
}
