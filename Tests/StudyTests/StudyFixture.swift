// Tandem — Apache-2.0

import GPUModel
import LanguageModel
import Study

/// A small decoder, and figures about it.
enum StudyFixture {
    static let model = DecoderDescription(
        architecture: "llama", name: "tiny", vocabularySize: 1000, hiddenSize: 256, intermediateSize: 512,
        queryHeads: 4, keyValueHeads: 2, headDimension: 64, contextLength: 4096, normEpsilon: 1e-6, embeddingScale: 1,
        tiedHead: true, ropes: [RotaryDescription(base: 10000, dimensions: 64, fileLayout: .halfSplit)],
        layers: Array(
            repeating: LayerDescription(
                queryKeyValueBias: false, queryKeyNorm: false, postAttentionNorm: false, postFeedForwardNorm: false,
                activation: .silu, window: nil, rope: 0, attentionScale: 0.125), count: 4))

    static let one = StudyArm(id: "one", title: "one", engines: 1, sharing: .alone, isAsynchronous: false)
    static let ahead = StudyArm(id: "ahead", title: "one, ahead", engines: 1, sharing: .alone, isAsynchronous: true)
    static let mps = StudyArm(id: "mps", title: "two", engines: 2, sharing: .mps, isAsynchronous: false)
    static let sliced = StudyArm(id: "sliced", title: "two", engines: 2, sharing: .timeSliced, isAsynchronous: false)
    static let inside = StudyArm(id: "inside", title: "two", engines: 2, sharing: .inProcess, isAsynchronous: false)

    static let host = StudyDefinition.Host(
        name: "some", secondsPerStep: 1e-3, secondsPerSequence: 1e-6, source: "assumed")
    static let noHost = StudyDefinition.Host(name: "none", secondsPerStep: 0, secondsPerSequence: 0, source: "none")

    static func definition(
        phase: StudyDefinition.Phase = .decode, contexts: [Int] = [64, 1024], batches: [Int] = [32],
        hosts: [StudyDefinition.Host] = [noHost, host], arms: [StudyArm] = [one, ahead, sliced, mps, inside],
        loads: [Double] = [], repetitions: Int = 3
    ) -> StudyDefinition {
        StudyDefinition(
            figure: "X1", title: "Test", question: "Does it?", phase: phase, models: ["tiny"], contexts: contexts,
            batches: batches, outputTokens: phase == .serving ? 8 : 0, loads: loads,
            conventions: [.total, .perEngine], hosts: hosts, arms: arms, repetitions: repetitions,
            device: "simulated:h100")
    }

    static func simulated(_ definition: StudyDefinition) throws -> SimulatedStudy {
        try SimulatedStudy(
            definition: definition, device: DeviceParameters.named("h100"), models: ["tiny": model])
    }

    static func header(_ definition: StudyDefinition) -> StudyHeader {
        StudyHeader(
            kind: .simulated, device: definition.device, deviceTitle: "H100", machine: "none", date: "today",
            version: "1", definition: definition)
    }
}
