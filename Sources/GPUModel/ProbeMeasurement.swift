// Tandem — Apache-2.0

/// Something that was measured on a GPU, in seconds, bytes and operations.
public enum ProbeMeasurement: Sendable, Equatable {
    /// A product of 16-bit matrices.
    case product(rows: Double, columns: Double, inner: Double, seconds: Double)
    /// Attention of one token of each sequence to what it has in the cache.
    case decodeAttention(
        sequences: Double, context: Double, queryHeads: Int, keyValueHeads: Int, headDimension: Int, seconds: Double)
    /// Causal attention of whole prompts.
    case prefillAttention(prompts: Double, length: Double, queryHeads: Int, headDimension: Int, seconds: Double)
    /// A norm, an activation or another kernel that only moves bytes.
    case transfer(bytes: Double, seconds: Double)
    /// Time slices of a process beside another one: how long it ran, and how long it then waited.
    case timeSlice(runSeconds: Double, pauseSeconds: Double)
    /// A step of so many kernels in one process, with MPS and without.
    case stepUnderMPS(kernels: Double, seconds: Double, secondsWithout: Double)
    /// The GPU's memory.
    case memory(bytes: Double)
    /// Its streaming multiprocessors.
    case multiprocessors(Int)

    /// Whether all sizes and times are finite and more than zero, and plausible.
    public var isPlausible: Bool {
        func positive(_ values: Double...) -> Bool { values.allSatisfy { $0 > 0 && $0.isFinite } }
        switch self {
        case .product(let rows, let columns, let inner, let seconds):
            return positive(rows, columns, inner, seconds) && seconds < 60
        case .decodeAttention(let sequences, let context, let query, let keyValue, let head, let seconds):
            return positive(sequences, context, Double(query), Double(keyValue), Double(head), seconds) && seconds < 60
        case .prefillAttention(let prompts, let length, let query, let head, let seconds):
            return positive(prompts, length, Double(query), Double(head), seconds) && seconds < 60
        case .transfer(let bytes, let seconds): return positive(bytes, seconds) && seconds < 60
        case .timeSlice(let run, let pause): return positive(run, pause) && run < 1 && pause < 8
        case .stepUnderMPS(let kernels, let seconds, let without):
            return positive(kernels, seconds, without) && seconds < 60 && without < 60
        case .memory(let bytes): return positive(bytes) && bytes > 1e9 && bytes < 1e13
        case .multiprocessors(let count): return (1...10000).contains(count)
        }
    }
}

extension ProbeMeasurement {
    /// Whether it says what MPS costs, and can be true.
    public var isOfMPS: Bool {
        guard case .stepUnderMPS = self else { return false }
        return isPlausible
    }
}

extension DeviceParameters {
    /// These parameters with what a probe measured in their place. Groups of which too few points were measured stay.
    ///
    /// - Throws: ``GPUModelError`` if nothing of what was measured can be used.
    public func calibrated(by measurements: [ProbeMeasurement]) throws(GPUModelError) -> DeviceParameters {
        var device = self
        var groups: [String] = []
        let usable = measurements.filter(\.isPlausible)
        for measurement in usable {
            if case .multiprocessors(let count) = measurement { device.multiprocessors = count }
            if case .memory(let bytes) = measurement { device.memoryBytes = bytes }
        }
        device.calibrateProducts(usable, &groups)
        device.calibrateDecode(usable, &groups)
        device.calibratePrefill(usable, &groups)
        device.calibrateTransfers(usable, &groups)
        device.calibrateSharing(usable, &groups)
        guard !groups.isEmpty else {
            throw GPUModelError(
                subject: "--probe",
                reason:
                    "nothing in it can be used; \(Self.smallestCount) or more products or attentions are needed, or "
                    + "time slices, or steps with and without MPS")
        }
        device.sources.insert("probe file: " + groups.joined(separator: ", "), at: 0)
        return device
    }

    /// Points that a group of parameters needs.
    static let smallestCount = 6

    private mutating func calibrateProducts(_ measurements: [ProbeMeasurement], _ groups: inout [String]) {
        let points = measurements.compactMap { measurement -> (Double, Double, Double, Double)? in
            guard case .product(let rows, let columns, let inner, let seconds) = measurement else { return nil }
            return (rows, columns, inner, seconds)
        }
        guard points.count >= Self.smallestCount else { return }
        var device = self
        let start = [product.fixedSeconds, product.tensorShare, product.memoryShare, product.exponent]
        let bounds = [1e-7...1e-4, 0.05...1.0, 0.05...1.0, 1.0...8.0]
        let found = fit(start, bounds) { values in
            device.product = ProductParameters(
                fixedSeconds: values[0], tensorShare: values[1], memoryShare: values[2], exponent: values[3])
            return meanLogarithmicError(
                points.map { rows, columns, inner, seconds in
                    device.matrixProduct("", .rest, rows: rows, columns: columns, inner: inner).seconds / seconds
                })
        }
        product = ProductParameters(
            fixedSeconds: found.values[0], tensorShare: found.values[1], memoryShare: found.values[2],
            exponent: found.values[3])
        groups.append("\(points.count) products (error \(percent(found.error)))")
    }

