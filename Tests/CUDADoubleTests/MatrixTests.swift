// Tandem — Apache-2.0

import TestSupport
import Testing

@testable import CUDADriver

/// A product, its operands on the device, and its result in float64.
private struct MatrixCase {
    let bench: Workbench
    let library: MatrixLibrary
    let shape: MatrixShape
    let input: DeviceMemory
    let weight: DeviceMemory
    let bias: DeviceMemory
    let output: DeviceMemory
    let workspace: DeviceMemory
    var expected: [Double] = []
    private var inputs: [UInt16] = []

    init(_ shape: MatrixShape, bench: Workbench? = nil) throws {
        let bench = try bench ?? Workbench()
        self.bench = bench
        self.shape = shape
        library = try MatrixLibrary(bench.context, environment: bench.library.environment)
        var generator = SeededGenerator(seed: 7)
        func values(_ count: Int) -> [UInt16] {
            (0..<count).map { _ in narrowed(.random(in: -1...1, using: &generator)) }
        }
        let (x, w) = (values(shape.rows * shape.inputStride), values(shape.outputs * shape.inputs))
        let b = values(shape.outputs)
        func memory(_ values: [UInt16]) throws -> DeviceMemory {
            let memory = try DeviceMemory(bench.context, byteCount: values.count * 2, purpose: "a test")
            try bench.stream.upload(values, to: memory.address)
            return memory
        }
        (input, weight, bias) = (try memory(x), try memory(w), try memory(b))
        output = try DeviceMemory(
            bench.context, byteCount: shape.rows * shape.outputStride * (shape.output == .float32 ? 4 : 2),
            purpose: "a test")
        workspace = try DeviceMemory(bench.context, byteCount: 1 << 20, purpose: "a test")
        inputs = x
        for row in 0..<shape.rows {
            for n in 0..<shape.outputs {
                var sum = shape.hasBias ? Double(widened(b[n])) : 0
                for k in 0..<shape.inputs {
                    sum += Double(widened(x[row * shape.inputStride + k])) * Double(widened(w[n * shape.inputs + k]))
                }
                expected.append(sum)
            }
        }
    }

    func run(_ product: MatrixProduct) throws {
        try product.run(
            weight: weight.address, input: input.address, output: output.address,
            bias: shape.hasBias ? bias.address : nil, workspace: workspace.address, on: bench.stream)
    }

    /// The result in rows without what lies between them, and that which does.
    func result() throws -> (values: [Float], between: [Float]) {
        let count = shape.rows * shape.outputStride
        let all =
            shape.output == .float32
            ? try bench.stream.download(output.address, count: count, as: Float(0))
            : try bench.stream.download(output.address, count: count, as: UInt16(0)).map { widened($0) }
        let isValue = all.indices.map { $0 % shape.outputStride < shape.outputs }
        return (
            zip(all, isValue).filter(\.1).map(\.0), zip(all, isValue).filter { !$0.1 }.map(\.0)
        )
    }
}

