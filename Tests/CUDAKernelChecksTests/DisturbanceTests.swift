// Tandem — Apache-2.0

import CUDAEmulator
import CUDAKernelChecks
import CUDAKernels
import Testing

/// Tests of the tests: with any one barrier, wait, fence, commit, publication, swizzle, stride, permutation or transposition
/// taken out of the kernels' text, a check must fail.
@Suite struct DisturbanceTests {
    private static let norms: [Kernel] = [.addNorm, .headNorm, .headNormFloat]
    private static let decode = Kernel.allCases.filter { $0.rawValue.hasPrefix("attention_decode") }
    private static let prefill = Kernel.allCases.filter { $0.rawValue.hasPrefix("attention_prefill") }
        .filter { !warpgroups.contains($0) }
    private static let warpgroups: [Kernel] = [.attentionPrefill64Warpgroups, .attentionPrefill128Warpgroups]
    private static let selections: [Kernel] = [.topLogProbabilities, .sampleRows]

    @Test(arguments: [
        ("arithmetic.cuh", norms), ("attention_decode.cuh", decode), ("attention_prefill.cuh", prefill),
        ("attention_prefill_wgmma.cuh", warpgroups),
        ("gemm.cuh", Kernel.allCases.filter(\.isGEMM)), ("selection.cuh", selections), ("sampling.cuh", selections),
        ("log_probabilities.cuh", [.logitStatistics, .gatherLogProbabilities, .topLogProbabilities]),
        ("logit_adjustment.cuh", [.adjustLogits, .restoreLogits, .noteTokens]),
    ])
    func everySiteMatters(file: String, kernels: [Kernel]) throws {
        let checks = KernelChecks.all.filter { !Set($0.kernels).isDisjoint(with: kernels) }
        // Sites become known as they are reached.
        for check in checks { try check.run(on: EmulatedMachine()) }
        var sites = 0
        for site in 0..<tandem_emulator_site_count() {
            let name = tandem_emulator_site_name(site).map { String(cString: $0) } ?? ""
            guard name.contains(" \(file):"), !name.hasPrefix("early start") else { continue }
            sites += 1
            let isCaught = KernelCheckTests.schedules.contains { schedule in
                checks.contains { check in
                    (try? check.run(on: EmulatedMachine(schedule: schedule, disturbedSite: site))) == nil
                }
            }
            #expect(isCaught, "without the \(name) every check holds")
        }
        #expect(sites > 0)
    }

    /// Without its wait for earlier work a kernel that starts early is found.
    @Test func everyWaitForEarlierWorkMatters() throws {
        let checks = KernelChecks.all.filter { $0.kernels.contains(where: \.canStartEarly) }
        // Sites become known as they are reached.
        for check in checks { try check.run(on: EmulatedMachine(startsEarly: true)) }
        var sites = 0
        for site in 0..<tandem_emulator_site_count() {
            let name = tandem_emulator_site_name(site).map { String(cString: $0) } ?? ""
            guard name.hasPrefix("early start") else { continue }
            sites += 1
            let isCaught = checks.contains { check in
                (try? check.run(on: EmulatedMachine(disturbedSite: site, startsEarly: true))) == nil
            }
            #expect(isCaught, "without the \(name) every check holds")
        }
        #expect(sites >= 9)
    }
}
