// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels

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

        func shape(rows: Int) -> MatrixShape {
            MatrixShape(
                rows: rows, outputs: outputs, inputs: inputs, output: writesFloats ? .float32 : .bfloat16,
                hasBias: bias != nil, outputStride: outputStride)
        }
    }

    private enum Plan {
        case library(MatrixProduct)
        case own
    }

    private let session: GPUSession
    /// `nil` computes all with kernels of our own, in one order of summation.
    private let library: MatrixLibrary?
    private let workspace: DeviceMemory?
    /// Whether each of the library's products is compared with our own kernel's before it is used.
    private let isChecked: Bool
    private let report: @Sendable (String) -> Void
    private var plans: [MatrixShape: Plan] = [:]
    private var checkMemory: DeviceMemory?
    /// Products that the library computed wrongly and that our own kernel computes now.
    private(set) var refusedCount = 0

    init(
        _ session: GPUSession, library: MatrixLibrary?, workspaceBytes: Int, isChecked: Bool,
        report: @escaping @Sendable (String) -> Void
    ) throws(CUDAError) {
        self.session = session
        self.library = library
        self.isChecked = isChecked
        self.report = report
        workspace =
            library == nil
            ? nil
            : try DeviceMemory(session.context, byteCount: workspaceBytes, purpose: "matrix products")
    }

    /// Chooses an algorithm for a product, if that was not done. Not during a capture: it may run the product, which
    /// overwrites its output.
    func prepare(_ operands: Operands, rows: Int) throws(CUDAError) {
        let shape = operands.shape(rows: rows)
        guard plans[shape] == nil else { return }
        plans[shape] = try choose(operands, shape)
    }

    /// Puts a product into the stream.
    func run(_ operands: Operands, rows: Int) throws(CUDAError) {
        let shape = operands.shape(rows: rows)
        if plans[shape] == nil { plans[shape] = try choose(operands, shape) }
        guard case .library(let product)? = plans[shape], let workspace else {
            return try runOwn(operands, rows: rows)
        }
        try product.run(
            weight: operands.weight, input: operands.input, output: operands.output, bias: operands.bias,
            workspace: workspace.address, on: session.stream)
    }

    private func runOwn(_ operands: Operands, rows: Int, output: DeviceAddress? = nil) throws(CUDAError) {
        let a = DevicePointer<BFloat16>(address: operands.input)
        let w = DevicePointer<BFloat16>(address: operands.weight)
        let bias = operands.bias.map { DevicePointer<BFloat16>(address: $0) }
        let address = output ?? operands.output
        let launch: KernelLaunch =
            operands.writesFloats
            ? .gemm(
                a: a, aStride: operands.inputs, w: w, bias: bias, d: DevicePointer<Float>(address: address),
                dStride: operands.outputStride, m: rows, n: operands.outputs, k: operands.inputs)
            : .gemm(
                a: a, aStride: operands.inputs, w: w, bias: bias, d: DevicePointer<BFloat16>(address: address),
                dStride: operands.outputStride, m: rows, n: operands.outputs, k: operands.inputs)
        try session.launch(launch)
    }

    /// From so many rows on the library's suggestions are timed. Below, weights come from memory, which a measurement
    /// that repeats a product on one matrix does not show.
    private static let fewestTimedRows = 193

    private func choose(_ operands: Operands, _ shape: MatrixShape) throws(CUDAError) -> Plan {
        guard let library, let workspace else { return .own }
        let isTimed = shape.rows >= Self.fewestTimedRows
        let product: MatrixProduct
        do throws(CUDAError) {
            product = try MatrixProduct(
                library, shape, workspaceBytes: workspace.byteCount,
                multiprocessors: session.isPart ? session.multiprocessors : nil,
                count: isChecked ? 8 : isTimed ? 4 : 1)
        } catch {
            guard error.kind == .unsupported else { throw error }
            return .own
        }
        var candidates = product.suggestions
        if isChecked {
            candidates = try rightOnes(product, operands, shape, workspace, atMost: isTimed ? 4 : 1)
            guard let first = candidates.first else {
                refusedCount += 1
                report(
                    "cuBLASLt computes \(shape) wrongly on \(session.multiprocessors) multiprocessors with each "
                        + "of \(product.suggestions.count) algorithms; a slower kernel of our own takes its place")
                return .own
            }
            try product.use(first)
        }
        guard isTimed, candidates.count > 1 else { return .library(product) }
        do throws(CUDAError) {
            _ = try product.useFastest(
                of: candidates, weight: operands.weight, input: operands.input, output: operands.output,
                bias: operands.bias, workspace: workspace.address, on: session.stream, repetitions: 2)
        } catch {
            guard error.kind == .unsupported else { throw error }
            return .own
        }
        return .library(product)
    }

    /// The first of the library's suggestions that compute a product rightly.
    private func rightOnes(
        _ product: MatrixProduct, _ operands: Operands, _ shape: MatrixShape, _ workspace: DeviceMemory,
        atMost most: Int
    ) throws(CUDAError) -> [MatrixAlgorithm] {
        var right: [MatrixAlgorithm] = []
        for algorithm in product.suggestions where right.count < most {
            try product.use(algorithm)
            if try isRight(product, operands, shape, workspace) { right.append(algorithm) }
        }
        return right
    }

    /// Compares a product with our own kernel's, on inputs of our own: known wrong under limits of MPS
    /// (Results/gpu-probe/h100-2026-11-26), where parts of outputs are left unwritten and no call fails.
    private func isRight(
        _ product: MatrixProduct, _ operands: Operands, _ shape: MatrixShape, _ workspace: DeviceMemory
    ) throws(CUDAError) -> Bool {
        let elementBytes = operands.writesFloats ? 4 : 2
        let count = shape.rows * shape.outputStride
        let inputBytes = roundedUp(shape.rows * shape.inputs * 2, to: 256)
        let outputBytes = roundedUp(count * elementBytes, to: 256)
        if checkMemory?.byteCount ?? 0 < inputBytes + 2 * outputBytes {
            try session.stream.synchronize()
            checkMemory = nil
            checkMemory = try DeviceMemory(
                session.context, byteCount: inputBytes + 2 * outputBytes, purpose: "the check of matrix products")
        }
        guard let base = checkMemory?.address else { return false }
        var checked = operands
        checked.input = base
        checked.output = base + UInt64(inputBytes)
        let own = checked.output + UInt64(outputBytes)
        try session.launch(
            .fillRandom(DevicePointer<BFloat16>(address: base), count: inputBytes / 2, seed: 7, scale: 1))
        // What is not written stays not a number.
        try session.stream.fill(checked.output, byte: 0xFF, count: 2 * outputBytes)
        try product.run(
            weight: checked.weight, input: checked.input, output: checked.output, bias: checked.bias,
            workspace: workspace.address, on: session.stream)
        try runOwn(checked, rows: shape.rows, output: own)
        var (difference, size) = (0.0, 0.0)
        // Some rows of every tile, and the last one: what goes wrong, goes wrong in whole tiles.
        for row in Set(stride(from: 0, to: shape.rows, by: max(1, shape.rows / 64))).union([shape.rows - 1]) {
            let offset = UInt64(row * shape.outputStride * elementBytes)
            let found = try floats(checked.output + offset, shape)
            let expected = try floats(own + offset, shape)
            for (found, expected) in zip(found, expected) {
                let delta = Double(found - expected)
                difference += delta * delta
                size += Double(expected) * Double(expected)
            }
        }
        // Not a number is not below.
        return difference <= 1e-4 * size
    }

    /// A row of a product.
    private func floats(_ address: DeviceAddress, _ shape: MatrixShape) throws(CUDAError) -> [Float] {
        switch shape.output {
        case .float32: try session.stream.download(address, count: shape.outputs, as: Float(0))
        case .bfloat16: try session.stream.download(address, count: shape.outputs, as: UInt16(0)).map(Self.float)
        }
    }

    private static func float(_ word: UInt16) -> Float { Float(bitPattern: UInt32(word) << 16) }

    /// Gives back what only choosing takes.
    func finishChoosing() throws(CUDAError) {
        guard checkMemory != nil else { return }
        try session.stream.synchronize()
        checkMemory = nil
    }
}
