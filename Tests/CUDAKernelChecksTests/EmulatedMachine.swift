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
    /// Whether kernels that can start before the work before them has ended do so: until they wait for it, all memory is
    /// poison but for weights, and what they write is lost.
    var startsEarly = false
    private let memory = EmulatedMemory()

    init(
        schedule: tandem_emulator_schedule = tandem_emulator_warp_greedy, disturbedSite: Int32? = nil,
        startsEarly: Bool = false
    ) {
        self.schedule = schedule
        self.disturbedSite = disturbedSite
        self.startsEarly = startsEarly
    }

    func allocate(byteCount: Int) throws(KernelMachineError) -> UInt64 {
        guard let memory = aligned_alloc(256, (byteCount + 255) / 256 * 256) else {
            throw KernelMachineError("no memory for \(byteCount) bytes")
        }
        memset(memory, 0xFF, byteCount)
        let address = UInt64(UInt(bitPattern: memory))
        self.memory.sizes[address] = byteCount
        return address
    }

    func release(_ address: UInt64) {
        memory.sizes[address] = nil
        free(UnsafeMutableRawPointer(bitPattern: UInt(address)))
    }

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
        let isEarly = startsEarly && launch.kernel.canStartEarly
        let status = launch.withParameters { parameters in
            if isEarly { memory.hide(except: launch.argumentsReadEarly.map { argument(parameters[$0]) }) }
            return tandem_emulator_launch_early(
                launch.kernel.rawValue, size(launch.grid), size(launch.block), launch.sharedBytes, parameters,
                schedule, disturbedSite ?? TANDEM_EMULATOR_NO_SITE,
                isEarly ? { $0.map { Unmanaged<EmulatedMemory>.fromOpaque($0).takeUnretainedValue().show() } } : nil,
                Unmanaged.passUnretained(memory).toOpaque())
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

    private func argument(_ value: UnsafeMutableRawPointer?) -> UInt64 { value?.load(as: UInt64.self) ?? 0 }

    private func size(_ size: LaunchSize) -> tandem_emulator_size {
        tandem_emulator_size(x: size.x, y: size.y, z: size.z)
    }
}

/// What a machine gave out, and what was in it while it is hidden.
private final class EmulatedMemory {
    var sizes: [UInt64: Int] = [:]
    private var hidden: [UInt64: [UInt8]] = [:]

    /// Large as a number and beyond all memory as an index, so that a kernel that takes it for one gets nowhere.
    private static let poison: Int32 = 0x7F

    /// Poisons all memory but what holds certain addresses.
    func hide(except addresses: [UInt64]) {
        for (start, count) in sizes where !addresses.contains(where: { (start..<start + UInt64(count)).contains($0) }) {
            guard let bytes = UnsafeMutableRawPointer(bitPattern: UInt(start)) else { continue }
            hidden[start] = Array(UnsafeRawBufferPointer(start: bytes, count: count))
            memset(bytes, Self.poison, count)
        }
    }

    /// Brings back what was there.
    func show() {
        for (start, bytes) in hidden {
            bytes.withUnsafeBytes { bytes in
                guard let to = UnsafeMutableRawPointer(bitPattern: UInt(start)), let from = bytes.baseAddress else {
                    return
                }
                memcpy(to, from, bytes.count)
            }
        }
        hidden = [:]
    }
}
