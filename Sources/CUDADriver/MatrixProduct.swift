// Tandem — Apache-2.0

internal import CTandemSystem

/// What a matrix product looks like: `output[rows, outputs] = input[rows, inputs] x weight[outputs, inputs]^T (+ bias)`,
/// all row-major; input, weight and bias bfloat16.
public struct MatrixShape: Sendable, Hashable, CustomStringConvertible {
    public enum Output: Int32, Sendable, Hashable {
        /// `cudaDataType`.
        case float32 = 0
        case bfloat16 = 14
    }

    public var rows: Int
    public var outputs: Int
    public var inputs: Int
    public var output: Output
    /// A bias of `outputs` elements for all rows; only with bfloat16 output.
    public var hasBias: Bool
    /// Elements from one row of the output to the next.
    public var outputStride: Int
    /// Elements from one row of the input to the next.
    public var inputStride: Int

    public init(
        rows: Int, outputs: Int, inputs: Int, output: Output = .bfloat16, hasBias: Bool = false,
        outputStride: Int? = nil, inputStride: Int? = nil
    ) {
        self.rows = rows
        self.outputs = outputs
        self.inputs = inputs
        self.output = output
        self.hasBias = hasBias
        self.outputStride = outputStride ?? outputs
        self.inputStride = inputStride ?? inputs
    }

    /// Multiplications and additions.
    public var operations: Double { 2 * Double(rows) * Double(outputs) * Double(inputs) }

    public var description: String {
        "\(rows)x\(outputs)x\(inputs)\(output == .float32 ? " to float32" : "")\(hasBias ? " with bias" : "")"
    }
}

/// One of cuBLASLt's ways to compute a product. Can be saved: valid for the same shape, GPU and library version.
public struct MatrixAlgorithm: Sendable, Hashable {
    /// Opaque, 8 words.
    public var words: [UInt64]
    public var workspaceBytes: Int
    /// Waves of blocks over the multiprocessors; a little above a whole number means a nearly idle last wave.
    public var waves: Float

    public init(words: [UInt64], workspaceBytes: Int, waves: Float) {
        self.words = words
        self.workspaceBytes = workspaceBytes
        self.waves = waves
    }

    init(_ choice: tandem_cublaslt_choice) {
        self.init(
            words: withUnsafeBytes(of: choice.algorithm) { Array($0.bindMemory(to: UInt64.self)) },
            workspaceBytes: choice.workspace_bytes, waves: choice.waves)
    }

    var value: tandem_cublaslt_algorithm {
        var value = tandem_cublaslt_algorithm()
        withUnsafeMutableBytes(of: &value) { bytes in words.withUnsafeBytes { bytes.copyMemory(from: $0) } }
        return value
    }
}

/// A product of one shape, with the algorithm chosen: make it before a capture, run it as often as wanted. Belongs to
/// one thread at a time.
public final class MatrixProduct {
    public let library: MatrixLibrary
    public let shape: MatrixShape
    /// The library's suggestions, best first; at least one.
    public let suggestions: [MatrixAlgorithm]
    /// The one in use.
    public private(set) var algorithm: MatrixAlgorithm

    private let descriptors: Descriptors
    private var algorithmValue: tandem_cublaslt_algorithm
    /// The bias that the descriptor holds now.
    private var biasAddress: DeviceAddress = 0

    /// - Parameters:
    ///   - workspaceBytes: what ``run(weight:input:output:bias:workspace:on:)`` will get at most.
    ///   - alignment: what all addresses will be multiples of, in bytes; at least 16 for the fast algorithms.
    ///   - multiprocessors: lets it choose for that many; null for all of the device.
    ///   - count: how many suggestions to ask for.
    /// - Throws: `unsupported` if there is no algorithm for this shape.
    public init(
        _ library: MatrixLibrary, _ shape: MatrixShape, workspaceBytes: Int, alignment: Int = 16,
        multiprocessors: Int? = nil, count: Int = 1
    ) throws(CUDAError) {
        guard shape.rows > 0, shape.outputs > 0, shape.inputs > 0, shape.outputStride >= shape.outputs,
            shape.inputStride >= shape.inputs, !(shape.hasBias && shape.output == .float32)
        else { throw CUDAError(kind: .invalid, call: "matrix product \(shape)", detail: "is no valid shape") }
        self.library = library
        self.shape = shape
        descriptors = try Descriptors(library, shape, multiprocessors: multiprocessors)
        if shape.hasBias {
            // Algorithms are chosen for a bias that is there, aligned as promised; it is not read.
            biasAddress = DeviceAddress(max(16, alignment))
            try descriptors.setBias(biasAddress)
        }
        suggestions = try descriptors.suggestions(
            workspaceBytes: workspaceBytes, alignment: alignment, count: max(1, count))
        guard let first = suggestions.first else {
            throw CUDAError(
                kind: .unsupported, call: "cublasLtMatmulAlgoGetHeuristic", detail: "no algorithm for \(shape)",
                remedy: "--deterministic uses kernels of our own")
        }
        algorithm = first
        algorithmValue = first.value
    }

