// Tandem — Apache-2.0

/// Queries, keys and values of a step's tokens as the projection leaves them: a row is [queries | keys | values].
public struct ProjectedHeads: Sendable {
    public var rows: DevicePointer<BFloat16>
    public var queryHeads: Int
    public var keyHeads: Int
    public var dimension: HeadDimension

    public init(
        rows: DevicePointer<BFloat16>, queryHeads: Int, keyHeads: Int, dimension: HeadDimension
    ) {
        self.rows = rows
        self.queryHeads = queryHeads
        self.keyHeads = keyHeads
        self.dimension = dimension
    }

    /// Elements from one row to the next.
    public var stride: Int { (queryHeads + 2 * keyHeads) * dimension.rawValue }
    /// Query heads that share a key head.
    public var group: Int { queryHeads / max(1, keyHeads) }
}

/// The keys and values of one layer: blocks of 16 tokens, `[block][key head][token][element]`, and the tables of the
/// layer's group, `[slot][entry]`.
public struct PagedCache: Sendable {
    /// Tokens of a block.
    public static let blockTokens = 16

    public var keys: DevicePointer<BFloat16>
    public var values: DevicePointer<BFloat16>
    public var tables: DevicePointer<Int32>
    /// Entries of a slot's table.
    public var tableStride: Int

    public init(
        keys: DevicePointer<BFloat16>, values: DevicePointer<BFloat16>, tables: DevicePointer<Int32>, tableStride: Int
    ) {
        self.keys = keys
        self.values = values
        self.tables = tables
        self.tableStride = tableStride
    }
}

extension KernelLaunch {
    /// Widest residual stream that the norms take: 256 threads hold four pieces of 8 values each.
    public static let hiddenLimit = 8192

    /// Threads that hold a row of `hidden` values, 8 each as far as 256 threads go.
    private static func normThreads(_ hidden: Int) -> Int { min(256, max(32, (hidden / 8 + 31) / 32 * 32)) }

    /// Starts the residual stream.
    ///
    /// - Parameters:
    ///   - table: `[vocabulary, hidden]`.
    ///   - tokens: ids; negative ones stand for the token that `slots` sampled last, from `lastTokens`.
    ///   - residual: `[tokens, hidden]`.
    ///   - hidden: a multiple of 8.
    public static func embedTokens(
        table: DevicePointer<BFloat16>, tokens: DevicePointer<Int32>, slots: DevicePointer<Int32>,
        lastTokens: DevicePointer<Int32>, residual: DevicePointer<Float>, hidden: Int, scale: Float, count: Int
    ) -> KernelLaunch {
        var launch = KernelLaunch(.embedTokens, grid: LaunchSize(count), threads: min(128, normThreads(hidden)))
        launch.add(table)
        launch.add(tokens)
        launch.add(slots)
        launch.add(lastTokens)
        launch.add(residual)
        launch.add(hidden)
        launch.add(scale)
        return launch
    }

    /// `residual += norm(x) * postWeight`, or `+= x` without `postWeight`; then `y = norm(residual) * weight`.
    ///
    /// - Parameters:
    ///   - x: what a block of the layer made; `nil` leaves the residual stream as it is.
    ///   - weight: `nil` leaves `y` as it is.
    ///   - hidden: a multiple of 8, at most ``hiddenLimit``.
    ///   - next: what the next kernel will read.
    public static func addNorm(
        residual: DevicePointer<Float>, x: DevicePointer<BFloat16>?, postWeight: DevicePointer<Float>?,
        weight: DevicePointer<Float>?, y: DevicePointer<BFloat16>, hidden: Int, epsilon: Float, count: Int,
        next: Prefetch? = nil
    ) -> KernelLaunch {
        var launch = KernelLaunch(.addNorm, grid: LaunchSize(count), threads: normThreads(hidden))
        launch.add(residual)
        launch.add(x)
        launch.add(postWeight)
        launch.add(weight)
        launch.add(y)
        launch.add(hidden)
        launch.add(epsilon)
        launch.add(next)
        return launch
    }

    /// As ``addNorm(residual:x:postWeight:weight:y:hidden:epsilon:count:next:)`` for chosen tokens, with the residual stream
    /// left as it is: row `i` of `y` is token `tokens[i]`. Negative tokens are padding.
    public static func headNorm(
        residual: DevicePointer<Float>, x: DevicePointer<BFloat16>?, postWeight: DevicePointer<Float>?,
        weight: DevicePointer<Float>, tokens: DevicePointer<Int32>, y: DevicePointer<BFloat16>, hidden: Int,
        epsilon: Float, count: Int
    ) -> KernelLaunch {
        headNorm(.headNorm, residual, x, postWeight, weight, tokens, y, hidden, epsilon, count)
    }

