// Tandem — Apache-2.0

import Testing

@testable import CUDADriver

/// Puts `y = silu(gate) * up` into the stream, for rows of 8 gates and 8 ups.
private func gate(_ bench: Workbench, _ gateUp: DeviceMemory, _ y: DeviceMemory) throws(CUDAError) {
    var arguments = KernelArguments()
    arguments.append(gateUp.address)
    arguments.append(y.address)
    arguments.append(Int32(8))
    try bench.stream.launch(
        bench.module.function("gated_silu"), LaunchShape(grid: .init(1), block: .init(256)), arguments,
        startsEarly: true)
}

/// Sets bytes, with a kernel that waits for nothing.
private func fill(
    _ bench: Workbench, _ memory: DeviceMemory, _ value: UInt32, startsEarly: Bool = false
) throws(CUDAError) {
    var arguments = KernelArguments()
    arguments.append(memory.address)
    arguments.append(UInt64(memory.byteCount))
    arguments.append(value)
    try bench.stream.launch(
        bench.module.function("fill_bytes"), LaunchShape(grid: .init(1), block: .init(256)), arguments,
        startsEarly: startsEarly)
}

@Test(arguments: orders)
func whatStartsEarlyWaits(_ order: String) throws {
    let bench = try Workbench(["ORDER": order])
    let gateUp = try DeviceMemory(bench.context, byteCount: 32, purpose: "a test")
    let y = try DeviceMemory(bench.context, byteCount: 16, purpose: "a test")
    func result() throws -> Float {
        let words = try bench.stream.download(y.address, count: 8, as: UInt16(0))
        #expect(Set(words).count == 1)
        return Float(bitPattern: UInt32(words[0]) << 16)
    }
    // 0x4040 is 3 and 0x4141 is 12.0625.
    try fill(bench, gateUp, 0x40)
    try gate(bench, gateUp, y)
    #expect(abs(try result() - 8.573) < 0.05)
    // In a graph, and with a chain of them: each reads what the one before it wrote.
    let graph = try bench.stream.capture { () throws(CUDAError) in
        try fill(bench, gateUp, 0x41)
        try gate(bench, gateUp, y)
        try gate(bench, gateUp, y)
        try gate(bench, gateUp, y)
    }
    #expect(graph.nodeCount == 4)
    for _ in 0..<2 {
        try fill(bench, gateUp, 0x40)
        try bench.stream.launch(graph)
        #expect(abs(try result() - 145.5) < 1)
    }
}

@Test func whatStartsEarlyAndNeverWaitsIsAtFault() throws {
    for captures in [false, true] {
        let bench = try Workbench()
        let memory = try DeviceMemory(bench.context, byteCount: 32, purpose: "a test")
        if captures {
            let graph = try bench.stream.capture { () throws(CUDAError) in
                try fill(bench, memory, 1)
                try fill(bench, memory, 2, startsEarly: true)
            }
            try bench.stream.launch(graph)
        } else {
            try fill(bench, memory, 1, startsEarly: true)
        }
        let error = #expect(throws: CUDAError.self) { try bench.stream.synchronize() }
        #expect(error?.code == 719)
    }
}

@Test func olderGPUsAndDriversStartNothingEarly() throws {
    #expect(try Workbench().context.device.startsKernelsEarly)
    #expect(try !Workbench(["DRIVER": "12020"]).context.device.startsKernelsEarly)
    let bench = try Workbench(["CAPABILITY": "8.0"])
    #expect(!bench.context.device.startsKernelsEarly)
    let memory = try DeviceMemory(bench.context, byteCount: 32, purpose: "a test")
    #expect(throws: CUDAError.self) { try fill(bench, memory, 1, startsEarly: true) }
}
