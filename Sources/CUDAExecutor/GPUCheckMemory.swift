// Tandem — Apache-2.0

public import CUDADriver

extension GPUSession {
    /// Runs a kernel beyond the session's own room: for checks.
    public var checkMemory: GPUCheckMemory { GPUCheckMemory(session: self) }
}

/// Memory and copies for checks of kernels, in calls that wait.
public final class GPUCheckMemory {
    private let session: GPUSession
    private var memories: [DeviceAddress: DeviceMemory] = [:]

    init(session: GPUSession) { self.session = session }

    /// Memory whose bytes are all 0xFF.
    public func allocate(byteCount: Int) throws(CUDAError) -> DeviceAddress {
        let memory = try DeviceMemory(session.context, byteCount: byteCount, purpose: "a check")
        try session.stream.fill(memory.address, byte: 0xFF, count: byteCount)
        memories[memory.address] = memory
        return memory.address
    }

    public func release(_ address: DeviceAddress) {
        // Work on it may still run.
        try? session.stream.synchronize()
        memories[address] = nil
    }

    public func upload(_ bytes: UnsafeRawBufferPointer, to address: DeviceAddress) throws(CUDAError) {
        try session.stream.copy(from: bytes, to: address)
        try session.stream.synchronize()
    }

    public func download(
        _ address: DeviceAddress, into bytes: UnsafeMutableRawBufferPointer
    ) throws(CUDAError) {
        try session.stream.copy(from: address, to: bytes)
        try session.stream.synchronize()
    }
}
