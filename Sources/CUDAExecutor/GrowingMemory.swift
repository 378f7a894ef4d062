// Tandem — Apache-2.0

import CUDADriver

/// Device memory for what differs from step to step: replaced by more when a step needs more.
struct GrowingMemory {
    private let session: GPUSession
    private let purpose: String
    private(set) var memory: DeviceMemory

    init(_ session: GPUSession, byteCount: Int, purpose: String) throws(CUDAError) {
        self.session = session
        self.purpose = purpose
        memory = try DeviceMemory(session.context, byteCount: byteCount, purpose: purpose)
    }

    var address: DeviceAddress { memory.address }

    /// Makes room, and waits for the device if that takes other memory.
    ///
    /// - Returns: whether the address changed; what was there is lost then.
    mutating func reserve(_ byteCount: Int) throws(CUDAError) -> Bool {
        guard byteCount > memory.byteCount else { return false }
        try session.stream.synchronize()
        memory = try DeviceMemory(session.context, byteCount: roundedUp(byteCount * 3 / 2, to: 4096), purpose: purpose)
        return true
    }
}

/// Pinned memory that is replaced by more when a step needs more. Nothing may be copying when it is.
struct GrowingPinnedMemory {
    private let session: GPUSession
    private let purpose: String
    private(set) var memory: PinnedMemory

    init(_ session: GPUSession, byteCount: Int, purpose: String) throws(CUDAError) {
        self.session = session
        self.purpose = purpose
        memory = try PinnedMemory(session.context, byteCount: byteCount, purpose: purpose)
    }

    mutating func reserve(_ byteCount: Int) throws(CUDAError) {
        guard byteCount > memory.byteCount else { return }
        memory = try PinnedMemory(session.context, byteCount: roundedUp(byteCount * 3 / 2, to: 4096), purpose: purpose)
    }
}
