// Tandem — Apache-2.0

import Testing

@testable import CUDADriver

@Test(arguments: orders)
func workRunsInOrder(_ order: String) throws {
    let bench = try Workbench(["ORDER": order])
    let memory = try bench.memory([1, 2, 3])
    let sum = try DeviceMemory(bench.context, byteCount: 12, purpose: "a test")
    try bench.scale(memory.address, by: 3, count: 3)
    try bench.add(memory.address, memory.address, to: sum.address, count: 3)
    try bench.scale(memory.address, by: 0, count: 3)
    #expect(try bench.stream.download(sum.address, count: 3, as: Float(0)) == [6, 12, 18])
    #expect(try bench.library.counter("kernel_count") == 3)
}

@Test func aMissingWaitShows() throws {
    let bench = try Workbench(["ORDER": "lazy"])
    let memory = try bench.memory([1, 2, 3])
    let pinned = try PinnedMemory(bench.context, byteCount: 12, purpose: "a test")
    try bench.scale(memory.address, by: 2, count: 3)
    try bench.stream.copy(from: memory.address, to: pinned.bytes)
    // Nothing has run as yet.
    #expect(pinned.bytes.allSatisfy { $0 == 0 })
    try bench.stream.synchronize()
    #expect(Array(pinned.bytes.bindMemory(to: Float.self)) == [2, 4, 6])
}

@Test func pinnedMemoryIsReadWhenTheCopyRuns() throws {
    let bench = try Workbench(["ORDER": "lazy"])
    let memory = try DeviceMemory(bench.context, byteCount: 4, purpose: "a test")
    let pinned = try PinnedMemory(bench.context, byteCount: 4, purpose: "a test")
    pinned.bytes.storeBytes(of: 1, as: Int32.self)
    try bench.stream.copy(from: UnsafeRawBufferPointer(pinned.bytes), to: memory.address)
    // Too early.
    pinned.bytes.storeBytes(of: 2, as: Int32.self)
    #expect(try bench.stream.download(memory.address, count: 1, as: Int32(0)) == [2])
}

@Test(arguments: orders)
func eventsTellHowFarAStreamIs(_ order: String) throws {
    let bench = try Workbench(["ORDER": order])
    let memory = try bench.memory([1])
    let (begin, end) = (
        try CUDAEvent(bench.context, measuresTime: true), try CUDAEvent(bench.context, measuresTime: true)
    )
    #expect(try begin.isReached())
    try bench.stream.record(begin)
    try bench.scale(memory.address, by: 2, count: 1)
    try bench.stream.record(end)
    // Asking lets it go on.
    while try !end.isReached() {}
    #expect(try begin.isReached())
    try end.synchronize()
    #expect(try end.seconds(since: begin) >= 0)
    while try !bench.stream.isIdle() {}
    // Without times there is nothing to tell.
    let plain = try CUDAEvent(bench.context)
    try bench.stream.record(plain)
    try plain.synchronize()
    #expect(throws: CUDAError.self) { try plain.seconds(since: begin) }
}

@Test(arguments: orders)
func aStreamWaitsForAnother(_ order: String) throws {
    let bench = try Workbench(["ORDER": order])
    let other = try CUDAStream(bench.context, priority: -1)
    let memory = try bench.memory([1])
    let event = try CUDAEvent(bench.context)
    try bench.scale(memory.address, by: 2, count: 1)
    try bench.stream.record(event)
    try other.wait(for: event)
    try bench.scale(memory.address, by: 5, count: 1, on: other)
    try other.synchronize()
    #expect(try bench.stream.download(memory.address, count: 1, as: Float(0)) == [10])
}

@Test(arguments: orders)
func aGraphRunsWhatWasCaptured(_ order: String) throws {
    let bench = try Workbench(["ORDER": order])
    let memory = try bench.memory([1, 2])
    let pinned = try PinnedMemory(bench.context, byteCount: 8, purpose: "a test")
    let graph = try bench.stream.capture { () throws(CUDAError) in
        var factor: Float = 3
        try bench.scale(memory.address, by: factor, count: 2)
        // Arguments are copied when they are captured.
        factor = 100
        try bench.stream.copy(from: memory.address, to: pinned.bytes)
    }
    #expect(graph.nodeCount == 2)
    #expect(try bench.stream.download(memory.address, count: 2, as: Float(0)) == [1, 2])
    try graph.upload(on: bench.stream)
    for _ in 0..<2 { try bench.stream.launch(graph) }
    try bench.stream.synchronize()
    #expect(Array(pinned.bytes.bindMemory(to: Float.self)) == [9, 18])
}

@Test func anEarlierGraphKeepsItsArguments() throws {
    let bench = try Workbench()
    let memory = try bench.memory([1])
    let graphs = try [2, 3].map { factor in
        try bench.stream.capture { () throws(CUDAError) in
            try bench.scale(memory.address, by: Float(factor), count: 1)
        }
    }
    for graph in graphs { try bench.stream.launch(graph) }
    #expect(try bench.stream.download(memory.address, count: 1, as: Float(0)) == [6])
}

/// What a capture in the same thread forbids.
private enum Forbidden: CaseIterable {
    case waiting, asking, allocating, waitingForAll

    func call(_ bench: Workbench) throws {
        switch self {
        case .waiting: try bench.stream.synchronize()
        case .asking: _ = try bench.stream.isIdle()
        case .allocating: _ = try DeviceMemory(bench.context, byteCount: 4, purpose: "a test")
        case .waitingForAll: try bench.context.synchronize()
        }
    }
}

