// Tandem — Apache-2.0

public import CUDADriver
import CUDAKernels

/// Times of matrix products, and of what stands between kernels.
extension GPUTimes {
    private static let workspaceBytes = DeviceMemoryPlan.workspaceBytes

    private func suffix(_ tiling: GEMMTiling) -> String {
        tiling == .small ? "" : "_\(tiling.rows)x\(tiling.columns)"
    }

    /// A product by cuBLASLt, its first choice and the fastest of eight, and by our own kernels.
    public func product(rows: Int, outputs: Int, inputs: Int) throws(CUDAError) -> [Row] {
        let a = try memory(rows * inputs * 2)
        let w = try memory(outputs * inputs * 2)
        let d = try memory(rows * outputs * 2)
        let sizes = [("rows", rows), ("outputs", outputs), ("inputs", inputs)]
        let operations = 2 * Double(rows) * Double(outputs) * Double(inputs)
        let bytes =
            2 * (Double(rows) * Double(inputs) + Double(outputs) * Double(inputs) + Double(rows) * Double(outputs))
        func row(_ name: String, _ seconds: Double, error: Double? = nil) -> Row {
            Row(name: name, sizes: sizes, seconds: seconds, bytes: bytes, operations: operations, error: error)
        }
        var list: [Row] = []
        var expected: [UInt16] = []
        for tiling in GEMMTiling.allCases {
            let own: KernelLaunch = .gemm(
                a: DevicePointer(address: a.address), aStride: inputs, w: DevicePointer(address: w.address), bias: nil,
                d: DevicePointer<BFloat16>(address: d.address), dStride: outputs, m: rows, n: outputs, k: inputs,
                tiling: tiling)
            try session.launch(own)
            let found = try session.stream.download(d.address, count: rows * outputs, as: UInt16(0))
            if expected.isEmpty { expected = found }
            list.append(
                row(
                    "product_own" + suffix(tiling), try time { () throws(CUDAError) in try session.launch(own) },
                    error: Self.error(found, expected)))
        }
        guard let library else { return list }
        let workspace = try memory(Self.workspaceBytes)
        let product = try MatrixProduct(
            library, MatrixShape(rows: rows, outputs: outputs, inputs: inputs), workspaceBytes: Self.workspaceBytes,
            count: 8)
        func run() throws(CUDAError) {
            try product.run(
                weight: w.address, input: a.address, output: d.address, workspace: workspace.address,
                on: session.stream)
        }
        try session.stream.fill(d.address, byte: 0xFF, count: rows * outputs * 2)
        try run()
        let found = try session.stream.download(d.address, count: rows * outputs, as: UInt16(0))
        list.append(row("product_first", try time(run), error: Self.error(found, expected)))
        try product.useFastest(
            weight: w.address, input: a.address, output: d.address, workspace: workspace.address, on: session.stream)
        list.append(row("product_fastest", try time(run)))
        return list
    }

    private static func error(_ found: [UInt16], _ expected: [UInt16]) -> Double {
        var (difference, size) = (0.0, 0.0)
        for (one, other) in zip(found, expected) {
            let exact = Double(Float(bitPattern: UInt32(other) << 16))
            let delta = Double(Float(bitPattern: UInt32(one) << 16)) - exact
            difference += delta * delta
            size += exact * exact
        }
        return size > 0 ? (difference / size).squareRoot() : 0
    }

    /// The product for gate and up and the gate itself: cuBLASLt's fastest of eight and our gate, and both in one kernel.
    public func gatedProduct(rows: Int, intermediate: Int, inputs: Int) throws(CUDAError) -> [Row] {
        let a = try memory(rows * inputs * 2)
        let w = try memory(2 * intermediate * inputs * 2)
        let d = try memory(rows * 2 * intermediate * 2)
        let y = try memory(rows * intermediate * 2)
        let operations = 4 * Double(rows) * Double(intermediate) * Double(inputs)
        let (left, right, out) = (
            DevicePointer<BFloat16>(address: a.address), DevicePointer<BFloat16>(address: w.address),
            DevicePointer<BFloat16>(address: y.address)
        )
        func row(_ name: String, _ seconds: Double) -> Row {
            Row(
                name: name, sizes: [("rows", rows), ("intermediate", intermediate), ("inputs", inputs)],
                seconds: seconds, bytes: 0, operations: operations)
        }
        var list: [Row] = []
        for tiling in GEMMTiling.allCases {
            let seconds = try time { () throws(CUDAError) in
                try session.launch(
                    .gatedGEMM(
                        .silu, a: left, aStride: inputs, w: right, y: out, m: rows, intermediate: intermediate,
                        k: inputs, tiling: tiling))
            }
            list.append(row("product_gated" + suffix(tiling), seconds))
        }
        guard let library else { return list }
        let workspace = try memory(Self.workspaceBytes)
        let product = try MatrixProduct(
            library, MatrixShape(rows: rows, outputs: 2 * intermediate, inputs: inputs),
            workspaceBytes: Self.workspaceBytes, count: 8)
        try product.useFastest(
            weight: w.address, input: a.address, output: d.address, workspace: workspace.address, on: session.stream)
        let seconds = try time { () throws(CUDAError) in
            try product.run(
                weight: w.address, input: a.address, output: d.address, workspace: workspace.address,
                on: session.stream)
            try session.launch(
                .gate(
                    .silu, gateUp: DevicePointer(address: d.address), y: out, intermediate: intermediate, count: rows))
        }
        list.append(row("product_then_gate", seconds))
        return list
    }

    /// What one more kernel costs that does next to nothing: in a stream, in a graph, and in a graph where it starts before
    /// the one before it has ended.
    public func nodes(count: Int = 64) throws(CUDAError) -> [Row] {
        let hidden = 256
        let residual = try memory(hidden * 4)
        let y = try memory(hidden * 2)
        let launch: KernelLaunch = .addNorm(
            residual: DevicePointer(address: residual.address), x: nil, postWeight: nil, weight: nil,
            y: DevicePointer(address: y.address), hidden: hidden, epsilon: 1e-6, count: 1)
        func row(_ name: String, _ seconds: Double) -> Row {
            Row(name: name, sizes: [("nodes", count)], seconds: seconds / Double(count), bytes: 0, operations: 0)
        }
        var list = [
            row(
                "node_stream",
                try time { () throws(CUDAError) in for _ in 0..<count { try session.launch(launch) } })
        ]
        let graph = try session.stream.capture { () throws(CUDAError) in
            for _ in 0..<count { try session.launch(launch) }
        }
        list.append(row("node_graph", try time { () throws(CUDAError) in try session.stream.launch(graph) }))
        guard session.device.startsKernelsEarly else { return list }
        let early = try session.stream.capture { () throws(CUDAError) in
            try session.launch(launch)
            for _ in 1..<count { try session.launchEarly(launch) }
        }
        list.append(row("node_graph_early", try time { () throws(CUDAError) in try session.stream.launch(early) }))
        return list
    }
}
