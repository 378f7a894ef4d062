// Tandem — Apache-2.0

public import CUDAKernels

/// What runs kernels: a GPU through its driver, or the emulator.
public protocol KernelMachine {
    /// Gets memory whose bytes are all 0xFF, aligned to 256.
    ///
    /// - Returns: its address, for ``release(_:)`` and for arguments.
    func allocate(byteCount: Int) throws(KernelMachineError) -> UInt64

    /// Gives memory back.
    func release(_ address: UInt64)

    /// Copies bytes to the device; done when it returns.
    func upload(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(KernelMachineError)

    /// Copies bytes from the device, after all kernels before have ended.
    func download(_ address: UInt64, into bytes: UnsafeMutableRawBufferPointer) throws(KernelMachineError)

    /// Starts a kernel behind those started before. Its fault may show in this call or in the next download.
    func launch(_ launch: KernelLaunch) throws(KernelMachineError)
}

/// A kernel, a copy or an allocation failed.
public struct KernelMachineError: Error, CustomStringConvertible {
    public var description: String

    public init(_ description: String) { self.description = description }
}
