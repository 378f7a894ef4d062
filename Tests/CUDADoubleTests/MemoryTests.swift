// Tandem — Apache-2.0

import Glibc
import Testing

@testable import CUDADriver

@Test(arguments: orders)
func copiesArriveAndFreshMemoryIsGarbage(_ order: String) throws {
    let bench = try Workbench(["ORDER": order])
    let memory = try DeviceMemory(bench.context, byteCount: 40, purpose: "a test")
    #expect(memory.address % 256 == 0)
    let fresh = try bench.stream.download(memory.address, count: 40, as: UInt8(0))
    #expect(fresh.allSatisfy { $0 == 0xFF })
    try bench.stream.upload([Int32](0..<10), to: memory.address)
    #expect(try bench.stream.download(memory.address + 8, count: 3, as: Int32(0)) == [2, 3, 4])
    try bench.stream.fill(memory.address, word: 7, count: 2)
    try bench.stream.fill(memory.address + 8, byte: 1, count: 4)
    try bench.stream.copy(from: memory.address, to: memory.address + 20, byteCount: 12)
    #expect(
        try bench.stream.download(memory.address, count: 10, as: Int32(0)) == [
            7, 7, 0x0101_0101, 3, 4, 7, 7, 0x0101_0101, 8, 9,
        ])
}

@Test func largeMemoryIsGarbageToo() throws {
    let bench = try Workbench()
    let memory = try DeviceMemory(bench.context, byteCount: 5 << 20, purpose: "a test")
    for offset in [0, 1 << 20, (5 << 20) - 4] as [UInt64] {
        #expect(try bench.stream.download(memory.address + offset, count: 4, as: UInt8(0)) == [255, 255, 255, 255])
    }
}

@Test(arguments: orders)
func aCopyBeyondTheEndEndsTheContext(_ order: String) throws {
    let bench = try Workbench(["ORDER": order])
    let memory = try DeviceMemory(bench.context, byteCount: 40, purpose: "a test")
    let error = #expect(throws: CUDAError.self) {
        try bench.stream.upload([UInt8](repeating: 0, count: 41), to: memory.address)
    }
    #expect(error?.code == 700)
    #expect(error?.losesContext == true)
    // For good.
    let later = #expect(throws: CUDAError.self) {
        try DeviceMemory(bench.context, byteCount: 4, purpose: "a test")
    }
    #expect(later?.code == 700)
}

@Test func aCopyToNowhereEndsTheContext() throws {
    let bench = try Workbench()
    let error = #expect(throws: CUDAError.self) { try bench.stream.download(4096, count: 1, as: UInt8(0)) }
    #expect(error?.code == 700)
}

@Test func aKernelThatStraysEndsTheContext() throws {
    let bench = try Workbench()
    try bench.stray()
    let error = #expect(throws: CUDAError.self) { try bench.stream.synchronize() }
    #expect(error?.code == 700)
    #expect(throws: CUDAError.self) { try bench.context.synchronize() }
}

@Test func whatIsWrittenBehindAnAllocationIsNoticed() throws {
    let bench = try Workbench()
    let memory = try bench.memory([Float](repeating: 1, count: 12))
    let sum = try bench.memory([Float](repeating: 0, count: 10))
    // 12 floats into room for 10: within the page, so that no GPU would notice.
    try bench.add(memory.address, memory.address, to: sum.address, count: 12)
    try bench.stream.synchronize()
    #expect(try bench.stream.download(sum.address, count: 1, as: Float(0)) == [2])
    #expect(bench.context.functions.free(sum.address) == 700)
}

@Test func shortageTellsTheNumbers() throws {
    let library = try DoubleLibrary(["MEMORY_MIB": "8"])
    let context = try library.context()
    let first = try DeviceMemory(context, byteCount: 6 << 20, purpose: "weights")
    let error = #expect(throws: CUDAError.self) {
        try DeviceMemory(context, byteCount: 4 << 20, purpose: "keys and values")
    }
    #expect(error?.kind == .outOfMemory)
    #expect(error?.detail == "4 MiB for keys and values, 2 of 8 MiB are free")
    #expect(try context.memory().free == 2 << 20)
    #expect(first.byteCount == 6 << 20)
    // Nothing is lost: a smaller piece fits.
    _ = try DeviceMemory(context, byteCount: 2 << 20, purpose: "keys and values")
}

@Test func theNthAllocationFailsAsPlanned() throws {
    let bench = try Workbench(["FAULT": "allocate:2=2"])
    _ = try bench.memory([1])
    let error = #expect(throws: CUDAError.self) { try bench.memory([1]) }
    #expect(error?.kind == .outOfMemory)
    _ = try bench.memory([1])
}