    private mutating func calibrateDecode(_ measurements: [ProbeMeasurement], _ groups: inout [String]) {
        var device = self
        let points = measurements.filter { if case .decodeAttention = $0 { true } else { false } }
        guard points.count >= Self.smallestCount else { return }
        let found = fit(attentionStart(decodeAttention), Self.attentionBounds) { values in
            device.decodeAttention = Self.attention(values)
            return meanLogarithmicError(
                points.map { point in
                    guard
                        case .decodeAttention(
                            let sequences, let context, let query, let keyValue, let head, let seconds) = point
                    else { return 1 }
                    return device.attentionToCache(
                        sequences: sequences, context: context, queryHeads: query, keyValueHeads: keyValue,
                        headDimension: head
                    ).seconds / seconds
                })
        }
        decodeAttention = Self.attention(found.values)
        groups.append("\(points.count) attentions of decode (error \(percent(found.error)))")
    }

    private mutating func calibratePrefill(_ measurements: [ProbeMeasurement], _ groups: inout [String]) {
        var device = self
        let points = measurements.filter { if case .prefillAttention = $0 { true } else { false } }
        guard points.count >= Self.smallestCount else { return }
        let found = fit(attentionStart(prefillAttention), Self.attentionBounds) { values in
            device.prefillAttention = Self.attention(values)
            return meanLogarithmicError(
                points.map { point in
                    guard case .prefillAttention(let prompts, let length, let query, let head, let seconds) = point
                    else { return 1 }
                    return device.attentionInPrompts(
                        prompts: prompts, length: length, window: nil, queryHeads: query, headDimension: head
                    ).seconds / seconds
                })
        }
        prefillAttention = Self.attention(found.values)
        groups.append("\(points.count) attentions of prefill (error \(percent(found.error)))")
    }

    private mutating func calibrateTransfers(_ measurements: [ProbeMeasurement], _ groups: inout [String]) {
        let points = measurements.compactMap { measurement -> (Double, Double)? in
            guard case .transfer(let bytes, let seconds) = measurement else { return nil }
            return (bytes, seconds)
        }
        guard points.count >= Self.smallestCount / 2 else { return }
        var device = self
        // What fits the second-level cache moves faster than the memory.
        let bounds = [1e-7...1e-4, 0.05...2.0]
        let found = fit([elementwise.fixedSeconds, elementwise.memoryShare], bounds) { values in
            device.elementwise = ElementwiseParameters(fixedSeconds: values[0], memoryShare: values[1])
            return meanLogarithmicError(points.map { device.transfer("", .rest, bytes: $0).seconds / $1 })
        }
        elementwise = ElementwiseParameters(fixedSeconds: found.values[0], memoryShare: found.values[1])
        groups.append("\(points.count) kernels that move bytes (error \(percent(found.error)))")
    }

    private mutating func calibrateSharing(_ measurements: [ProbeMeasurement], _ groups: inout [String]) {
        var runs: [Double] = []
        var switches: [Double] = []
        var costs: [Double] = []
        for measurement in measurements {
            switch measurement {
            case .timeSlice(let run, let pause):
                runs.append(run)
                // While it waits, the other runs once and the context changes twice.
                switches.append(max(0, (pause - run) / 2))
            case .stepUnderMPS(let kernels, let seconds, let without):
                costs.append(max(0, (seconds - without) / kernels))
            default: break
            }
        }
        if let run = median(runs), let switchSeconds = median(switches) {
            sharing.sliceSeconds = run
            sharing.switchSeconds = switchSeconds
            groups.append("time slices")
        }
        if let cost = median(costs) {
            sharing.mpsKernelSeconds = cost
            groups.append("\(costs.count) steps with and without MPS")
        }
    }

    private func attentionStart(_ parameters: AttentionParameters) -> [Double] {
        [parameters.fixedSeconds, parameters.share, parameters.blockSeconds]
    }

    private static let attentionBounds = [1e-7...1e-4, 0.02...1.0, 1e-9...5e-5]

    private static func attention(_ values: [Double]) -> AttentionParameters {
        AttentionParameters(fixedSeconds: values[0], share: values[1], blockSeconds: values[2])
    }
}

func median(_ values: [Double]) -> Double? {
    guard !values.isEmpty else { return nil }
    let sorted = values.sorted()
    return sorted.count % 2 == 1
        ? sorted[sorted.count / 2] : (sorted[sorted.count / 2 - 1] + sorted[sorted.count / 2]) / 2
}

func percent(_ share: Double) -> String { "\(Int((share * 100).rounded())) %" }

private func meanLogarithmicError(_ ratios: [Double]) -> Double {
    ratios.reduce(0) { $0 + abs(logarithm($1)) } / Double(ratios.count)
}

/// Searches for the smallest error by steps along each axis and along all at once, in logarithms; steps shrink when
/// none helps.
private func fit(
    _ start: [Double], _ bounds: [ClosedRange<Double>], error: ([Double]) -> Double
) -> (values: [Double], error: Double) {
    func clamp(_ value: Double, _ range: ClosedRange<Double>) -> Double {
        min(max(value, range.lowerBound), range.upperBound)
    }
    var best = zip(start, bounds).map { clamp($0, $1) }
    var smallest = error(best)
    var step = 0.5
    while step > 1e-3 {
        var improved = false
        for axis in best.indices {
            for factor in [exponential(step), exponential(-step)] {
                var candidate = best
                candidate[axis] = clamp(candidate[axis] * factor, bounds[axis])
                let found = error(candidate)
                if found < smallest * (1 - 1e-6) {
                    (best, smallest, improved) = (candidate, found, true)
                }
            }
        }
        if !improved { step /= 2 }
    }
    return (best, smallest)
}
