// Tandem — Apache-2.0

import Foundation
import Testing

@testable import Fuzzing

/// A short run of every target, always the same, so that the harness stays able to find something.
@Suite struct FuzzRunTests {
    private func withTarget(_ name: String, _ body: (FuzzTarget) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try body(try #require(FuzzTarget.named(name, directory: directory.path)))
    }

    @Test(arguments: FuzzTarget.names) func nothingIsFoundInAShortRun(name: String) throws {
        try withTarget(name) { target in
            var tally = FuzzTally()
            FuzzRun(target, seed: 1).run(0..<2000, tally: &tally) { execution, text in
                Issue.record("\(name) --replay 1:\(execution): \(text)")
            }
            #expect(tally.executions == 2000)
            #expect(tally.accepted + tally.refused == 2000)
            // Neither do mutations break everything, nor do they change nothing.
            #expect(tally.accepted >= 40 && tally.refused >= 200, "\(tally)")
        }
    }

    /// A file of every type of value and tensor is no model; configurations of other families do not fit the tensors; and a
    /// template whose roles must alternate refuses the conversation that it gets.
    private static let refusedSeeds: [String: Set<Int>] = ["gguf": [0], "config": [2, 3], "template": [2]]

    @Test(arguments: FuzzTarget.names) func whatItBeginsFromIsValid(name: String) throws {
        try withTarget(name) { target in
            for (index, seed) in target.seeds.enumerated() {
                let outcome = target.execute(seed)
                #expect(
                    outcome == (Self.refusedSeeds[name]?.contains(index) == true ? .refused : .accepted), "\(index)")
            }
        }
    }

    @Test func inputsFollowFromSeedAndNumber() throws {
        try withTarget("tokenizer") { target in
            let inputs = (0..<50).map { FuzzRun(target, seed: 7).input($0) }
            #expect((0..<50).map { FuzzRun(target, seed: 7).input($0) } == inputs)
            #expect((0..<50).map { FuzzRun(target, seed: 8).input($0) } != inputs)
            #expect(Set(inputs).count > 40)
        }
    }

    @Test func aRefusalWithoutAPlaceIsAFault() {
        struct Vague: Error, CustomStringConvertible { let description: String }
        #expect(refusal(Vague(description: "a.gguf: byte 3: no"), names: ["a.gguf", "byte 3"]) == .refused)
        for text in ["", "no", "a.gguf: no"] {
            guard case .fault = refusal(Vague(description: text), names: ["a.gguf", "byte 3"]) else {
                Issue.record("\(text.debugDescription) was taken for a refusal with a place")
                continue
            }
        }
        guard case .fault = refusal(Vague(description: "a.gguf"), names: ["a.gguf", nil]) else {
            Issue.record("a refusal of no field was taken for one with a place")
            return
        }
    }

    @Test func faultsAndSlowExecutionsAreReported() {
        let target = FuzzTarget(name: "odd", dialect: .binary, seeds: [[1, 2, 3]]) { input in
            input.count % 2 == 1 ? .fault("odd") : .accepted
        }
        var tally = FuzzTally()
        var reported: [UInt64] = []
        FuzzRun(target, seed: 1).run(0..<100, tally: &tally) { execution, _ in reported.append(execution) }
        #expect(reported.first == 0)
        #expect(tally.faults == UInt64(reported.count))
        #expect(tally.faults + tally.accepted == 100)
        #expect(tally.current == 99)
    }
}
