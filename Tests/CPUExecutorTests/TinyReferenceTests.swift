// Tandem — Apache-2.0

import LanguageModel
import Requests
import Synchronization
import TestSupport
import Testing

@testable import CPUExecutor

/// Every family in single precision against another implementation: all logits, hidden states and greedy tokens.
@Suite struct TinyReferenceTests {
    static let tolerance: Float = 1e-4

    /// What one run of a sequence showed.
    final class Recorder: Sendable {
        struct Rows {
            /// By position.
            var logits: [Int: [Float]] = [:]
            /// By layer and position.
            var hidden: [Int: [Int: [Float]]] = [:]
        }
        let rows = Mutex(Rows())

        func inspection(of checkpoint: TinyCheckpoint) -> StepInspection {
            var inspection = StepInspection()
            inspection.rotaryRounding = checkpoint.rotaryRounding
            inspection.logits = { [self] position, row in
                rows.withLock { $0.logits[position] = Array(row) }
            }
            inspection.hidden = { [self] layer, position, row in
                rows.withLock { $0.hidden[layer, default: [:]][position] = Array(row) }
            }
            return inspection
        }

        func take() -> Rows {
            rows.withLock { rows in
                defer { rows = Rows() }
                return rows
            }
        }
    }

    static func difference(_ ours: [Float], _ truth: ArraySlice<Float>) -> Float {
        zip(ours, truth).reduce(0) { max($0, ($1.0 - $1.1).isNaN ? .infinity : abs($1.0 - $1.1)) }
    }

    @Test(arguments: TinyCheckpoint.names, [0, 1, 2])
    func everyInstructionSetAgreesWithFloat32(_ name: String, _ instructionSet: Int) throws {
        let checkpoint = try TinyCheckpoint(name)
        let model = checkpoint.model
        let recorder = Recorder()
        var options = CPUExecutor.Options(compute: .f32, threads: 2, instructionSet: instructionSet)
        options.inspection = recorder.inspection(of: checkpoint)
        guard let harness = try? Harness(model: model, file: checkpoint.tensors, options: options) else {
            // Only an instruction set that the processor lacks may be refused.
            #expect(instructionSet > 0)
            return
        }
        #expect(checkpoint.cases.count == 4)
        for reference in checkpoint.cases {
            let length = reference.input_ids.count
            let request = Request(tokens: reference.input_ids, newTokens: reference.greedy16.count, promptTop: 0)
            // The whole prompt in a step, and a token a step: large and small steps share little code.
            for chunk in [512, 1] {
                #expect(try harness.run([request], chunk: chunk)[0].tokens == reference.greedy16)
                let rows = recorder.take()
                let logits = try #require(checkpoint.outputs["logits.\(reference.name)"])
                try #require(logits.count == length * model.vocabularySize)
                for position in 0..<length {
                    let truth = logits[position * model.vocabularySize..<(position + 1) * model.vocabularySize]
                    let ours = try #require(rows.logits[position])
                    try #require(ours.count == truth.count)
                    #expect(Self.difference(ours, truth) <= Self.tolerance, "logits, chunk \(chunk), \(position)")
                }
                for layer in 0...model.layers.count {
                    guard let hidden = checkpoint.outputs["hidden\(layer).\(reference.name)"] else {
                        // Two cases have them.
                        #expect(length > 5)
                        continue
                    }
                    try #require(hidden.count == length * model.hiddenSize)
                    for position in 0..<length {
                        let truth = hidden[position * model.hiddenSize..<(position + 1) * model.hiddenSize]
                        let ours = try #require(rows.hidden[layer]?[position])
                        try #require(ours.count == truth.count)
                        #expect(
                            Self.difference(ours, truth) <= Self.tolerance,
                            "hidden state before layer \(layer), chunk \(chunk), \(position)")
                    }
                }
            }
        }
    }
}