    /// Uses another algorithm: a suggestion, or one saved before.
    ///
    /// - Throws: `unsupported` if it does not fit; nothing changed.
    public func use(_ algorithm: MatrixAlgorithm) throws(CUDAError) {
        guard algorithm.words.count == 8 else {
            throw CUDAError(kind: .unsupported, call: "matrix product \(shape)", detail: "a damaged algorithm")
        }
        try descriptors.check(algorithm)
        self.algorithm = algorithm
        algorithmValue = algorithm.value
    }

    /// Puts the product into a stream. Makes no allocation; can be captured (the addresses are fixed then).
    ///
    /// - Parameters:
    ///   - workspace: of the size that was promised; not shared with work that runs at the same time.
    public func run(
        weight: DeviceAddress, input: DeviceAddress, output: DeviceAddress, bias: DeviceAddress? = nil,
        workspace: DeviceAddress, on stream: CUDAStream
    ) throws(CUDAError) {
        let functions = library.functions
        if shape.hasBias {
            guard let bias else {
                throw CUDAError(kind: .invalid, call: "matrix product \(shape)", detail: "without its bias")
            }
            if bias != biasAddress {
                try descriptors.setBias(bias)
                biasAddress = bias
            }
        }
        var (one, zero): (Float, Float) = (1, 0)
        let status = functions.multiply(
            library.handle, descriptors.product, &one, weight, descriptors.weight, input, descriptors.input, &zero,
            output, descriptors.output, output, descriptors.output, &algorithmValue, workspace,
            algorithm.workspaceBytes, stream.handle)
        try library.check(status, in: stream, "cublasLtMatmul", shape)
    }

    /// Runs algorithms some times and uses the fastest. Not during a capture; the output is overwritten.
    ///
    /// - Parameter candidates: `nil` for all suggestions.
    /// - Returns: seconds of one run with it.
    @discardableResult
    public func useFastest(
        of candidates: [MatrixAlgorithm]? = nil, weight: DeviceAddress, input: DeviceAddress, output: DeviceAddress,
        bias: DeviceAddress? = nil, workspace: DeviceAddress, on stream: CUDAStream, repetitions: Int = 5
    ) throws(CUDAError) -> Double {
        let begin = try CUDAEvent(library.context, measuresTime: true)
        let end = try CUDAEvent(library.context, measuresTime: true)
        var best: (algorithm: MatrixAlgorithm, seconds: Double)?
        for suggestion in candidates ?? suggestions {
            do throws(CUDAError) {
                try use(suggestion)
                try run(weight: weight, input: input, output: output, bias: bias, workspace: workspace, on: stream)
            } catch  where error.kind == .unsupported || error.kind == .invalid {
                continue
            }
            try stream.record(begin)
            for _ in 0..<max(1, repetitions) {
                try run(weight: weight, input: input, output: output, bias: bias, workspace: workspace, on: stream)
            }
            try stream.record(end)
            try end.synchronize()
            let seconds = try end.seconds(since: begin) / Double(max(1, repetitions))
            if seconds < best?.seconds ?? .infinity { best = (suggestion, seconds) }
        }
        guard let best else {
            throw CUDAError(
                kind: .unsupported, call: "cublasLtMatmul", detail: "no suggested algorithm runs \(shape)",
                remedy: "--deterministic uses kernels of our own")
        }
        try use(best.algorithm)
        return best.seconds
    }
}

/// The library's description of a product, given back with the object.
///
/// cuBLASLt is column-major: a row-major [rows, columns] is its [columns, rows]. So the weight is the transposed left
/// factor, the input the right one, and the result comes out row-major.
private final class Descriptors {
    private let library: MatrixLibrary
    private(set) var product: DriverHandle = 0
    private(set) var weight: DriverHandle = 0
    private(set) var input: DriverHandle = 0
    private(set) var output: DriverHandle = 0
    private var functions: MatrixFunctions { library.functions }

