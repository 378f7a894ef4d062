// Tandem — Apache-2.0

/// The tiles of our own matrix products. A result has the same bits with each.
public enum GEMMTiling: CaseIterable, Sendable, Hashable {
    /// 64 x 64: most blocks for few rows.
    case small
    /// 128 x 64.
    case tall
    /// 128 x 128: least memory traffic for many rows.
    case large

    /// Rows of the result that a block computes.
    public var rows: Int { self == .small ? 64 : 128 }
    /// Columns of the result that a block computes; of a gated product, half as many.
    public var columns: Int { self == .large ? 128 : 64 }
    /// Steps of 64 along the inner dimension that are in shared memory at once.
    public var turns: Int {
        switch self {
        case .small: 6
        case .tall: 4
        case .large: 3
        }
    }

    var sharedBytes: Int { turns * (rows + columns) * 64 * MemoryLayout<BFloat16>.stride }

    /// The tiles that should be fastest: those whose busiest multiprocessor has the least to read. That is what limits small
    /// products on an H100, where tiles of 64 x 64 reached 7.7 TB/s from the level-2 cache and a quarter of the FLOPs
    /// (`Results/gpu-run/h100-2026-11-26`, `product_own`). Larger tiles are not measured yet.
    ///
    /// - Parameters:
    ///   - rows: of the result.
    ///   - columns: of the weight's rows: outputs, or gates and ups together.
    ///   - multiprocessors: of the GPU.
    public static func chosen(rows: Int, columns: Int, multiprocessors: Int) -> GEMMTiling {
        func most(_ tiling: GEMMTiling) -> Int {
            let tiles = divided(rows, by: tiling.rows) * divided(columns, by: tiling.columns)
            return divided(tiles, by: max(1, multiprocessors)) * (tiling.rows + tiling.columns)
        }
        // Of equals the one with the larger tiles.
        return allCases.reversed().min { most($0) < most($1) } ?? .small
    }

    private static func divided(_ count: Int, by size: Int) -> Int { (max(0, count) + size - 1) / size }
}
