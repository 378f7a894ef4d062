// Tandem — Apache-2.0

/// Which of the prefill attention's kernels computes a step.
public enum PrefillForm: String, Sendable, CaseIterable {
    /// Tiles of 128 rows, where there are two forms.
    case wide
    /// Tiles of 64 rows: they waste less on short chunks, and read keys and values more often.
    case narrow
    /// Tiles of 128 rows with the matrix products of Hopper's warpgroups, for heads of 64 and 128 elements; see
    /// ``Kernel/exists(onComputeCapability:)``.
    case warpgroups
}

/// How the prefill attention cuts its work: a row is one token of one of the query heads that share a key head.
public struct PrefillTiling: Sendable, Equatable {
    public let kernel: Kernel
    /// Rows that a block of threads takes.
    public let tileRows: Int
    let threads: Int
    let sharedBytes: Int

    /// The form asked for, or the only one that there is for the dimension.
    public init(_ dimension: HeadDimension, _ form: PrefillForm = .wide) {
        let keyTile: Int
        (kernel, tileRows, keyTile) =
            switch (dimension, form) {
            case (.d64, .wide): (.attentionPrefill64, 128, 64)
            case (.d64, .narrow): (.attentionPrefill64Narrow, 64, 64)
            case (.d64, .warpgroups): (.attentionPrefill64Warpgroups, 128, 128)
            case (.d128, .wide): (.attentionPrefill128, 128, 32)
            case (.d128, .narrow): (.attentionPrefill128Narrow, 64, 64)
            case (.d128, .warpgroups): (.attentionPrefill128Warpgroups, 128, 128)
            case (.d256, _): (.attentionPrefill256, 64, 32)
            }
        let isOfWarpgroups = form == .warpgroups && dimension != .d256
        threads = isOfWarpgroups ? 256 : 128
        // Swizzled operands start at multiples of 1024 bytes, to which the kernel rounds up.
        let alignment = isOfWarpgroups ? 1024 : 0
        sharedBytes = (tileRows + 4 * keyTile) * dimension.rawValue * MemoryLayout<BFloat16>.stride + alignment
    }
}

/// The tiles of a step's chunks, in the order in which blocks of threads take them.
///
/// A tile's time is about in proportion to the keys that it sees. Blocks start in order as multiprocessors become free, so
/// the longest go first and the shortest fill the end (list scheduling by longest processing time: R. L. Graham, "Bounds
/// on multiprocessing timing anomalies", 1969).
public struct PrefillTiles: Sendable {
    /// For each tile its chunk, and its first row there.
    public private(set) var rows: [Int32] = []
    public private(set) var starts: [Int32] = []
    private var order: [(keys: Int32, row: Int32, start: Int32)] = []

    public init() {}

    public mutating func removeAll() {
        rows.removeAll(keepingCapacity: true)
        starts.removeAll(keepingCapacity: true)
        order.removeAll(keepingCapacity: true)
    }

    /// Adds the tiles of a chunk; ``sort()`` must follow.
    ///
    /// - Parameters:
    ///   - row: the chunk's number.
    ///   - tokens: its tokens.
    ///   - past: tokens before it.
    ///   - group: query heads that share a key head.
    ///   - tileRows: of the ``PrefillTiling``.
    public mutating func add(row: Int32, tokens: Int, past: Int, group: Int, tileRows: Int) {
        for start in stride(from: 0, to: tokens * group, by: tileRows) {
            let last = min(start + tileRows, tokens * group) - 1
            order.append((Int32(clamping: past + last / group + 1), row, Int32(start)))
        }
    }

    /// Puts the tiles that see most keys first; of those that see as many, the ones added first.
    public mutating func sort() {
        order.sort { ($1.keys, $0.row, $0.start) < ($0.keys, $1.row, $1.start) }
        rows.removeAll(keepingCapacity: true)
        starts.removeAll(keepingCapacity: true)
        for tile in order {
            rows.append(tile.row)
            starts.append(tile.start)
        }
    }
}
