// Tandem — Apache-2.0

import Glibc
import Testing

@testable import CUDADriver

@Test func aDeviceTellsWhatItIs() throws {
    let library = try DoubleLibrary([
        "NAME": "A GPU", "CAPABILITY": "8.6", "MULTIPROCESSORS": "56", "MEMORY_MIB": "64", "MPS": "1",
        "UUID": "00112233445566778899aabbccddeeff",
    ])
    let driver = try library.driver()
    #expect(driver.isDouble)
    #expect(driver.path == library.path)
    #expect(driver.version == CUDAVersion(major: 13, minor: 0))
    let device = try driver.device(.index(0))
    #expect(device.name == "A GPU")
    #expect(device.uuid == "GPU-00112233-4455-6677-8899-aabbccddeeff")
    #expect(device.computeCapability == ComputeCapability(major: 8, minor: 6))
    #expect(device.multiprocessors == 56)
    #expect(device.memoryBytes == 64 << 20)
    #expect(device.usesMPS)
    #expect(device.hasVirtualMemory)
    try device.requireSupport()
}

@Test func devicesAreFoundByIndexAndUUID() throws {
    let driver = try DoubleLibrary(["DEVICES": "2"]).driver()
    let devices = try driver.devices()
    #expect(devices.count == 2)
    #expect(try driver.device(.uuid(devices[1].uuid)).index == 1)
    #expect(throws: CUDAError.self) { try driver.device(.index(2)) }
    // Both begin so.
    let error = #expect(throws: CUDAError.self) { try driver.device(.uuid("GPU-")) }
    #expect(error?.description.contains(devices[0].uuid) == true)
}

@Test func anOldGPUIsRefused() throws {
    let device = try DoubleLibrary(["CAPABILITY": "7.5"]).driver().device(.index(0))
    let error = #expect(throws: CUDAError.self) { try device.requireSupport() }
    #expect(error?.kind == .unsupported)
    #expect(error?.description.contains("7.5") == true)
}

@Test func anOldDriverIsRefused() throws {
    let library = try DoubleLibrary(["DRIVER": "11080"])
    let error = #expect(throws: CUDAError.self) { try library.driver() }
    #expect(error?.kind == .unsupported)
    #expect(error?.description.contains("11.8") == true)
}

@Test func aMachineWithoutGPUIsSaidToBeOne() throws {
    let library = try DoubleLibrary(["DEVICES": "0"])
    let error = #expect(throws: CUDAError.self) { try library.driver() }
    #expect(error?.kind == .missing)
    #expect(error?.code == 100)
}

@Test(arguments: [805, 806, 807, 808, 809, 810] as [Int32])
func refusalsOfMPSPass(_ code: Int32) throws {
    let library = try DoubleLibrary(["FAULT": "init=\(code)"])
    let error = #expect(throws: CUDAError.self) { try library.driver() }
    #expect(error?.kind == .mps)
    #expect(error?.code == code)
    // It was for one call.
    _ = try library.driver()
}

@Test func aContextThatIsRefusedIsNotHeld() throws {
    let library = try DoubleLibrary(["FAULT": "context=46"])
    let device = try library.driver().device(.index(0))
    let error = #expect(throws: CUDAError.self) { try CUDAContext(device) }
    #expect(error?.kind == .retry)
    let context = try CUDAContext(device)
    #expect(try context.memory().total == 1024 << 20)
    #expect(context.streamPriorities == -5...0)
}

@Test func aFaultReachesAllClientsOfAServer() throws {
    // The file is in the folder of the first.
    let first = try DoubleLibrary()
    let group = ["MPS_GROUP": first.path + ".group"]
    defer { unlink(first.path + ".group") }
    let (culprit, other) = (try Workbench(group), try Workbench(group))
    #expect(other.context.device.usesMPS)
    try culprit.context.makeCurrent()
    try culprit.stray()
    #expect(throws: CUDAError.self) { try culprit.stream.synchronize() }
    try other.context.makeCurrent()
    let error = #expect(throws: CUDAError.self) { try other.stream.synchronize() }
    #expect(error?.code == 700)
    // Nobody is let in while they are there.
    let refused = #expect(throws: CUDAError.self) { try DoubleLibrary(group).driver() }
    #expect(refused?.code == 807)
    // Without the group nothing is known of it.
    _ = try first.driver()
}

@Test func whatHangsIsEndedByAFaultOfAnotherClient() throws {
    let first = try DoubleLibrary()
    let group = ["MPS_GROUP": first.path + ".group"]
    defer { unlink(first.path + ".group") }
    let (stuck, culprit) = (try Workbench(group), try Workbench(group))
    try stuck.context.makeCurrent()
    let memory = try stuck.memory([1])
    let event = try CUDAEvent(stuck.context)
    try stuck.library.planFaults("launch=hang")
    try stuck.scale(memory.address, by: 2, count: 1)
    try stuck.stream.record(event)
    #expect(try !event.isReached())
    try culprit.context.makeCurrent()
    try culprit.stray()
    #expect(throws: CUDAError.self) { try culprit.stream.synchronize() }
    try stuck.context.makeCurrent()
    let error = #expect(throws: CUDAError.self) { try stuck.stream.synchronize() }
    #expect(error?.code == 700)
    #expect(try stuck.library.counter("kernel_count") == 0)
}

@Test func nothingIsLeft() throws {
    let bench = try Workbench()
    let before = try bench.library.counter("live_objects")
    do {
        let memory = try bench.memory([1, 2, 3])
        let pinned = try PinnedMemory(bench.context, byteCount: 100, purpose: "a test")
        let virtual = try VirtualMemory(bench.context, capacity: 16 << 20)
        try virtual.grow(by: 3 << 20, purpose: "a test")
        let event = try CUDAEvent(bench.context)
        let other = try CUDAStream(bench.context, priority: -100)
        let graph = try other.capture { () throws(CUDAError) in
            try bench.scale(memory.address, by: 2, count: 3, on: other)
        }
        try other.launch(graph)
        try other.record(event)
        try event.synchronize()
        let matrices = try MatrixLibrary(bench.context, environment: bench.library.environment)
        _ = try MatrixProduct(matrices, MatrixShape(rows: 1, outputs: 8, inputs: 8), workspaceBytes: 0)
        #expect(try bench.library.counter("live_objects") > before)
        #expect(pinned.bytes.count == 100)
        #expect(graph.nodeCount == 1)
        #expect(virtual.byteCount == 4 << 20)
    }
    #expect(try bench.library.counter("live_objects") == before)
    #expect(try bench.library.counter("memory_in_use") == 0)
}
