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
        try checkArguments(launch)
        let status = launch.withParameters { parameters in
            tandem_emulator_launch_with(
                launch.kernel.rawValue, size(launch.grid), size(launch.block), launch.sharedBytes, parameters,
                schedule, disturbedSite ?? TANDEM_EMULATOR_NO_SITE)
        }
        guard status == tandem_emulator_ok else {
            throw KernelMachineError(String(cString: tandem_emulator_message()))
        }
    }

    /// Whether a launch brings as many arguments, of the sizes, as the kernel takes: a GPU would not ask.
    private func checkArguments(_ launch: KernelLaunch) throws(KernelMachineError) {
        let name = launch.kernel.rawValue
        let count = Int(tandem_emulator_argument_count(name))
        guard launch.argumentCount == count else {
            throw KernelMachineError("\(name) takes \(count) arguments, not \(launch.argumentCount)")
        }
        for index in 0..<count {
            let size = launch.wideArguments >> UInt32(index) & 1 == 1 ? 8 : 4
            guard tandem_emulator_argument_size(name, Int32(index)) == size else {
                throw KernelMachineError("argument \(index) of \(name) has other than \(size) bytes")
            }
        }
    }

    private func size(_ size: LaunchSize) -> tandem_emulator_size {
        tandem_emulator_size(x: size.x, y: size.y, z: size.z)
    }
}
