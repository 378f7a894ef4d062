// Tandem — Apache-2.0

import CUDAEmulator
import CUDAKernels
import Testing

@Suite struct EmulatorTests {
    private let one = tandem_emulator_size(x: 1, y: 1, z: 1)
    private let warp = tandem_emulator_size(x: 32, y: 1, z: 1)

    @Test func hasTheKernelsOfTheList() {
        let names = (0..<tandem_emulator_kernel_count()).compactMap { tandem_emulator_kernel_name($0) }
        #expect(names.map { String(cString: $0) }.sorted() == Kernel.allCases.map(\.rawValue).sorted())
        #expect(tandem_emulator_kernel_name(-1) == nil)
        #expect(tandem_emulator_kernel_name(tandem_emulator_kernel_count()) == nil)
    }

    @Test func knowsArguments() {
        #expect(tandem_emulator_argument_count("fill_random") == 4)
        #expect((0..<4).map { tandem_emulator_argument_size("fill_random", $0) } == [8, 8, 8, 4])
        #expect(tandem_emulator_argument_size("fill_random", 4) == 0)
        #expect(tandem_emulator_argument_size("fill_random", -1) == 0)
        #expect(tandem_emulator_argument_count("nothing") == -1)
        #expect(tandem_emulator_thread_limit("sample_rows") == 1024)
        #expect(tandem_emulator_thread_limit("nothing") == 0)
    }

    @Test func refusesWhatIsNoLaunch() {
        var none: [UnsafeMutableRawPointer?] = [nil]
        #expect(tandem_emulator_launch("nothing", one, warp, 0, &none) == tandem_emulator_unknown_kernel)
        #expect(String(cString: tandem_emulator_message()) == "there is no kernel nothing")
        let empty = tandem_emulator_size(x: 0, y: 1, z: 1)
        #expect(tandem_emulator_launch("fill_bytes", empty, warp, 0, &none) == tandem_emulator_invalid_launch)
        #expect(tandem_emulator_launch("fill_bytes", one, empty, 0, &none) == tandem_emulator_invalid_launch)
        let deep = tandem_emulator_size(x: 1, y: 70_000, z: 1)
        #expect(tandem_emulator_launch("fill_bytes", deep, warp, 0, &none) == tandem_emulator_invalid_launch)
        let wide = tandem_emulator_size(x: 512, y: 1, z: 1)
        #expect(tandem_emulator_launch("fill_bytes", one, wide, 0, &none) == tandem_emulator_invalid_launch)
        #expect(tandem_emulator_launch("fill_bytes", one, warp, 1 << 20, &none) == tandem_emulator_invalid_launch)
    }

    @Test func runsAKernel() {
        let bytes = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 100)
        defer { bytes.deallocate() }
        bytes.initialize(repeating: 0)
        let launch = KernelLaunch.fillBytes(
            DevicePointer(address: UInt64(UInt(bitPattern: bytes.baseAddress))), count: 99, value: 7)
        let status = launch.withParameters { parameters in
            tandem_emulator_launch(
                launch.kernel.rawValue, tandem_emulator_size(x: launch.grid.x, y: launch.grid.y, z: launch.grid.z),
                tandem_emulator_size(x: launch.block.x, y: 1, z: 1), launch.sharedBytes, parameters)
        }
        #expect(status == tandem_emulator_ok)
        #expect(String(cString: tandem_emulator_message()).isEmpty)
        #expect(bytes.dropLast().allSatisfy { $0 == 7 })
        #expect(bytes.last == 0)
    }
}
