// Tandem — Apache-2.0

import CUDAKernels

/// Attention of one token a row.
extension KernelChecks {
    private struct DecodeCase {
        var dimension: HeadDimension
        var queryHeads: Int
        var keyHeads: Int
        var lengths: [Int]
        var warps = 4
        var splits = 1
        var window = 0

        var name: String {
            var name = "attention_decode h\(dimension.rawValue) w\(warps) heads \(queryHeads)/\(keyHeads), lengths "
            name += lengths.map(String.init).joined(separator: " ")
            if splits > 1 { name += ", splits \(splits)" }
            if window > 0 { name += ", window \(window)" }
            return name
        }
    }

    private static let decodeCases: [DecodeCase] = {
        var cases: [DecodeCase] = []
        for dimension in HeadDimension.allCases {
            for warps in [1, 2, 4] {
                // One token, a block's edges, and contexts that leave some warps without a tile.
                cases.append(
                    DecodeCase(
                        dimension: dimension, queryHeads: 14, keyHeads: 2, lengths: [1, 15, 16, 17, 70], warps: warps))
                cases.append(
                    DecodeCase(
                        dimension: dimension, queryHeads: 6, keyHeads: 2, lengths: [1, 33, 130], warps: warps,
                        window: 24))
                cases.append(
                    DecodeCase(
                        dimension: dimension, queryHeads: 8, keyHeads: 1, lengths: [200, 1, 16], warps: warps,
                        splits: 3))
            }
            // More splits than tiles, with a window besides.
            cases.append(
                DecodeCase(
                    dimension: dimension, queryHeads: 4, keyHeads: 2, lengths: [20, 90], splits: 5, window: 16))
        }
        for group in 1...16 {
            cases.append(
                DecodeCase(dimension: .d64, queryHeads: 2 * group, keyHeads: 2, lengths: [37, 64], warps: 2))
        }
        cases.append(DecodeCase(dimension: .d128, queryHeads: 16, keyHeads: 1, lengths: [45, 300], splits: 2))
        cases.append(DecodeCase(dimension: .d128, queryHeads: 28, keyHeads: 4, lengths: [333], splits: 4))
        return cases
    }()

    static let decodeChecks: [KernelCheck] = decodeCases.map { decodeCase in
        let kernel = decodeLaunchKernel(decodeCase.dimension, decodeCase.warps)
        return KernelCheck(decodeCase.name, decodeCase.splits > 1 ? [kernel, .attentionCombine] : [kernel]) { run in
            try check(decodeCase, run)
        }
    }

    private static func decodeLaunchKernel(_ dimension: HeadDimension, _ warps: Int) -> Kernel {
        let nowhere = DevicePointer<Int32>(address: 0)
        let heads = ProjectedHeads(
            rows: DevicePointer(address: 0), queryHeads: 1, keyHeads: 1, dimension: dimension)
        let cache = PagedCache(
            keys: DevicePointer(address: 0), values: DevicePointer(address: 0), tables: nowhere, tableStride: 1)
        return KernelLaunch.attentionDecode(
            heads, cache: cache, rows: DecodeRows(tokens: nowhere, slots: nowhere, positions: nowhere, count: 0),
            out: DevicePointer(address: 0), partial: nil, scale: 1, window: 0,
            cut: DecodeCut(warps: warps, splits: 1)
        ).kernel
    }

    private static func check(_ decodeCase: DecodeCase, _ run: CheckRun) throws {
        var random = CheckRandom(seed: 4)
        let (size, queryHeads) = (decodeCase.dimension.rawValue, decodeCase.queryHeads)
        let rows = decodeCase.lengths.count
        let scale = 1 / Float(size).squareRoot()
        let context = PagedContext(
            dimension: decodeCase.dimension, keyHeads: decodeCase.keyHeads, lengths: decodeCase.lengths,
            firstSeen: decodeCase.lengths.map {
                decodeCase.window > 0 ? max(0, $0 - decodeCase.window) : 0
            }, random: &random)
        // Rows of the step that are no decode rows lie between; row r is token 2 r + 1, slots go backwards.
        let tokens = 2 * rows + 1
        let stride = (queryHeads + 2 * decodeCase.keyHeads) * size
        let qkv = random.bfloats(tokens * stride)
        let slots = (0..<rows).map { Int32(rows - 1 - $0) }
        let heads = ProjectedHeads(
            rows: try run.array(qkv).pointer, queryHeads: queryHeads, keyHeads: decodeCase.keyHeads,
            dimension: decodeCase.dimension)
        let cache = PagedCache(
            keys: try run.array(context.keys).pointer, values: try run.array(context.values).pointer,
            tables: try run.array(context.tables).pointer, tableStride: context.tableStride)
        let decodeRows = DecodeRows(
            tokens: try run.array((0..<rows).map { Int32(2 * $0 + 1) }).pointer,
            slots: try run.array(slots).pointer,
            positions: try run.array(slots.map { Int32(decodeCase.lengths[Int($0)] - 1) }).pointer, count: rows)
        let out = try run.poisoned(BFloat16.self, count: tokens * queryHeads * size)
        let parts = rows * queryHeads * decodeCase.splits
        let partial = PartialAttention(
            outputs: try run.poisoned(Float.self, count: parts * size).pointer,
            stats: try run.poisoned(Float.self, count: parts * 2).pointer)
        try run.launch(
            .attentionDecode(
                heads, cache: cache, rows: decodeRows, out: out.pointer,
                partial: decodeCase.splits > 1 ? partial : nil, scale: scale, window: decodeCase.window,
                cut: DecodeCut(warps: decodeCase.warps, splits: decodeCase.splits)))
        if decodeCase.splits > 1 {
            try run.launch(
                .attentionCombine(
                    heads, rows: decodeRows, out: out.pointer, partial: partial, splits: decodeCase.splits))
        }
        let found = try run.read(out)
        for row in 0..<rows {
            let token = 2 * row + 1
            let slot = Int(slots[row])
            var expected: [Double] = []
            for head in 0..<queryHeads {
                let start = token * stride + head * size
                expected += context.attention(
                    query: qkv[start..<start + size], slot: slot,
                    head: head / (queryHeads / decodeCase.keyHeads), position: decodeCase.lengths[slot] - 1,
                    scale: scale, window: decodeCase.window)
            }
            let width = queryHeads * size
            try run.expectNear(
                Array(found[token * width..<(token + 1) * width]), expected, "row \(row)", relative: 5e-3, each: 1e-2)
            try run.require(
                found[2 * row * width..<token * width].allSatisfy(\.isNaN), "other tokens must be left alone")
        }
    }
}