@Test(arguments: Forbidden.allCases)
fileprivate func whatACaptureForbidsSpoilsIt(_ forbidden: Forbidden) throws {
    let bench = try Workbench()
    let memory = try bench.memory([1])
    var refused: (any Error)?
    let error = #expect(throws: CUDAError.self) {
        _ = try bench.stream.capture { () throws(CUDAError) in
            try bench.scale(memory.address, by: 2, count: 1)
            do { try forbidden.call(bench) } catch { refused = error }
        }
    }
    #expect((refused as? CUDAError)?.code == 900)
    #expect(error?.code == 901)
    // The stream can be used afterwards.
    try bench.scale(memory.address, by: 2, count: 1)
    #expect(try bench.stream.download(memory.address, count: 1, as: Float(0)) == [2])
}

@Test func aCaptureSpreadsToStreamsThatWaitForIt() throws {
    let bench = try Workbench()
    let other = try CUDAStream(bench.context)
    let memory = try bench.memory([1])
    let (fork, join) = (try CUDAEvent(bench.context), try CUDAEvent(bench.context))
    func body(joins: Bool) throws(CUDAError) {
        try bench.scale(memory.address, by: 2, count: 1)
        try bench.stream.record(fork)
        try other.wait(for: fork)
        try bench.scale(memory.address, by: 5, count: 1, on: other)
        guard joins else { return }
        try other.record(join)
        try bench.stream.wait(for: join)
        try bench.scale(memory.address, by: 7, count: 1)
    }
    let graph = try bench.stream.capture { () throws(CUDAError) in try body(joins: true) }
    #expect(graph.nodeCount == 3)
    try bench.stream.launch(graph)
    #expect(try bench.stream.download(memory.address, count: 1, as: Float(0)) == [70])
    let error = #expect(throws: CUDAError.self) {
        _ = try bench.stream.capture { () throws(CUDAError) in try body(joins: false) }
    }
    #expect(error?.code == 904)
}

@Test(arguments: orders)
func aLostContextIsSeenLaterAndForGood(_ order: String) throws {
    let bench = try Workbench(["ORDER": order])
    let memory = try bench.memory([1])
    try bench.library.planFaults("launch:3=719")
    for _ in 0..<2 { try bench.scale(memory.address, by: 2, count: 1) }
    try bench.stream.synchronize()
    try bench.scale(memory.address, by: 2, count: 1)
    let error = #expect(throws: CUDAError.self) { try bench.stream.synchronize() }
    #expect(error?.code == 719)
    #expect(error?.name == "CUDA_ERROR_LAUNCH_FAILED")
    let later = #expect(throws: CUDAError.self) { try bench.scale(memory.address, by: 2, count: 1) }
    #expect(later?.losesContext == true)
    #expect(later?.code == 719)
    // Three kernels were asked for, and the third did nothing.
    #expect(try bench.library.counter("kernel_count") == 2)
}

@Test func aFaultInAGraphIsCounted() throws {
    let bench = try Workbench()
    let memory = try bench.memory([1])
    let graph = try bench.stream.capture { () throws(CUDAError) in
        for _ in 0..<2 { try bench.scale(memory.address, by: 2, count: 1) }
    }
    try bench.library.planFaults("launch:4=700")
    try bench.stream.launch(graph)
    try bench.stream.synchronize()
    try bench.stream.launch(graph)
    #expect(throws: CUDAError.self) { try bench.stream.synchronize() }
}

/// A kernel in a graph cannot say that memory is short: the graph's launch does, and nothing has run.
@Test func aGraphThatIsRefusedDoesNothing() throws {
    let bench = try Workbench()
    let memory = try bench.memory([1])
    let graph = try bench.stream.capture { () throws(CUDAError) in
        for _ in 0..<2 { try bench.scale(memory.address, by: 2, count: 1) }
    }
    try bench.library.planFaults("launch:2=2")
    try bench.stream.launch(graph)
    let error = #expect(throws: CUDAError.self) { try bench.stream.launch(graph) }
    #expect(error?.kind == .outOfMemory)
    try bench.stream.launch(graph)
    #expect(try bench.stream.download(memory.address, count: 1, as: Float(0)) == [16])
}

@Test func launchesBeyondTheLimitsAreRefused() throws {
    let bench = try Workbench()
    let function = try bench.module.function("double_stray")
    #expect(try function.resources().threadsPerBlock == 1024)
    let shapes = [
        LaunchShape(grid: .init(0), block: .init(1)), LaunchShape(grid: .init(1), block: .init(1025)),
        LaunchShape(grid: .init(1, 65536), block: .init(1)), LaunchShape(grid: .init(1), block: .init(1, 1, 65)),
        LaunchShape(grid: .init(1), block: .init(1), sharedBytes: 50_000),
    ]
    for shape in shapes {
        let error = #expect(throws: CUDAError.self) { try bench.stream.launch(function, shape, KernelArguments()) }
        #expect(error?.kind == .invalid)
        #expect(error?.detail.contains("double_stray") == true)
    }
    try function.allowSharedMemory(50_000)
    #expect(throws: CUDAError.self) { try function.allowSharedMemory(1 << 20) }
    #expect(try function.blocksPerMultiprocessor(threads: 128, sharedBytes: 50_000) == 4)
    #expect(throws: CUDAError.self) { try bench.module.function("no_such_kernel") }
}
