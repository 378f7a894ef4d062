// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels
import InferenceEngine
import Testing

@testable import CUDAExecutor

@Suite struct PrefillChoiceTests {
    private static let hopper = ComputeCapability(major: 9, minor: 0)
    private static let ampere = ComputeCapability(major: 8, minor: 0)

    private static func form(
        _ setting: String?, on capability: ComputeCapability = hopper, dimension: HeadDimension = .d128,
        isDeterministic: Bool = false
    ) throws(ExecutorError) -> PrefillForm {
        try PrefillChoice.form(
            environment: setting.map { [PrefillChoice.variable: $0] } ?? [:], capability: capability,
            dimension: dimension, isDeterministic: isDeterministic)
    }

    @Test func whatNobodyAskedForIsWhatWasMeasured() throws {
        #expect(try Self.form(nil) == .wide)
        #expect(try Self.form("") == .wide)
        #expect(try Self.form("mma") == .wide)
        #expect(try Self.form(nil, on: Self.ampere) == .wide)
    }

    @Test func warpgroupsAreForHopperAndForWhatNeedNotKeepItsBits() throws {
        #expect(try Self.form("wgmma") == .warpgroups)
        #expect(try Self.form("wgmma", isDeterministic: true) == .wide)
        // There is one kernel for heads of 256, whatever is asked for.
        #expect(PrefillTiling(.d256, try Self.form("wgmma", dimension: .d256)).kernel == .attentionPrefill256)
    }

    @Test func whatCannotBeIsRefusedWithTheRemedy() {
        #expect {
            try Self.form("wgmma", on: Self.ampere)
        } throws: { error in
            "\(error)".contains("TANDEM_CUDA_PREFILL") && "\(error)".contains("set it to mma")
        }
        #expect {
            try Self.form("fast")
        } throws: { error in
            "\(error)".contains("fast; expected wgmma or mma")
        }
    }
}
