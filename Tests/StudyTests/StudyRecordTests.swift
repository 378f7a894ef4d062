// Tandem — Apache-2.0

import Study
import Testing

@Suite struct StudyRecordTests {
    @Test func `what is written is read back`() throws {
        let definition = StudyDefinition(
            figure: "F1", title: "Decode", question: "Does it \"pay\"?", phase: .decode, models: ["tiny"],
            contexts: [16, 32], batches: [4], conventions: [.total, .perEngine],
            hosts: [.init(name: "none", secondsPerStep: 0, secondsPerSequence: 0, source: "none")],
            arms: [
                StudyArm(id: "one", title: "one", engines: 1, sharing: .alone, isAsynchronous: false),
                StudyArm(id: "mps", title: "two", engines: 2, sharing: .mps, isAsynchronous: true, cores: 1),
            ], repetitions: 3, device: "simulated:h100")
        let header = StudyHeader(
            kind: .simulated, device: "simulated:h100", deviceTitle: "H100", machine: "none", date: "today",
            version: "1", revision: "abc", versions: ["driver": "1"], parameters: ["slice": "2 ms"],
            definition: definition)
        var measurement = StudyMeasurement(
            cell: StudyCell(
                figure: "F1", model: "tiny", phase: .decode, context: 16, batch: 4, convention: .total, host: "none",
                arm: "one"),
            repetition: 0, seed: .max, seconds: 0.5)
        measurement.generatedTokensPerSecond = 12.5
        measurement.endToEnd = .init(mean: 1, p50: 1, p90: 2, p99: 3)
        measurement.stepTime = .init(attention: 1e-3, feedForward: 2e-3, rest: 3e-3, host: 0)
        measurement.notes = ["a note"]
        let failed = StudyMeasurement(
            cell: measurement.cell.with(arm: "mps"), repetition: 0, seed: 1, failure: "does not fit")
        let records: [StudyRecord] = [.header(header), .measurement(measurement), .measurement(failed)]
        let bytes = records.flatMap(\.line)

        let result = try StudyResult(lines: bytes, name: "file")

        #expect(result == StudyResult(header: header, measurements: [measurement, failed]))
        #expect(result.failures == [failed])
        let cut = try StudyResult(lines: bytes.dropLast(5) + [], name: "file", mayBeCut: true)
        #expect(cut.measurements == [measurement])
        #expect { try StudyResult(lines: bytes.dropLast(5) + [], name: "file") } throws: { "\($0)".contains("line 3") }
    }
}
