// Tandem — Apache-2.0

import CUDAKernels
import Testing

/// What the device reads must lie where its text says.
@Suite struct LayoutTests {
    @Test func sampleRow() {
        #expect(MemoryLayout<SampleRow>.stride == 48)
        #expect(MemoryLayout<SampleRow>.offset(of: \.seed) == 0)
        #expect(MemoryLayout<SampleRow>.offset(of: \.row) == 8)
        #expect(MemoryLayout<SampleRow>.offset(of: \.slot) == 12)
        #expect(MemoryLayout<SampleRow>.offset(of: \.position) == 16)
        #expect(MemoryLayout<SampleRow>.offset(of: \.choice) == 20)
        #expect(MemoryLayout<SampleRow>.offset(of: \.temperature) == 24)
        #expect(MemoryLayout<SampleRow>.offset(of: \.topK) == 28)
        #expect(MemoryLayout<SampleRow>.offset(of: \.topP) == 32)
        #expect(MemoryLayout<SampleRow>.offset(of: \.minP) == 36)
        #expect(MemoryLayout<SampleRow>.offset(of: \.maskOffset) == 40)
        #expect(MemoryLayout<SampleRow>.offset(of: \.flags) == 44)
    }

    @Test func adjustRow() {
        #expect(MemoryLayout<AdjustRow>.stride == 56)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.row) == 0)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.sample) == 4)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.bannedOffset) == 8)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.biasCount) == 20)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.countOffset) == 24)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.countLength) == 28)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.countCapacity) == 32)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.savedOffset) == 36)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.repetitionPenalty) == 40)
        #expect(MemoryLayout<AdjustRow>.offset(of: \.presencePenalty) == 48)
    }

    @Test func entries() {
        #expect(MemoryLayout<TokenBiasEntry>.stride == 8)
        #expect(MemoryLayout<TokenBiasEntry>.offset(of: \.bias) == 4)
        #expect(MemoryLayout<TokenCountEntry>.stride == 8)
        #expect(MemoryLayout<TokenCountEntry>.offset(of: \.generated) == 4)
        #expect(MemoryLayout<BFloat16>.stride == 2)
    }

    @Test func bfloat16RoundsToNearestEven() {
        #expect(BFloat16(1).bits == 0x3F80)
        #expect(BFloat16(Float(bitPattern: 0x3F80_8000)).bits == 0x3F80)
        #expect(BFloat16(Float(bitPattern: 0x3F81_8000)).bits == 0x3F82)
        #expect(BFloat16(Float(bitPattern: 0x3F80_8001)).bits == 0x3F81)
        #expect(BFloat16(.infinity).float == .infinity)
        #expect(BFloat16(-.greatestFiniteMagnitude).float == -.infinity)
        #expect(BFloat16(.nan).float.isNaN)
    }
}