    /// `cublasLtMatmulDescAttributes_t`.
    private enum ProductAttribute: Int32 {
        case transposesLeft = 3
        case epilogue = 7
        case biasAddress = 8
        case multiprocessors = 15
    }

    /// `cublasComputeType_t` 68: float32 throughout. `cudaDataType` 0: float32, 14: bfloat16.
    init(_ library: MatrixLibrary, _ shape: MatrixShape, multiprocessors: Int?) throws(CUDAError) {
        self.library = library
        try library.check(functions.productCreate(&product, 68, 0), "cublasLtMatmulDescCreate")
        try set(.transposesLeft, Int32(1))
        // Epilogue 1: none, 4: bias.
        try set(.epilogue, Int32(shape.hasBias ? 4 : 1))
        if let multiprocessors { try set(.multiprocessors, Int32(clamping: multiprocessors)) }
        weight = try layout(14, rows: shape.inputs, columns: shape.outputs, stride: shape.inputs)
        input = try layout(14, rows: shape.inputs, columns: shape.rows, stride: shape.inputStride)
        output = try layout(
            shape.output.rawValue, rows: shape.outputs, columns: shape.rows, stride: shape.outputStride)
    }

    deinit {
        for layout in [weight, input, output] where layout != 0 { _ = functions.layoutDestroy(layout) }
        if product != 0 { _ = functions.productDestroy(product) }
    }

    func setBias(_ address: DeviceAddress) throws(CUDAError) { try set(.biasAddress, address) }

    private func set(_ attribute: ProductAttribute, _ value: some BitwiseCopyable) throws(CUDAError) {
        let status = withUnsafeBytes(of: value) { bytes in
            bytes.baseAddress.map { functions.productSet(product, attribute.rawValue, $0, bytes.count) } ?? 7
        }
        try library.check(status, "cublasLtMatmulDescSetAttribute", "\(attribute)")
    }

    private func layout(_ type: Int32, rows: Int, columns: Int, stride: Int) throws(CUDAError) -> DriverHandle {
        var layout: DriverHandle = 0
        try library.check(
            functions.layoutCreate(&layout, type, UInt64(rows), UInt64(columns), Int64(stride)),
            "cublasLtMatrixLayoutCreate")
        return layout
    }

    func suggestions(workspaceBytes: Int, alignment: Int, count: Int) throws(CUDAError) -> [MatrixAlgorithm] {
        var preference: DriverHandle = 0
        try library.check(functions.preferenceCreate(&preference), "cublasLtMatmulPreferenceCreate")
        defer { _ = functions.preferenceDestroy(preference) }
        var bytes = workspaceBytes
        // `cublasLtMatmulPreferenceAttributes_t` 1: workspace; 5 to 8: alignment of the four matrices.
        try library.check(functions.preferenceSet(preference, 1, &bytes, 8), "cublasLtMatmulPreferenceSetAttribute")
        var multiple = UInt32(clamping: alignment)
        for attribute in Int32(5)...8 {
            try library.check(
                functions.preferenceSet(preference, attribute, &multiple, 4), "cublasLtMatmulPreferenceSetAttribute")
        }
        var choices = [tandem_cublaslt_choice](repeating: tandem_cublaslt_choice(), count: count)
        var found: Int32 = 0
        let status = functions.heuristic(
            library.handle, product, weight, input, output, output, preference, Int32(count), &choices, &found)
        // 15: no algorithm at all.
        guard status != 15 else { return [] }
        try library.check(status, "cublasLtMatmulAlgoGetHeuristic")
        return choices.prefix(max(0, Int(found))).filter { $0.status == 0 && $0.workspace_bytes <= workspaceBytes }
            .map { MatrixAlgorithm($0) }
    }

    func check(_ algorithm: MatrixAlgorithm) throws(CUDAError) {
        var value = algorithm.value
        var result = tandem_cublaslt_choice()
        let status = functions.algorithmCheck(
            library.handle, product, weight, input, output, output, &value, &result)
        guard status == 0, result.status == 0, result.workspace_bytes <= algorithm.workspaceBytes else {
            throw CUDAError(
                kind: .unsupported, call: "cublasLtMatmulAlgoCheck", code: status == 0 ? result.status : status,
                detail: "the algorithm does not fit")
        }
    }
}
