// Tandem — Apache-2.0

import GPUModel
import GPUModelValidation
import Testing

/// The model against loops that were measured side by side on an H100, and against published rows.
@Suite struct MeasuredSharingTests {
    /// Held-out loops: gain within 10 points for four of five, and the right sign where more than 10 points were
    /// measured.
    @Test(arguments: Validation.Pair.allCases)
    func heldOut(pair: Validation.Pair) throws {
        let rows = try Validation.gains(pair).filter(\.isHeldOut)
        try #require(rows.count >= 15)
        let near = rows.filter { abs($0.difference) <= 0.1 }
        #expect(Double(near.count) >= 0.8 * Double(rows.count), "\(rows)")
        #expect(rows.filter { abs($0.measured) > 0.1 }.allSatisfy { $0.measured * $0.predicted > 0 }, "\(rows)")
    }

    /// Few requests, split over processes, make less than one engine, and time slices make least: 0.82 under MPS, 0.67
    /// and 0.37 in slices were measured. Only sign and order are asked for.
    @Test(arguments: [0, 1e-3])
    func splittingFewRequestsLoses(hostSeconds: Double) throws {
        let rows = try Validation.splitRequests(hostSeconds: hostSeconds)
        #expect(rows.allSatisfy { $0.predicted < 1 }, "\(rows)")
        #expect(rows[0].predicted > rows[1].predicted && rows[1].predicted > rows[2].predicted, "\(rows)")
    }

    /// Time between tokens of OPT-1.3B by vLLM 0.5, the GPU's factor from the solo row of each limit of sequences. The
    /// host time is that which a user saw between steps of an early vLLM V1 at 256 sequences, 5 to 6 ms
    /// (vllm-project/vllm issue 10634). The aim, 15 % on average and none over 25 %, is missed (16 and 27 %:
    /// docs/gpu-model.md); this keeps it from getting worse.
    @Test func replication() throws {
        let rows = try Validation.replication(hostSeconds: 5.5e-3, ownSolo: true)
        try #require(rows.count == 4)
        #expect(mean(rows.map { abs($0.relativeError) }) <= 0.18, "\(rows)")
        #expect(rows.allSatisfy { abs($0.relativeError) <= 0.3 }, "\(rows)")
    }
}
