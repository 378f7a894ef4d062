// Tandem — Apache-2.0

import CUDAEmulator
import CUDAKernelChecks
import CUDAKernels
import Glibc

/// Runs kernels on the emulator, with memory of this process.
struct EmulatedMachine: KernelMachine {
    var schedule = tandem_emulator_warp_greedy
    /// A place at which an instruction does nothing.
    var disturbedSite: Int32?

    func allocate(byteCount: Int) throws(KernelMachineError) -> UInt64 {
        guard let memory = aligned_alloc(256, (byteCount + 255) / 256 * 256) else {
            throw KernelMachineError("no memory for \(byteCount) bytes")
        }
        memset(memory, 0xFF, byteCount)
        return UInt64(UInt(bitPattern: memory))
    }

    func release(_ address: UInt64) { free(UnsafeMutableRawPointer(bitPattern: UInt(address))) }

    func upload(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(KernelMachineError) {
        guard let to = UnsafeMutableRawPointer(bitPattern: UInt(address)), let from = bytes.baseAddress else {
            throw KernelMachineError("a copy to nowhere")
        }
        memcpy(to, from, bytes.count)
    }

    func download(_ address: UInt64, into bytes: UnsafeMutableRawBufferPointer) throws(KernelMachineError) {
        guard let from = UnsafeRawPointer(bitPattern: UInt(address)), let to = bytes.baseAddress else {
            throw KernelMachineError("a copy from nowhere")
        }
        memcpy(to, from, bytes.count)
    }

    func launch(_ launch: KernelLaunch) throws(KernelMachineError) {
        let status = launch.withParameters { parameters in
            tandem_emulator_launch_with(
                launch.kernel.rawValue, size(launch.grid), size(launch.block), launch.sharedBytes, parameters,
                schedule, disturbedSite ?? TANDEM_EMULATOR_NO_SITE)
        }
        guard status == tandem_emulator_ok else {
            throw KernelMachineError(String(cString: tandem_emulator_message()))
        }
    }

    private func size(_ size: LaunchSize) -> tandem_emulator_size {
        tandem_emulator_size(x: size.x, y: size.y, z: size.z)
    }
}