@Test func virtualMemoryGrowsInPlace() throws {
    let bench = try Workbench()
    let memory = try VirtualMemory(bench.context, capacity: 7 << 20)
    #expect(memory.capacity == 8 << 20)
    #expect(memory.granularity == 2 << 20)
    try memory.grow(by: 1, purpose: "a test")
    try bench.stream.upload([Int32](0..<100), to: memory.address)
    try memory.grow(by: 3 << 20, purpose: "a test")
    #expect(memory.byteCount == 6 << 20)
    #expect(try bench.stream.download(memory.address + 396, count: 1, as: Int32(0)) == [99])
    // Across the border of two pieces.
    try bench.stream.upload([UInt8](repeating: 5, count: 100), to: memory.address + (2 << 20) - 50)
    #expect(throws: CUDAError.self) { try memory.grow(by: 4 << 20, purpose: "a test") }
    try memory.shrink(to: 1)
    #expect(memory.byteCount == 2 << 20)
    #expect(try bench.stream.download(memory.address + (2 << 20) - 1, count: 1, as: UInt8(0)) == [5])
    let error = #expect(throws: CUDAError.self) {
        try bench.stream.download(memory.address + (2 << 20), count: 1, as: UInt8(0))
    }
    #expect(error?.code == 700)
}

@Test func growthThatFailsChangesNothing() throws {
    let library = try DoubleLibrary(["MEMORY_MIB": "6"])
    let context = try library.context()
    let memory = try VirtualMemory(context, capacity: 64 << 20)
    try memory.grow(by: 4 << 20, purpose: "a test")
    let error = #expect(throws: CUDAError.self) { try memory.grow(by: 4 << 20, purpose: "a test") }
    #expect(error?.kind == .outOfMemory)
    #expect(memory.byteCount == 4 << 20)
    try memory.grow(by: 2 << 20, purpose: "a test")
}

@Test func aDeviceWithoutVirtualMemorySaysSo() throws {
    let context = try DoubleLibrary(["VIRTUAL_MEMORY": "0"]).context()
    #expect(!context.device.hasVirtualMemory)
    let error = #expect(throws: CUDAError.self) { try VirtualMemory(context, capacity: 1) }
    #expect(error?.kind == .unsupported)
}

@Test func memoryIsSharedByDescriptor() throws {
    // Two doubles are two processes.
    let (owner, user) = (try Workbench(), try Workbench())
    try owner.context.makeCurrent()
    let descriptor: Int32
    let source = try VirtualMemory(owner.context, capacity: 2 << 20)
    do {
        let physical = try PhysicalMemory(owner.context, byteCount: 100, isShared: true, purpose: "weights")
        try source.append(physical, isWritable: true)
        descriptor = try physical.descriptor()
    }
    defer { close(descriptor) }
    try owner.stream.upload([Float](arrayLiteral: 1, 2, 3), to: source.address)

    try user.context.makeCurrent()
    let target = try VirtualMemory(user.context, capacity: 4 << 20)
    try target.append(
        PhysicalMemory(user.context, descriptor: descriptor, byteCount: source.byteCount), isWritable: false)
    #expect(try user.stream.download(target.address, count: 3, as: Float(0)) == [1, 2, 3])
    #expect(try user.library.counter("memory_in_use") == 0)
    // It may only read.
    let error = #expect(throws: CUDAError.self) { try user.stream.upload([Float(0)], to: target.address) }
    #expect(error?.code == 700)
    // The owner does not suffer from it.
    try owner.context.makeCurrent()
    #expect(try owner.stream.download(source.address, count: 1, as: Float(0)) == [1])
}

@Test func withoutDescriptorsSharingSaysSo() throws {
    let context = try DoubleLibrary(["DESCRIPTORS": "0"]).context()
    #expect(!context.device.sharesByDescriptor)
    let error = #expect(throws: CUDAError.self) {
        _ = try PhysicalMemory(context, byteCount: 100, isShared: true, purpose: "weights")
    }
    #expect(error?.kind == .unsupported)
}

@Test func memoryIsSharedByHandle() throws {
    let (owner, user) = (try Workbench(), try Workbench())
    try owner.context.makeCurrent()
    let memory = try owner.memory([1, 2, 3])
    let handle = try #require(try ForeignMemory.Handle(bytes: memory.exported().bytes))
    // Not in the same process.
    #expect(throws: CUDAError.self) { try ForeignMemory(owner.context, handle) }
    try user.context.makeCurrent()
    let foreign = try ForeignMemory(user.context, handle)
    #expect(try user.stream.download(foreign.address, count: 3, as: Float(0)) == [1, 2, 3])
    try user.stream.upload([Float(4)], to: foreign.address)
    try owner.context.makeCurrent()
    #expect(try owner.stream.download(memory.address, count: 3, as: Float(0)) == [4, 2, 3])
    #expect(ForeignMemory.Handle(bytes: [1, 2]) == nil)
    #expect(throws: CUDAError.self) {
        try ForeignMemory(owner.context, try #require(ForeignMemory.Handle(bytes: [UInt8](repeating: 0, count: 64))))
    }
}
