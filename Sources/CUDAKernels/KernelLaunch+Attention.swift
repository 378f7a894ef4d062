// Tandem — Apache-2.0

/// Rows of the decode attention: one token each.
public struct DecodeRows: Sendable {
    /// Index of each row's token in the step.
    public var tokens: DevicePointer<Int32>
    public var slots: DevicePointer<Int32>
    public var positions: DevicePointer<Int32>
    public var count: Int

    public init(
        tokens: DevicePointer<Int32>, slots: DevicePointer<Int32>, positions: DevicePointer<Int32>, count: Int
    ) {
        self.tokens = tokens
        self.slots = slots
        self.positions = positions
        self.count = count
    }
}

/// Chunks of prompts, and the tiles that cover them.
public struct PrefillRows: Sendable {
    /// For each tile its chunk, and its first row there; see ``PrefillTiles``.
    public var tileRows: DevicePointer<Int32>
    public var tileStarts: DevicePointer<Int32>
    public var tileCount: Int
    /// For each chunk: index in the step of its first token, number of tokens, slot, position of the first token.
    public var tokens: DevicePointer<Int32>
    public var counts: DevicePointer<Int32>
    public var slots: DevicePointer<Int32>
    public var positions: DevicePointer<Int32>

    public init(
        tileRows: DevicePointer<Int32>, tileStarts: DevicePointer<Int32>, tileCount: Int,
        tokens: DevicePointer<Int32>, counts: DevicePointer<Int32>, slots: DevicePointer<Int32>,
        positions: DevicePointer<Int32>
    ) {
        self.tileRows = tileRows
        self.tileStarts = tileStarts
        self.tileCount = tileCount
        self.tokens = tokens
        self.counts = counts
        self.slots = slots
        self.positions = positions
    }
}

/// How the decode attention is cut. A row's bits depend on both numbers, so `--deterministic` keeps them fixed.
public struct DecodeCut: Sendable, Equatable {
    /// Warps of a block, among which a row's keys are dealt: 1, 2 or 4.
    public var warps: Int
    /// Blocks among which a row's keys are cut; more than one need ``KernelLaunch/attentionCombine``.
    public var splits: Int

    public init(warps: Int, splits: Int) {
        self.warps = warps
        self.splits = splits
    }

    /// The same for all batches and contexts.
    public static let fixed = DecodeCut(warps: 4, splits: 1)
    /// Most splits that are ever chosen; room for partial results is in proportion.
    public static let mostSplits = 16

    /// A cut that fits the work, from measurements on an H100 (`Results/gpu-probe/h100-2026-11-26`): few warps at short
    /// contexts, and splits only while there are fewer blocks than multiprocessors.
    ///
    /// - Parameters:
    ///   - rows: of the launch.
    ///   - heads: their shape.
    ///   - context: most tokens that a row sees.
    ///   - multiprocessors: of the GPU.
    public static func chosen(rows: Int, heads: ProjectedHeads, context: Int, multiprocessors: Int) -> DecodeCut {
        let blocks = rows * heads.keyHeads * ((heads.group + 7) / 8)
        let tiles = max(1, (context + 15) / 16)
        let warps = tiles <= 8 && blocks >= 4 * multiprocessors ? 1 : tiles <= 32 && blocks >= multiprocessors ? 2 : 4
        guard blocks < multiprocessors, tiles >= 16 else { return DecodeCut(warps: warps, splits: 1) }
        // Each split keeps at least two turns of its four warps.
        let splits = min(mostSplits, tiles / 8, (2 * multiprocessors + blocks - 1) / max(1, blocks))
        return DecodeCut(warps: 4, splits: max(1, splits))
    }
}

/// Results of splits before they are made one.
public struct PartialAttention: Sendable {
    /// `[row][query head][split][element]`.
    public var outputs: DevicePointer<Float>
    /// `[row][query head][split][maximum, sum]`.
    public var stats: DevicePointer<Float>

    public init(outputs: DevicePointer<Float>, stats: DevicePointer<Float>) {
        self.outputs = outputs
        self.stats = stats
    }
}