    /// As the other `headNorm` with floats as the result.
    public static func headNorm(
        residual: DevicePointer<Float>, x: DevicePointer<BFloat16>?, postWeight: DevicePointer<Float>?,
        weight: DevicePointer<Float>, tokens: DevicePointer<Int32>, y: DevicePointer<Float>, hidden: Int,
        epsilon: Float, count: Int
    ) -> KernelLaunch {
        headNorm(.headNormFloat, residual, x, postWeight, weight, tokens, y, hidden, epsilon, count)
    }

    private static func headNorm<Output>(
        _ kernel: Kernel, _ residual: DevicePointer<Float>, _ x: DevicePointer<BFloat16>?,
        _ postWeight: DevicePointer<Float>?, _ weight: DevicePointer<Float>, _ tokens: DevicePointer<Int32>,
        _ y: DevicePointer<Output>, _ hidden: Int, _ epsilon: Float, _ count: Int
    ) -> KernelLaunch {
        var launch = KernelLaunch(kernel, grid: LaunchSize(count), threads: normThreads(hidden))
        launch.add(residual)
        launch.add(x)
        launch.add(postWeight)
        launch.add(weight)
        launch.add(tokens)
        launch.add(y)
        launch.add(hidden)
        launch.add(epsilon)
        return launch
    }

    /// Normalises queries and keys where the model does, rotates both, and stores keys and values in the cache. Queries
    /// are rotated where they are.
    ///
    /// - Parameters:
    ///   - positions: of the tokens in their sequences.
    ///   - slots: whose tables say where a token's keys and values go.
    ///   - rotary: `[position][cosines | sines]`, half a head of each.
    ///   - queryNorm: a head's norm weights; `nil` for none.
    public static func rotateAndStore(
        _ heads: ProjectedHeads, positions: DevicePointer<Int32>, slots: DevicePointer<Int32>, cache: PagedCache,
        rotary: DevicePointer<Float>, queryNorm: DevicePointer<Float>?, keyNorm: DevicePointer<Float>?, epsilon: Float,
        count: Int
    ) -> KernelLaunch {
        let warps = (heads.queryHeads + heads.keyHeads) * min(32, heads.dimension.rawValue / 4) / 32
        var launch = KernelLaunch(
            .rotateAndStore, grid: LaunchSize(count), threads: 32 * min(8, max(1, warps)))
        launch.add(heads.rows)
        launch.add(positions)
        launch.add(slots)
        launch.add(cache.tables)
        launch.add(cache.tableStride)
        launch.add(cache.keys)
        launch.add(cache.values)
        launch.add(rotary)
        launch.add(queryNorm)
        launch.add(keyNorm)
        launch.add(epsilon)
        launch.add(heads.queryHeads)
        launch.add(heads.keyHeads)
        launch.add(heads.dimension.rawValue)
        return launch
    }

    /// `y = activation(gate) * up` for rows `[gate | up]`.
    ///
    /// - Parameters:
    ///   - intermediate: a multiple of 8.
    ///   - next: what the next kernel will read.
    public static func gate(
        _ activation: GateActivation, gateUp: DevicePointer<BFloat16>, y: DevicePointer<BFloat16>, intermediate: Int,
        count: Int, next: Prefetch? = nil
    ) -> KernelLaunch {
        let threads = 256
        // A thread takes 8 values; with few tokens a row is cut, so that more multiprocessors have work.
        let parts = max(1, min(65535, (intermediate + threads * 8 - 1) / (threads * 8)))
        var launch = KernelLaunch(
            activation == .silu ? .gatedSiLU : .gatedGELU, grid: LaunchSize(count, parts), threads: threads)
        launch.add(gateUp)
        launch.add(y)
        launch.add(intermediate)
        launch.add(next)
        return launch
    }

    private mutating func add(_ prefetch: Prefetch?) {
        add(prefetch?.memory)
        add(UInt32(clamping: prefetch.map { $0.byteCount / 16 * 16 } ?? 0))
    }
}

/// Memory that a kernel brings to the level-2 cache for the one behind it: weights, which no step writes.
public struct Prefetch: Sendable {
    /// A multiple of 16.
    public var memory: DevicePointer<UInt8>
    /// Rounded down to a multiple of 16.
    public var byteCount: Int

    public init(memory: DevicePointer<UInt8>, byteCount: Int) {
        self.memory = memory
        self.byteCount = byteCount
    }
}

/// The function of a feed-forward block's gate.
public enum GateActivation: Sendable {
    case silu
    /// GELU by its approximation with a hyperbolic tangent.
    case geluTanh
}
