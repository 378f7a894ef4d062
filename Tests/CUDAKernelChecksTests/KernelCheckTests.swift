// Tandem — Apache-2.0

import CUDAEmulator
import CUDAKernelChecks
import CUDAKernels
import Testing

@Suite struct KernelCheckTests {
    static let schedules = [
        tandem_emulator_round_robin, tandem_emulator_warp_greedy, tandem_emulator_warp_greedy_descending,
    ]

    /// All kernels against their references, in every order of threads; the order must not show in any bit.
    @Test(arguments: KernelChecks.all)
    func holdsUnderEverySchedule(check: KernelCheck) throws {
        let results = try Self.schedules.map { try check.run(on: EmulatedMachine(schedule: $0)) }
        for result in results { #expect(result == results[0]) }
    }

    /// Kernels that may start before the work before them has ended read nothing of it, and write nothing, before they wait.
    @Test(arguments: KernelChecks.all.filter { $0.kernels.contains(where: \.canStartEarly) })
    func holdsWhenStartedEarly(check: KernelCheck) throws {
        let result = try check.run(on: EmulatedMachine())
        for schedule in Self.schedules {
            #expect(try check.run(on: EmulatedMachine(schedule: schedule, startsEarly: true)) == result)
        }
    }

    @Test func everyKernelIsChecked() {
        let checked = Set(KernelChecks.all.flatMap(\.kernels))
        #expect(checked == Set(Kernel.allCases))
        #expect(Set(KernelChecks.all.map(\.name)).count == KernelChecks.all.count)
    }
}