extension KernelLaunch {
    /// Attention of one token a row. With more than one split, ``attentionCombine(_:rows:out:partial:splits:)`` must
    /// follow.
    ///
    /// - Parameters:
    ///   - out: `[tokens, query heads * dimension]`.
    ///   - scale: factor of query · key; positive.
    ///   - window: tokens that a row sees, itself included; 0 for all.
    ///   - partial: may be `nil` with one split.
    public static func attentionDecode(
        _ heads: ProjectedHeads, cache: PagedCache, rows: DecodeRows, out: DevicePointer<BFloat16>,
        partial: PartialAttention?, scale: Float, window: Int, cut: DecodeCut
    ) -> KernelLaunch {
        let kernel: Kernel =
            switch (heads.dimension, cut.warps) {
            case (.d64, 1): .attentionDecode64One
            case (.d64, 2): .attentionDecode64Two
            case (.d64, _): .attentionDecode64
            case (.d128, 1): .attentionDecode128One
            case (.d128, 2): .attentionDecode128Two
            case (.d128, _): .attentionDecode128
            case (.d256, 1): .attentionDecode256One
            case (.d256, 2): .attentionDecode256Two
            case (.d256, _): .attentionDecode256
            }
        let splits = partial == nil ? 1 : max(1, cut.splits)
        var launch = KernelLaunch(
            kernel, grid: LaunchSize(rows.count, heads.keyHeads * ((heads.group + 7) / 8), splits),
            threads: cut.warps == 1 || cut.warps == 2 ? 32 * cut.warps : 128)
        launch.add(heads.rows)
        launch.add(heads.stride)
        launch.add(cache)
        launch.add(rows.tokens)
        launch.add(rows.slots)
        launch.add(rows.positions)
        launch.add(out)
        launch.add(heads.queryHeads * heads.dimension.rawValue)
        launch.add(partial?.outputs)
        launch.add(partial?.stats)
        launch.add(heads.queryHeads)
        launch.add(heads.keyHeads)
        launch.add(scale)
        launch.add(window)
        launch.add(splits)
        return launch
    }

    /// Makes one result of the splits of each row.
    public static func attentionCombine(
        _ heads: ProjectedHeads, rows: DecodeRows, out: DevicePointer<BFloat16>, partial: PartialAttention, splits: Int
    ) -> KernelLaunch {
        let warps = 4
        var launch = KernelLaunch(
            .attentionCombine, grid: LaunchSize((rows.count * heads.queryHeads + warps - 1) / warps),
            threads: 32 * warps)
        launch.add(partial.outputs)
        launch.add(partial.stats)
        launch.add(rows.tokens)
        launch.add(out)
        launch.add(heads.queryHeads * heads.dimension.rawValue)
        launch.add(rows.count)
        launch.add(heads.queryHeads)
        launch.add(heads.dimension.rawValue)
        launch.add(splits)
        return launch
    }

    /// Causal attention of chunks of prompts, whose keys and values are in the cache already.
    ///
    /// - Parameter form: as in the ``PrefillTiling`` that the rows' tiles were made with.
    public static func attentionPrefill(
        _ heads: ProjectedHeads, cache: PagedCache, rows: PrefillRows, out: DevicePointer<BFloat16>, scale: Float,
        window: Int, form: PrefillForm = .wide
    ) -> KernelLaunch {
        let tiling = PrefillTiling(heads.dimension, form)
        // The key heads of a tile are neighbours, so that the order of tiles is that of all blocks.
        var launch = KernelLaunch(
            tiling.kernel, grid: LaunchSize(rows.tileCount * heads.keyHeads), threads: tiling.threads)
        launch.add(heads.rows)
        launch.add(heads.stride)
        launch.add(cache)
        launch.add(rows.tileRows)
        launch.add(rows.tileStarts)
        launch.add(rows.tokens)
        launch.add(rows.counts)
        launch.add(rows.slots)
        launch.add(rows.positions)
        launch.add(out)
        launch.add(heads.queryHeads * heads.dimension.rawValue)
        launch.add(heads.queryHeads)
        launch.add(heads.keyHeads)
        launch.add(scale)
        launch.add(window)
        return launch
    }

    private mutating func add(_ cache: PagedCache) {
        add(cache.keys)
        add(cache.values)
        add(cache.tables)
        add(cache.tableStride)
    }
}
