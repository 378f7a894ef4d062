// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels

/// What computes the matrix products of steps.
public enum ProductSource: String, Sendable, CaseIterable {
    /// What is fastest on the GPU: cuBLASLt's suggestions, or kernels of our own for 193 to 1024 rows.
    case fastest
    /// cuBLASLt alone, where it is right.
    case library
    /// Kernels of our own.
    case own
}

/// The matrix products of a model, by cuBLASLt or by a kernel of our own.
final class MatrixPlans {
    /// One product with its weight: `output = input x weight^T (+ bias)`.
    struct Operands {
        var weight: DeviceAddress
        var bias: DeviceAddress?
        var input: DeviceAddress
        var output: DeviceAddress
        var outputs: Int
        var inputs: Int
        /// Elements from one row of the output to the next.
        var outputStride: Int
        var writesFloats = false
        /// What follows the product, if it is the one for gate and up.
        var gate: Gate?

        func shape(rows: Int) -> MatrixShape {
            MatrixShape(
                rows: rows, outputs: outputs, inputs: inputs, output: writesFloats ? .float32 : .bfloat16,
                hasBias: bias != nil, outputStride: outputStride)
        }
    }

    /// The gate of a feed-forward block: `output = activation(gate) * up` of a product's rows `[gate | up]`.
    struct Gate {
        var activation: GateActivation
        var output: DeviceAddress
        var intermediate: Int
        /// What the product behind it reads.
        var next: Prefetch?
    }

    private enum Plan {
        case library(MatrixProduct)
        /// With the gate in the same kernel.
        case own(GEMMTiling)
    }

    private struct Key: Hashable {
        var shape: MatrixShape
        var isGated: Bool
    }

    private let session: GPUSession
    /// `nil` computes all with kernels of our own, in one order of summation.
    private let library: MatrixLibrary?
    private let workspace: DeviceMemory?
    /// Whether each of the library's products is compared with our own kernel's before it is used.
    private let isChecked: Bool
    private let source: ProductSource
    private let report: @Sendable (String) -> Void
    private var plans: [Key: Plan] = [:]
    /// Products that the library computed wrongly and that our own kernel computes now.
    private(set) var refusedCount = 0
    /// What measurements chose, in words.
    private(set) var choices: [String] = []

    init(
        _ session: GPUSession, library: MatrixLibrary?, workspaceBytes: Int, isChecked: Bool,
        source: ProductSource = .fastest, report: @escaping @Sendable (String) -> Void
    ) throws(CUDAError) {
        self.session = session
        self.library = library
        self.isChecked = isChecked
        self.source = source
        self.report = report
        workspace =
            library == nil
            ? nil
            : try DeviceMemory(session.context, byteCount: workspaceBytes, purpose: "matrix products")
    }

    /// Chooses an algorithm for a product, if that was not done. Before a step and not during a capture: it may run the
    /// product, which overwrites its input and its output.
    func prepare(_ operands: Operands, rows: Int) throws(CUDAError) {
        let key = Key(shape: operands.shape(rows: rows), isGated: operands.gate != nil)
        guard plans[key] == nil else { return }
        plans[key] = try choose(operands, key.shape)
    }

    /// Puts a product into the stream, and the gate that follows it. One that was not prepared is computed by a kernel of
    /// our own.
    ///
    /// - Parameters:
    ///   - gatedRows: rows that the gate is wanted for; `nil` for all.
    ///   - followsKernel: see ``GPUSession/launch(_:followsKernel:)``.
    func run(
        _ operands: Operands, rows: Int, gatedRows: Int? = nil, followsKernel: Bool = false
    ) throws(CUDAError) {
        switch plans[Key(shape: operands.shape(rows: rows), isGated: operands.gate != nil)] {
        case .library(let product)?:
            try run(product, operands, gatedRows: gatedRows ?? rows, followsKernel: followsKernel)
        case .own(let tiling)?: try runOwn(operands, rows: rows, tiling, followsKernel: followsKernel)
        case nil: try runOwn(operands, rows: rows, tiling(operands, rows: rows), followsKernel: followsKernel)
        }
    }

    private func run(
        _ product: MatrixProduct, _ operands: Operands, gatedRows: Int, followsKernel: Bool
    ) throws(CUDAError) {
        try product.run(
            weight: operands.weight, input: operands.input, output: operands.output, bias: operands.bias,
            workspace: workspace?.address ?? 0, on: session.stream)
        guard let gate = operands.gate else { return }
        try session.launch(
            .gate(
                gate.activation, gateUp: DevicePointer(address: operands.output),
                y: DevicePointer(address: gate.output), intermediate: gate.intermediate, count: gatedRows,
                next: gate.next),
            followsKernel: followsKernel)
    }

    private func tiling(_ operands: Operands, rows: Int) -> GEMMTiling {
        .chosen(rows: rows, columns: operands.outputs, multiprocessors: session.device.multiprocessors)
    }

