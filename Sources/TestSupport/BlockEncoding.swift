// Tandem — Apache-2.0

extension GGUFBuilder.Encoding {
    /// Numbers in a stored format: brain floats cut off, everything else rounded to nearest. Blocks of the quantized
    /// formats span their extreme values.
    ///
    /// - Precondition: the numbers are whole blocks of ``blockElements``.
    public func encode(_ values: [Float]) -> [UInt8] {
        precondition(values.count.isMultiple(of: blockElements), "\(values.count) values are not whole \(self) blocks")
        var bytes: [UInt8] = []
        switch self {
        case .f32: for value in values { append(value.bitPattern, to: &bytes) }
        case .f16: for value in values { append(Float16(value).bitPattern, to: &bytes) }
        case .bf16: for value in values { append(UInt16(value.bitPattern >> 16), to: &bytes) }
        case .q4_0, .q5_0, .q8_0, .q4_1, .q5_1:
            for start in stride(from: 0, to: values.count, by: 32) {
                appendBlock(values[start..<start + 32], to: &bytes)
            }
        case .q4_K, .q5_K:
            for start in stride(from: 0, to: values.count, by: 256) {
                appendBlockWithRuns(Array(values[start..<start + 256]), to: &bytes)
            }
        case .q6_K:
            for start in stride(from: 0, to: values.count, by: 256) {
                appendBlockOfSixBits(Array(values[start..<start + 256]), to: &bytes)
            }
        }
        return bytes
    }

    /// One block of 32 elements.
    private func appendBlock(_ values: ArraySlice<Float>, to bytes: inout [UInt8]) {
        let magnitude = values.map { $0.magnitude }.max() ?? 0
        let hasMinimum = self == .q4_1 || self == .q5_1
        let minimum = hasMinimum ? values.min() ?? 0 : 0
        let span = (values.max() ?? 0) - minimum
        let (scale, centre): (Float, Float) =
            switch self {
            case .q4_0: (magnitude / 7, 8)
            case .q5_0: (magnitude / 15, 16)
            case .q4_1: (span / 15, 0)
            case .q5_1: (span / 31, 0)
            default: (magnitude / 127, 0)
            }
        append(Float16(scale).bitPattern, to: &bytes)
        if hasMinimum { append(Float16(minimum).bitPattern, to: &bytes) }
        let steps = values.map { (scale == 0 ? 0 : (($0 - minimum) / scale).rounded()) + centre }
        if self == .q8_0 {
            for step in steps { bytes.append(UInt8(bitPattern: Int8(step))) }
            return
        }
        let quants = steps.map { UInt8($0) }
        if self == .q5_0 || self == .q5_1 {
            append(quants.indices.reduce(UInt32(0)) { $0 | UInt32(quants[$1] >> 4) << UInt32($1) }, to: &bytes)
        }
        for index in 0..<16 { bytes.append(quants[index] & 0x0F | quants[index + 16] << 4) }
    }

    /// One block of 256 elements in runs of 32, each with its scale and minimum.
    private func appendBlockWithRuns(_ values: [Float], to bytes: inout [UInt8]) {
        let steps: Float = self == .q4_K ? 15 : 31
        let runs = (0..<8).map { values[32 * $0..<32 * $0 + 32] }
        // What is subtracted is never negative.
        let minima = runs.map { max(0, -($0.min() ?? 0)) }
        let scales = zip(runs, minima).map { (($0.max() ?? 0) + $1) / steps }
        let scale = Float16((scales.max() ?? 0) / 63)
        let minimum = Float16((minima.max() ?? 0) / 63)
        let runScales = scales.map { sixBits($0, by: Float(scale)) }
        let runMinima = minima.map { sixBits($0, by: Float(minimum)) }
        let quants = values.indices.map { index in
            let step = Float(scale) * Float(runScales[index / 32])
            let raised = values[index] + Float(minimum) * Float(runMinima[index / 32])
            return step == 0 ? 0 : UInt8(max(0, min(steps, (raised / step).rounded())))
        }
        append(scale.bitPattern, to: &bytes)
        append(minimum.bitPattern, to: &bytes)
        for list in [runScales, runMinima] {
            for run in 0..<4 { bytes.append(list[run] | (list[run + 4] >> 4) << 6) }
        }
        for run in 4..<8 { bytes.append(runScales[run] & 0x0F | runMinima[run] << 4) }
        if self == .q5_K {
            for index in 0..<32 {
                bytes.append((0..<8).reduce(UInt8(0)) { $0 | (quants[32 * $1 + index] >> 4) << UInt8($1) })
            }
        }
        for pair in 0..<4 {
            for index in 64 * pair..<64 * pair + 32 { bytes.append(quants[index] & 0x0F | quants[index + 32] << 4) }
        }
    }

    /// One block of 256 elements in runs of 16, each with its signed scale.
    private func appendBlockOfSixBits(_ values: [Float], to bytes: inout [UInt8]) {
        let scales = (0..<16).map { (values[16 * $0..<16 * $0 + 16].map(\.magnitude).max() ?? 0) / 31 }
        let scale = Float16((scales.max() ?? 0) / 127)
        let runScales = scales.map { scale == 0 ? 0 : UInt8(max(0, min(127, ($0 / Float(scale)).rounded()))) }
        let quants = values.indices.map { index in
            let step = Float(scale) * Float(runScales[index / 16])
            return UInt8((step == 0 ? 0 : max(-32, min(31, (values[index] / step).rounded()))) + 32)
        }
        for half in [0, 128] {
            for index in half..<half + 64 { bytes.append(quants[index] & 0x0F | quants[index + 64] << 4) }
        }
        for half in [0, 128] {
            for index in half..<half + 32 {
                bytes.append((0..<4).reduce(UInt8(0)) { $0 | (quants[index + 32 * $1] >> 4) << UInt8(2 * $1) })
            }
        }
        bytes += runScales
        append(scale.bitPattern, to: &bytes)
    }

    private func sixBits(_ value: Float, by step: Float) -> UInt8 {
        step == 0 ? 0 : UInt8(max(0, min(63, (value / step).rounded())))
    }

    private func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
}
