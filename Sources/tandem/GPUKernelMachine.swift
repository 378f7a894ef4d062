// Tandem — Apache-2.0

import CUDADriver
import CUDAExecutor
import CUDAKernelChecks
import CUDAKernels

/// Runs checks of kernels on a GPU.
struct GPUKernelMachine: KernelMachine {
    private let session: GPUSession
    private let memory: GPUCheckMemory

    init(_ session: GPUSession) {
        self.session = session
        memory = session.checkMemory
    }

    private func attempt<Value>(_ body: () throws(CUDAError) -> Value) throws(KernelMachineError) -> Value {
        do throws(CUDAError) {
            return try body()
        } catch {
            throw KernelMachineError(error.description)
        }
    }

    func allocate(byteCount: Int) throws(KernelMachineError) -> UInt64 {
        try attempt { () throws(CUDAError) in try memory.allocate(byteCount: byteCount) }
    }

    func release(_ address: UInt64) { memory.release(address) }

    func upload(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(KernelMachineError) {
        try attempt { () throws(CUDAError) in try memory.upload(bytes, to: address) }
    }

    func download(_ address: UInt64, into bytes: UnsafeMutableRawBufferPointer) throws(KernelMachineError) {
        try attempt { () throws(CUDAError) in try memory.download(address, into: bytes) }
    }

    func launch(_ launch: KernelLaunch) throws(KernelMachineError) {
        try attempt { () throws(CUDAError) in try session.launch(launch) }
    }
}