private func narrowed(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    return UInt16((bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
}

private func widened(_ value: UInt16) -> Float { Float(bitPattern: UInt32(value) << 16) }

@Test(arguments: [
    MatrixShape(rows: 1, outputs: 8, inputs: 8),
    MatrixShape(rows: 5, outputs: 33, inputs: 72, hasBias: true),
    MatrixShape(rows: 3, outputs: 20, inputs: 104, output: .float32, outputStride: 24),
    MatrixShape(rows: 17, outputs: 9, inputs: 40, inputStride: 56),
])
func aProductIsThatOfFloat64(_ shape: MatrixShape) throws {
    let example = try MatrixCase(shape)
    let product = try MatrixProduct(example.library, shape, workspaceBytes: 1 << 20, count: 8)
    #expect(product.suggestions.count == 3)
    for suggestion in product.suggestions {
        try example.bench.stream.fill(
            example.output.address, byte: 0xFF, count: example.output.byteCount)
        try product.use(suggestion)
        try example.run(product)
        let (values, between) = try example.result()
        for (value, expected) in zip(values, example.expected) {
            let tolerance = shape.output == .float32 ? 1e-4 : 0.004 * abs(expected) + 1e-4
            #expect(abs(Double(value) - expected) <= tolerance)
        }
        #expect(values.count == example.expected.count)
        // Rows end where they should.
        #expect(between.allSatisfy { $0.isNaN })
    }
}

@Test func aRowsResultDoesNotDependOnTheOthers() throws {
    let many = MatrixShape(rows: 9, outputs: 16, inputs: 136, output: .float32)
    let example = try MatrixCase(many)
    try example.run(MatrixProduct(example.library, many, workspaceBytes: 0))
    let all = try example.result().values
    var one = many
    one.rows = 1
    let product = try MatrixProduct(example.library, one, workspaceBytes: 0)
    for row in 0..<9 {
        try product.run(
            weight: example.weight.address, input: example.input.address + UInt64(row * 136 * 2),
            output: example.output.address, workspace: example.workspace.address, on: example.bench.stream)
        let values = try example.bench.stream.download(example.output.address, count: 16, as: Float(0))
        #expect(values == Array(all[row * 16..<(row + 1) * 16]))
    }
}

@Test func aProductIsCaptured() throws {
    let shape = MatrixShape(rows: 2, outputs: 8, inputs: 16, hasBias: true)
    let example = try MatrixCase(shape)
    let product = try MatrixProduct(example.library, shape, workspaceBytes: 0)
    let graph = try example.bench.stream.capture { () throws(CUDAError) in
        try product.run(
            weight: example.weight.address, input: example.input.address, output: example.output.address,
            bias: example.bias.address, workspace: example.workspace.address, on: example.bench.stream)
    }
    #expect(try example.result().values.allSatisfy { $0.isNaN })
    try example.bench.stream.launch(graph)
    let values = try example.result().values
    for (value, expected) in zip(values, example.expected) { #expect(abs(Double(value) - expected) < 0.05) }
}

@Test func algorithmsMustBeChosenBeforeACapture() throws {
    let example = try MatrixCase(MatrixShape(rows: 1, outputs: 8, inputs: 8))
    #expect(throws: CUDAError.self) {
        _ = try example.bench.stream.capture { () throws(CUDAError) in
            _ = try MatrixProduct(example.library, example.shape, workspaceBytes: 0)
        }
    }
}

@Test func theFastestIsUsedAndCanBeSaved() throws {
    let shape = MatrixShape(rows: 4, outputs: 64, inputs: 64)
    let example = try MatrixCase(shape)
    let product = try MatrixProduct(example.library, shape, workspaceBytes: 1 << 20, count: 8)
    let seconds = try product.useFastest(
        weight: example.weight.address, input: example.input.address, output: example.output.address,
        workspace: example.workspace.address, on: example.bench.stream)
    #expect(seconds >= 0)
    #expect(product.suggestions.contains(product.algorithm))
    let again = try MatrixProduct(example.library, shape, workspaceBytes: 1 << 20)
    try again.use(product.algorithm)
    #expect(again.algorithm == product.algorithm)
    // Damaged ones are refused, and nothing changes.
    var damaged = product.algorithm
    damaged.words[0] ^= 1
    #expect(throws: CUDAError.self) { try again.use(damaged) }
    damaged.words = []
    #expect(throws: CUDAError.self) { try again.use(damaged) }
    #expect(again.algorithm == product.algorithm)
}

@Test func shapesThatCannotBeAreRefused() throws {
    let example = try MatrixCase(MatrixShape(rows: 1, outputs: 8, inputs: 8))
    let shapes = [
        MatrixShape(rows: 0, outputs: 8, inputs: 8), MatrixShape(rows: 1, outputs: 8, inputs: 8, outputStride: 7),
        MatrixShape(rows: 1, outputs: 8, inputs: 8, output: .float32, hasBias: true),
        // Not whole groups of 16 bytes: cuBLASLt has no fast way, the double none.
        MatrixShape(rows: 1, outputs: 8, inputs: 9),
    ]
    for shape in shapes {
        #expect(throws: CUDAError.self) { try MatrixProduct(example.library, shape, workspaceBytes: 0) }
    }
    let biased = MatrixShape(rows: 1, outputs: 8, inputs: 8, hasBias: true)
    let product = try MatrixProduct(example.library, biased, workspaceBytes: 0)
    let error = #expect(throws: CUDAError.self) {
        try product.run(
            weight: example.weight.address, input: example.input.address, output: example.output.address,
            workspace: example.workspace.address, on: example.bench.stream)
    }
    #expect(error?.kind == .invalid)
}

@Test func aProductBeyondItsMemoryEndsTheContext() throws {
    let example = try MatrixCase(MatrixShape(rows: 1, outputs: 8, inputs: 8))
    let larger = try MatrixProduct(
        example.library, MatrixShape(rows: 2, outputs: 8, inputs: 8), workspaceBytes: 0)
    try example.run(larger)
    let error = #expect(throws: CUDAError.self) { try example.bench.stream.synchronize() }
    #expect(error?.code == 700)
}

@Test func faultsOfTheLibraryAreTold() throws {
    let example = try MatrixCase(MatrixShape(rows: 1, outputs: 8, inputs: 8))
    try example.bench.library.planFaults("algorithm=15,multiply:2=13")
    let missing = #expect(throws: CUDAError.self) {
        try MatrixProduct(example.library, example.shape, workspaceBytes: 0)
    }
    #expect(missing?.kind == .unsupported)
    #expect(missing?.remedy.contains("--deterministic") == true)
    let product = try MatrixProduct(example.library, example.shape, workspaceBytes: 0)
    try example.run(product)
    let failed = #expect(throws: CUDAError.self) { try example.run(product) }
    #expect(failed?.code == 13)
    #expect(failed?.name == "CUBLAS_STATUS_EXECUTION_FAILED")
    #expect(failed?.losesContext == false)
    // Of a lost context the driver's own word is passed on.
    try example.bench.stray()
    #expect(throws: CUDAError.self) { try example.bench.stream.synchronize() }
    let lost = #expect(throws: CUDAError.self) { try example.run(product) }
    #expect(lost?.code == 700)
    #expect(lost?.call == "cublasLtMatmul")
}
