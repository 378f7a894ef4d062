// Tandem — Apache-2.0

import CUDAKernels

/// Attention of chunks of prompts.
extension KernelChecks {
    private struct PrefillCase {
        var dimension: HeadDimension
        var queryHeads: Int
        var keyHeads: Int
        /// Tokens before each chunk, and its own.
        var chunks: [(past: Int, count: Int)]
        var window = 0
        var form = PrefillForm.wide

        var name: String {
            var name = "attention_prefill h\(dimension.rawValue) heads \(queryHeads)/\(keyHeads), chunks "
            name += chunks.map { "\($0.past)+\($0.count)" }.joined(separator: " ")
            if window > 0 { name += ", window \(window)" }
            if form != .wide { name += ", \(form.rawValue)" }
            return name
        }
    }

    private static let prefillCases: [PrefillCase] = {
        var cases: [PrefillCase] = []
        for dimension in HeadDimension.allCases {
            for form in dimension == .d256 ? [.wide] : PrefillForm.allCases {
                cases.append(
                    PrefillCase(
                        dimension: dimension, queryHeads: 6, keyHeads: 2,
                        chunks: [(0, 1), (0, 33), (61, 5), (100, 40), (16, 16)], form: form))
                cases.append(
                    PrefillCase(
                        dimension: dimension, queryHeads: 4, keyHeads: 2, chunks: [(70, 45), (200, 1), (0, 80)],
                        window: 24, form: form))
            }
        }
        for form in [PrefillForm.wide, .warpgroups] {
            for group in [1, 2, 7, 8, 9, 16] {
                cases.append(
                    PrefillCase(
                        dimension: .d64, queryHeads: group, keyHeads: 1, chunks: [(7, 30)], window: 0, form: form))
            }
            cases.append(
                PrefillCase(
                    dimension: .d128, queryHeads: 12, keyHeads: 2, chunks: [(27, 40), (0, 130)], form: form))
        }
        // Enough keys for each turn of the tiles of 128 to be used twice, and windows that begin within a tile.
        for dimension in [HeadDimension.d64, .d128] {
            cases.append(
                PrefillCase(
                    dimension: dimension, queryHeads: 8, keyHeads: 1, chunks: [(560, 20)], form: .warpgroups))
            cases.append(
                PrefillCase(
                    dimension: dimension, queryHeads: 4, keyHeads: 1, chunks: [(530, 40), (200, 3)], window: 300,
                    form: .warpgroups))
        }
        cases.append(
            PrefillCase(dimension: .d256, queryHeads: 4, keyHeads: 1, chunks: [(0, 70), (130, 20)], window: 48))
        return cases
    }()

    static let prefillChecks: [KernelCheck] = prefillCases.map { prefillCase in
        let kernel = PrefillTiling(prefillCase.dimension, prefillCase.form).kernel
        return KernelCheck(prefillCase.name, [kernel]) { run in try check(prefillCase, run) }
    }

    private static func check(_ prefillCase: PrefillCase, _ run: CheckRun) throws {
        var random = CheckRandom(seed: 5)
        let (size, queryHeads, chunks) = (prefillCase.dimension.rawValue, prefillCase.queryHeads, prefillCase.chunks)
        let group = queryHeads / prefillCase.keyHeads
        let scale = 1 / Float(size).squareRoot()
        let context = PagedContext(
            dimension: prefillCase.dimension, keyHeads: prefillCase.keyHeads,
            lengths: chunks.map { $0.past + $0.count },
            firstSeen: chunks.map { prefillCase.window > 0 ? max(0, $0.past + 1 - prefillCase.window) : 0 },
            random: &random)
        // A token before the first chunk, two between, belong to nobody.
        var firstTokens: [Int] = []
        var tokens = 1
        for chunk in chunks {
            firstTokens.append(tokens)
            tokens += chunk.count + 2
        }
        let stride = (queryHeads + 2 * prefillCase.keyHeads) * size
        let qkv = random.bfloats(tokens * stride)
        let tiling = PrefillTiling(prefillCase.dimension, prefillCase.form)
        var tiles = PrefillTiles()
        for (row, chunk) in chunks.enumerated() {
            tiles.add(
                row: Int32(row), tokens: chunk.count, past: chunk.past, group: group, tileRows: tiling.tileRows)
        }
        tiles.sort()
        let out = try run.poisoned(BFloat16.self, count: tokens * queryHeads * size)
        try run.launch(
            .attentionPrefill(
                ProjectedHeads(
                    rows: try run.array(qkv).pointer, queryHeads: queryHeads, keyHeads: prefillCase.keyHeads,
                    dimension: prefillCase.dimension),
                cache: PagedCache(
                    keys: try run.array(context.keys).pointer, values: try run.array(context.values).pointer,
                    tables: try run.array(context.tables).pointer, tableStride: context.tableStride),
                rows: PrefillRows(
                    tileRows: try run.array(tiles.rows).pointer, tileStarts: try run.array(tiles.starts).pointer,
                    tileCount: tiles.rows.count, tokens: try run.array(firstTokens.map(Int32.init)).pointer,
                    counts: try run.array(chunks.map { Int32($0.count) }).pointer,
                    slots: try run.array(chunks.indices.map(Int32.init)).pointer,
                    positions: try run.array(chunks.map { Int32($0.past) }).pointer),
                out: out.pointer, scale: scale, window: prefillCase.window, form: prefillCase.form))
        let found = try run.read(out)
        let width = queryHeads * size
        var untouched = Set(0..<tokens)
        for (row, chunk) in chunks.enumerated() {
            for index in 0..<chunk.count {
                let token = firstTokens[row] + index
                untouched.remove(token)
                var expected: [Double] = []
                for head in 0..<queryHeads {
                    let start = token * stride + head * size
                    expected += context.attention(
                        query: qkv[start..<start + size], slot: row, head: head / group,
                        position: chunk.past + index, scale: scale, window: prefillCase.window)
                }
                try run.expectNear(
                    Array(found[token * width..<(token + 1) * width]), expected, "chunk \(row), token \(index)",
                    relative: 7e-3, each: 1.5e-2)
            }
        }
        for token in untouched {
            try run.require(
                found[token * width..<(token + 1) * width].allSatisfy(\.isNaN), "other tokens must be left alone")
        }
    }
}