    private func runOwn(
        _ operands: Operands, rows: Int, _ tiling: GEMMTiling, followsKernel: Bool
    ) throws(CUDAError) {
        guard let gate = operands.gate else {
            return try runPlain(operands, rows: rows, tiling, followsKernel: followsKernel)
        }
        try session.launch(
            .gatedGEMM(
                gate.activation, a: DevicePointer(address: operands.input), aStride: operands.inputs,
                w: DevicePointer(address: operands.weight), y: DevicePointer(address: gate.output), m: rows,
                intermediate: gate.intermediate, k: operands.inputs, tiling: tiling), followsKernel: followsKernel)
    }

    /// A product of our own without what follows it.
    private func runPlain(
        _ operands: Operands, rows: Int, _ tiling: GEMMTiling, output: DeviceAddress? = nil, followsKernel: Bool = false
    ) throws(CUDAError) {
        let a = DevicePointer<BFloat16>(address: operands.input)
        let w = DevicePointer<BFloat16>(address: operands.weight)
        let bias = operands.bias.map { DevicePointer<BFloat16>(address: $0) }
        let address = output ?? operands.output
        let launch: KernelLaunch =
            operands.writesFloats
            ? .gemm(
                a: a, aStride: operands.inputs, w: w, bias: bias, d: DevicePointer<Float>(address: address),
                dStride: operands.outputStride, m: rows, n: operands.outputs, k: operands.inputs, tiling: tiling)
            : .gemm(
                a: a, aStride: operands.inputs, w: w, bias: bias, d: DevicePointer<BFloat16>(address: address),
                dStride: operands.outputStride, m: rows, n: operands.outputs, k: operands.inputs, tiling: tiling)
        try session.launch(launch, followsKernel: followsKernel)
    }

    /// From so many rows on the library's suggestions are timed. Below, weights come from memory, which a measurement
    /// that repeats a product on one matrix does not show.
    private static let fewestTimedRows = 193
    /// Rows for which our own kernels are timed beside the library's: with more, its instructions for whole warpgroups
    /// (wgmma) are ahead in any case.
    private static let ownRows = fewestTimedRows...1024
    /// An own kernel takes a product over if its time is below this part of the library's, so that noise alone does not
    /// decide.
    private static let gain = 0.97

    private func choose(_ operands: Operands, _ shape: MatrixShape) throws(CUDAError) -> Plan {
        let tiling = tiling(operands, rows: shape.rows)
        guard let library, let workspace, source != .own,
            let product = try chosen(library, workspace, operands, shape)
        else { return .own(tiling) }
        guard source == .fastest, Self.ownRows.contains(shape.rows) else { return .library(product) }
        let name = "\(shape)\(operands.gate == nil ? "" : " with gate")"
        let libraryTime = try time { () throws(CUDAError) in
            try run(product, operands, gatedRows: shape.rows, followsKernel: false)
        }
        var best = (tiling: tiling, time: Double.infinity)
        for tiling in GEMMTiling.allCases {
            let seconds = try time { () throws(CUDAError) in
                try runOwn(operands, rows: shape.rows, tiling, followsKernel: false)
            }
            if seconds < best.time { best = (tiling, seconds) }
        }
        var isOwn = best.time < Self.gain * libraryTime
        if isOwn, try !isRight(product, operands, shape, workspace, beside: best.tiling) {
            report("our own kernel in \(best.tiling) tiles and cuBLASLt differ on \(shape); cuBLASLt's is used")
            isOwn = false
        }
        choices.append(
            "\(name): \(isOwn ? "own" : "cuBLASLt"), own \(best.tiling) \(Self.microseconds(best.time)) us, "
                + "cuBLASLt \(Self.microseconds(libraryTime)) us")
        return isOwn ? .own(best.tiling) : .library(product)
    }

    private static func microseconds(_ seconds: Double) -> String {
        let tenths = Int(min(1e9, max(0, seconds * 1e7)))
        return "\(tenths / 10).\(tenths % 10)"
    }

    /// Seconds of one call of `body`: the least of some runs of several calls, because what disturbs a run only lengthens
    /// it. Not during a capture.
    private func time(_ body: () throws(CUDAError) -> Void) throws(CUDAError) -> Double {
        let begin = try CUDAEvent(session.context, measuresTime: true)
        let end = try CUDAEvent(session.context, measuresTime: true)
        // The double's times are nobody's, and take long.
        let (runs, calls) = session.device.driver.isDouble ? (1, 1) : (4, 6)
        try body()
        var least = Double.infinity
        for _ in 0..<runs {
            try session.stream.record(begin)
            for _ in 0..<calls { try body() }
            try session.stream.record(end)
            try end.synchronize()
            least = min(least, try end.seconds(since: begin) / Double(calls))
        }
        return least
    }

