// Tandem — Apache-2.0

extension KernelLaunch {
    /// `d = a wᵀ + bias` in one order of summation: a row has the same bits in any batch and with any tiles.
    ///
    /// - Parameters:
    ///   - a: `[m, k]`, rows `aStride` apart, which is a multiple of 8.
    ///   - w: `[n, k]`; `k` is a multiple of 8.
    ///   - bias: `n` values, or `nil`.
    ///   - d: `[m, n]`, rows `dStride` apart.
    public static func gemm(
        a: DevicePointer<BFloat16>, aStride: Int, w: DevicePointer<BFloat16>, bias: DevicePointer<BFloat16>?,
        d: DevicePointer<BFloat16>, dStride: Int, m: Int, n: Int, k: Int, tiling: GEMMTiling = .small
    ) -> KernelLaunch {
        let kernel: Kernel =
            switch tiling {
            case .small: .gemm
            case .tall: .gemmTall
            case .large: .gemmLarge
            }
        return gemm(kernel, a, aStride, w, bias, d, dStride, m, n, k, tiling)
    }

    /// As the other `gemm` with floats as the result.
    public static func gemm(
        a: DevicePointer<BFloat16>, aStride: Int, w: DevicePointer<BFloat16>, bias: DevicePointer<BFloat16>?,
        d: DevicePointer<Float>, dStride: Int, m: Int, n: Int, k: Int, tiling: GEMMTiling = .small
    ) -> KernelLaunch {
        let kernel: Kernel =
            switch tiling {
            case .small: .gemmFloat
            case .tall: .gemmFloatTall
            case .large: .gemmFloatLarge
            }
        return gemm(kernel, a, aStride, w, bias, d, dStride, m, n, k, tiling)
    }

    private static func gemm<Output>(
        _ kernel: Kernel, _ a: DevicePointer<BFloat16>, _ aStride: Int, _ w: DevicePointer<BFloat16>,
        _ bias: DevicePointer<BFloat16>?, _ d: DevicePointer<Output>, _ dStride: Int, _ m: Int, _ n: Int, _ k: Int,
        _ tiling: GEMMTiling
    ) -> KernelLaunch {
        var launch = KernelLaunch(kernel, grid: grid(m, n, tiling.columns, tiling), threads: 128)
        launch.add(a)
        launch.add(aStride)
        launch.add(w)
        launch.add(bias)
        launch.add(d)
        launch.add(dStride)
        launch.add(m)
        launch.add(n)
        launch.add(k)
        return launch
    }

    /// `y = activation(a gateᵀ) * (a upᵀ)`: the product and the gate of a feed-forward block in one kernel.
    ///
    /// - Parameters:
    ///   - w: `[gate | up]`, each of `[intermediate, k]`; `k` is a multiple of 8.
    ///   - y: `[m, intermediate]`.
    public static func gatedGEMM(
        _ activation: GateActivation, a: DevicePointer<BFloat16>, aStride: Int, w: DevicePointer<BFloat16>,
        y: DevicePointer<BFloat16>, m: Int, intermediate: Int, k: Int, tiling: GEMMTiling = .small
    ) -> KernelLaunch {
        let kernel: Kernel =
            switch tiling {
            case .small: .gatedGEMM
            case .tall: .gatedGEMMTall
            case .large: .gatedGEMMLarge
            }
        var launch = KernelLaunch(kernel, grid: grid(m, intermediate, tiling.columns / 2, tiling), threads: 128)
        launch.add(a)
        launch.add(aStride)
        launch.add(w)
        launch.add(y)
        launch.add(intermediate)
        launch.add(m)
        launch.add(intermediate)
        launch.add(k)
        launch.add(activation == .geluTanh ? 1 : 0)
        return launch
    }

    private static func grid(_ m: Int, _ n: Int, _ columns: Int, _ tiling: GEMMTiling) -> LaunchSize {
        LaunchSize((m + tiling.rows - 1) / tiling.rows, (n + columns - 1) / columns)
    }

    // MARK: - Memory

    /// Writes runs of block ids into block tables.
    ///
    /// - Parameters:
    ///   - runs: for each run three numbers: first entry, counted from `tables`; how many; first of its ids in `ids`.
    public static func scatterTables(
        tables: DevicePointer<Int32>, runs: DevicePointer<Int32>, ids: DevicePointer<Int32>, runCount: Int
    ) -> KernelLaunch {
        var launch = KernelLaunch(.scatterTables, grid: LaunchSize(runCount), threads: 128)
        launch.add(tables)
        launch.add(runs)
        launch.add(ids)
        return launch
    }

    /// Copies keys and values of cache blocks in all layers.
    ///
    /// - Parameters:
    ///   - pairs: source and destination block of each copy. No destination may be another copy's source.
    ///   - layerStride: elements from a layer to the next.
    ///   - blockElements: elements of a block of one layer, a multiple of 8.
    public static func copyBlocks(
        keys: DevicePointer<BFloat16>, values: DevicePointer<BFloat16>, pairs: DevicePointer<Int32>, pairCount: Int,
        layers: Int, layerStride: Int, blockElements: Int
    ) -> KernelLaunch {
        var launch = KernelLaunch(.copyBlocks, grid: LaunchSize(pairCount, layers), threads: 256)
        launch.add(keys)
        launch.add(values)
        launch.add(pairs)
        launch.add(wide: UInt64(max(0, layerStride)))
        launch.add(blockElements)
        return launch
    }

    /// Uniform numbers in `-scale..<scale`; each depends on the seed and its place alone.
    public static func fillRandom(
        _ output: DevicePointer<BFloat16>, count: Int, seed: UInt64, scale: Float
    ) -> KernelLaunch {
        var launch = KernelLaunch(.fillRandom, grid: fillGrid(count), threads: 256)
        launch.add(output)
        launch.add(wide: UInt64(max(0, count)))
        launch.add(wide: seed)
        launch.add(scale)
        return launch
    }

    /// Uniform numbers in `centre - scale..<centre + scale`.
    public static func fillRandom(
        _ output: DevicePointer<Float>, count: Int, seed: UInt64, centre: Float, scale: Float
    ) -> KernelLaunch {
        var launch = KernelLaunch(.fillRandomFloat, grid: fillGrid(count), threads: 256)
        launch.add(output)
        launch.add(wide: UInt64(max(0, count)))
        launch.add(wide: seed)
        launch.add(centre)
        launch.add(scale)
        return launch
    }

    /// Sets each of `count` bytes.
    public static func fillBytes(_ output: DevicePointer<UInt8>, count: Int, value: UInt8) -> KernelLaunch {
        var launch = KernelLaunch(.fillBytes, grid: fillGrid(count), threads: 256)
        launch.add(output)
        launch.add(wide: UInt64(max(0, count)))
        launch.add(UInt32(value))
        return launch
    }

    private static func fillGrid(_ count: Int) -> LaunchSize { LaunchSize(min(4096, (count + 255) / 256)) }
}
