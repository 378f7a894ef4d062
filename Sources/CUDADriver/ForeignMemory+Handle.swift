// Tandem — Apache-2.0

internal import CTandemSystem

extension ForeignMemory {
    /// Names an allocation to another process: 64 opaque bytes, to be sent as they are.
    public struct Handle: Sendable {
        var value = tandem_cuda_ipc_handle()

        init() {}

        /// Null unless there are 64 bytes.
        public init?(bytes: [UInt8]) {
            guard bytes.count == MemoryLayout<tandem_cuda_ipc_handle>.size else { return nil }
            withUnsafeMutableBytes(of: &value) { $0.copyBytes(from: bytes) }
        }

        public var bytes: [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
    }
}