    /// The library's product with an algorithm chosen; `nil` if it has none that is right.
    private func chosen(
        _ library: MatrixLibrary, _ workspace: DeviceMemory, _ operands: Operands, _ shape: MatrixShape
    ) throws(CUDAError) -> MatrixProduct? {
        let isTimed = shape.rows >= Self.fewestTimedRows
        let product: MatrixProduct
        do throws(CUDAError) {
            product = try MatrixProduct(
                library, shape, workspaceBytes: workspace.byteCount,
                multiprocessors: session.isPart ? session.multiprocessors : nil,
                count: isChecked ? 8 : isTimed ? 4 : 1)
        } catch {
            guard error.kind == .unsupported else { throw error }
            return nil
        }
        var candidates = product.suggestions
        if isChecked {
            candidates = try rightOnes(product, operands, shape, workspace, atMost: isTimed ? 4 : 1)
            guard let first = candidates.first else {
                refusedCount += 1
                report(
                    "cuBLASLt computes \(shape) wrongly on \(session.multiprocessors) multiprocessors with each "
                        + "of \(product.suggestions.count) algorithms; a slower kernel of our own takes its place")
                return nil
            }
            try product.use(first)
        }
        guard isTimed, candidates.count > 1 else { return product }
        do throws(CUDAError) {
            _ = try product.useFastest(
                of: candidates, weight: operands.weight, input: operands.input, output: operands.output,
                bias: operands.bias, workspace: workspace.address, on: session.stream, repetitions: 2)
        } catch {
            guard error.kind == .unsupported else { throw error }
            return nil
        }
        return product
    }

    /// The first of the library's suggestions that compute a product rightly.
    private func rightOnes(
        _ product: MatrixProduct, _ operands: Operands, _ shape: MatrixShape, _ workspace: DeviceMemory,
        atMost most: Int
    ) throws(CUDAError) -> [MatrixAlgorithm] {
        var right: [MatrixAlgorithm] = []
        for algorithm in product.suggestions where right.count < most {
            do throws(CUDAError) {
                try product.use(algorithm)
                if try isRight(product, operands, shape, workspace) { right.append(algorithm) }
            } catch {
                // What it suggests need not run.
                guard error.kind == .unsupported || error.kind == .invalid else { throw error }
            }
        }
        return right
    }

    /// Compares a product with our own kernel's, on inputs of our own: known wrong under limits of MPS
    /// (Results/gpu-probe/h100-2026-11-26), where parts of outputs are left unwritten and no call fails. It needs no
    /// memory: both write where the step's product will.
    private func isRight(
        _ product: MatrixProduct, _ operands: Operands, _ shape: MatrixShape, _ workspace: DeviceMemory,
        beside tiling: GEMMTiling = .small
    ) throws(CUDAError) -> Bool {
        try session.launch(
            .fillRandom(
                DevicePointer<BFloat16>(address: operands.input), count: shape.rows * shape.inputs, seed: 7, scale: 1))
        let found = try sample(operands, shape) { () throws(CUDAError) in
            try product.run(
                weight: operands.weight, input: operands.input, output: operands.output, bias: operands.bias,
                workspace: workspace.address, on: session.stream)
        }
        let expected = try sample(operands, shape) { () throws(CUDAError) in
            try runPlain(operands, rows: shape.rows, tiling)
        }
        var (difference, size) = (0.0, 0.0)
        for (found, expected) in zip(found, expected) {
            let delta = Double(found - expected)
            difference += delta * delta
            size += Double(expected) * Double(expected)
        }
        // Not a number is not below.
        return difference <= 1e-4 * size
    }

    /// Some rows of every tile of what `body` computes, and the last one: what goes wrong, goes wrong in whole tiles.
    private func sample(
        _ operands: Operands, _ shape: MatrixShape, of body: () throws(CUDAError) -> Void
    ) throws(CUDAError) -> [Float] {
        let rowBytes = shape.outputStride * (operands.writesFloats ? 4 : 2)
        // What is not written stays not a number.
        try session.stream.fill(operands.output, byte: 0xFF, count: shape.rows * rowBytes)
        try body()
        var values: [Float] = []
        for row in Set(stride(from: 0, to: shape.rows, by: max(1, shape.rows / 64))).union([shape.rows - 1]).sorted() {
            values += try floats(operands.output + UInt64(row * rowBytes), shape)
        }
        return values
    }

    /// A row of a product.
    private func floats(_ address: DeviceAddress, _ shape: MatrixShape) throws(CUDAError) -> [Float] {
        switch shape.output {
        case .float32: try session.stream.download(address, count: shape.outputs, as: Float(0))
        case .bfloat16: try session.stream.download(address, count: shape.outputs, as: UInt16(0)).map(Self.float)
        }
    }

    private static func float(_ word: UInt16) -> Float { Float(bitPattern: UInt32(word) << 16) }
}
