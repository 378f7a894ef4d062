// Tandem — Apache-2.0

import GPUModel
import LanguageModel
import Study
import Testing

@Suite struct SimulatedStudyTests {
    private func result(_ definition: StudyDefinition) throws -> StudyResult {
        let study = try StudyFixture.simulated(definition)
        return StudyResult(
            header: StudyFixture.header(definition), measurements: definition.tasks().map(study.measure))
    }

    private func cell(
        _ arm: StudyArm, host: String, convention: StudyDefinition.Convention = .total, context: Int = 64,
        phase: StudyDefinition.Phase = .decode, batch: Int? = 32, load: Double? = nil
    ) -> StudyCell {
        StudyCell(
            figure: "X1", model: "tiny", phase: phase, context: context, batch: batch, load: load,
            convention: convention, host: host, arm: arm.id)
    }

    @Test func `one engine takes its kernels' time and the host's`() throws {
        let result = try result(StudyFixture.definition())
        let step = StepModel(model: StudyFixture.model, device: try DeviceParameters.named("h100"))
            .profile(StepShape(decoding: 32, context: 64)).seconds

        let alone = try #require(result.throughput(of: cell(StudyFixture.one, host: "none")))
        #expect(abs(alone.value * step / 32 - 1) < 1e-6)
        let hosted = try #require(result.throughput(of: cell(StudyFixture.one, host: "some")))
        #expect(abs(hosted.value * (step + 1e-3 + 32e-6) / 32 - 1) < 0.05)
        let times = try #require(result.repetitions(of: cell(StudyFixture.one, host: "some")).first?.stepTime)
        #expect(abs(times.attention + times.feedForward + times.rest - step) < 1e-9)
        #expect(abs(times.host - 1.032e-3) < 1e-9)
    }

    @Test func `no arm gains more than it has engines, and planning ahead never loses`() throws {
        let result = try result(StudyFixture.definition())

        #expect(result.failures.isEmpty)
        for measurement in result.measurements {
            let gain = try #require(result.gain(of: measurement.cell))
            let arm = try #require(result.header.definition.arm(measurement.cell.arm))
            // Host times vary by seed; with several engines another number of them is drawn.
            let most = arm.isAsynchronous ? 30 : Double(arm.engines - 1)
            #expect(gain.value <= most + 0.05)
            if arm.id == "ahead" { #expect(gain.value > -0.02) }
            if arm.id == "sliced", measurement.cell.host == "none" { #expect(gain.value < 1e-9) }
            #expect((0...1).contains(try #require(measurement.deviceBusyShare)))
        }
    }

    @Test func `the convention decides how much each engine has`() throws {
        let result = try result(StudyFixture.definition())

        let total = try #require(result.repetitions(of: cell(StudyFixture.mps, host: "none")).first)
        let each = try #require(
            result.repetitions(of: cell(StudyFixture.mps, host: "none", convention: .perEngine)).first)
        #expect(total.sequencesPerEngine == 16 && each.sequencesPerEngine == 32)
    }

    @Test func `the same seed gives the same numbers`() throws {
        let study = try StudyFixture.simulated(StudyFixture.definition())
        let task = StudyFixture.definition().tasks()[31]

        #expect(study.measure(task) == study.measure(task))
    }

    @Test func `a cache that is too small for the batch holds what fits, and equal caches hold equally many`() throws {
        var definition = StudyFixture.definition(
            contexts: [2048], batches: [1 << 18], hosts: [StudyFixture.noHost],
            arms: [StudyFixture.one, StudyFixture.mps])
        definition.caches = [.memory, .equal, .unlimited]
        definition.repetitions = 1
        let result = try result(definition)

        func running(_ arm: StudyArm, _ cache: StudyDefinition.Cache) throws -> Double {
            var cell = cell(arm, host: "none", context: 2048, batch: 1 << 18)
            cell.cache = cache
            return try #require(result.repetitions(of: cell).first?.sequencesPerEngine)
        }
        #expect(try running(StudyFixture.one, .unlimited) == Double(1 << 18))
        #expect(try running(StudyFixture.mps, .unlimited) == Double(1 << 17))
        #expect(try running(StudyFixture.one, .memory) > 2 * running(StudyFixture.mps, .memory))
        #expect(try abs(running(StudyFixture.one, .equal) - 2 * running(StudyFixture.mps, .equal)) <= 1)
        #expect(result.measurements.contains { $0.notes.contains { $0.hasPrefix("the cache holds") } })
    }

    @Test func `models that do not fit are refused before anything is measured`() throws {
        let large = try #require(BuiltInModel.named("qwen2.5-7b")).description
        let definition = StudyFixture.definition()

        #expect {
            try SimulatedStudy(
                definition: definition, device: DeviceParameters.named("l4"), models: ["tiny": large])
        } throws: { "\($0)".contains("do not fit") && "\($0)".contains("--models") }
        #expect { try StudyFixture.simulated(StudyFixture.definition(contexts: [5000])) } throws: {
            "\($0)".contains("5000 tokens exceed")
        }
        #expect(throws: StudyError.self) {
            try SimulatedStudy(definition: definition, device: DeviceParameters.named("h100"), models: [:])
        }
    }

    @Test func `a cell in which nothing fits fails and says why`() throws {
        var definition = StudyFixture.definition(
            contexts: [4000], batches: [64], hosts: [StudyFixture.noHost],
            arms: [
                StudyFixture.one,
                StudyArm(
                    id: "many", title: "many", engines: 64, sharing: .inProcess, isAsynchronous: false),
            ])
        definition.repetitions = 1
        var device = try DeviceParameters.named("h100")
        device.memoryBytes = 1.8 * 1_073_741_824
        let study = try SimulatedStudy(definition: definition, device: device, models: ["tiny": StudyFixture.model])
        let measurements = definition.tasks().map(study.measure)

        let failed = measurements.filter { $0.failure != nil }
        #expect(failed.allSatisfy { $0.cell.arm == "many" && $0.failure?.contains("no sequence of 4000") == true })
        #expect(failed.count == 2)
    }

    @Test func `a batch that cannot be split evenly fails`() throws {
        let definition = StudyFixture.definition(
            contexts: [256], batches: [3], hosts: [StudyFixture.noHost], arms: [StudyFixture.one, StudyFixture.mps])
        let failures = try result(definition).failures
        #expect(!failures.isEmpty)
        #expect(failures.allSatisfy { $0.cell.convention == .total && $0.cell.arm == "mps" })
        #expect(failures.allSatisfy { $0.failure == "a batch of 3 cannot be split evenly over 2 engines" })
    }

    @Test func `requests wait for a front end that is busy`() throws {
        let slow = StudyDefinition.Host(
            name: "front", secondsPerStep: 1e-3, secondsPerSequence: 0, frontEndPerRequest: 0.5, source: "assumed")
        let definition = StudyFixture.definition(
            phase: .serving, contexts: [128], batches: [], hosts: [slow],
            arms: [StudyFixture.one, StudyFixture.mps, StudyFixture.inside], loads: [16], repetitions: 1)
        let measurements = try result(definition).measurements.filter { $0.cell.convention == .total }
        let rates = measurements.map { $0.requestsPerSecond ?? 0 }
        // Two a second of one front end, four of two; two engines in one process have one.
        #expect(measurements.map(\.cell.arm) == ["one", "mps", "inside"])
        for (rate, expected) in zip(rates, [2.0, 4, 2]) { #expect(abs(rate - expected) < 0.2, "\(rates)") }
        #expect(measurements.allSatisfy { ($0.timeToFirstToken?.mean ?? 0) > 5 })
    }

    @Test func `a front end that is the bottleneck gives what there are engines`() throws {
        let slow = StudyDefinition.Host(
            name: "front", secondsPerStep: 1e-3, secondsPerSequence: 0, frontEndPerRequest: 0.5, source: "assumed")
        let definition = StudyFixture.definition(
            phase: .prefill, contexts: [256], batches: [8], hosts: [slow],
            arms: [StudyFixture.one, StudyFixture.mps, StudyFixture.inside])
        let result = try result(definition)
        func gain(_ arm: StudyArm) throws -> Double {
            try #require(
                result.gain(of: cell(arm, host: "front", context: 256, phase: .prefill, batch: 8))
            ).value
        }

        #expect(try abs(gain(StudyFixture.mps) - 1) < 1e-9)
        // One process has one front end.
        #expect(try abs(gain(StudyFixture.inside)) < 1e-9)
    }

    @Test func `load is served to the end, the same arrivals by each arm`() throws {
        let definition = StudyFixture.definition(
            phase: .serving, contexts: [128], batches: [], hosts: [StudyFixture.host],
            arms: [StudyFixture.one, StudyFixture.ahead, StudyFixture.mps, StudyFixture.inside], loads: [4],
            repetitions: 1)
        let result = try result(definition)

        #expect(result.failures.isEmpty)
        let total = result.measurements.filter { $0.cell.convention == .total }
        #expect(Set(total.map(\.completed)).count == 1)
        for measurement in result.measurements {
            let (first, end) = (try #require(measurement.timeToFirstToken), try #require(measurement.endToEnd))
            #expect(first.mean > 1e-3 && end.mean > first.mean && end.p99 >= end.p50)
            #expect(measurement.notes.isEmpty && (measurement.completed ?? 0) > 60)
            #expect(abs((measurement.generatedTokensPerSecond ?? 0) / 8 - Double(measurement.completed ?? 0) / 30) < 1)
        }
        let within = try #require(
            result.within(
                latency: 1, cell(StudyFixture.ahead, host: "some", context: 128, phase: .serving, batch: nil, load: 4)))
        #expect(within.gain != nil)
    }

    @Test func `too much load is reported as such`() throws {
        let definition = StudyFixture.definition(
            phase: .serving, contexts: [2048], batches: [],
            hosts: [
                StudyDefinition.Host(name: "slow", secondsPerStep: 0.5, secondsPerSequence: 0, source: "assumed")
            ], arms: [StudyFixture.one], loads: [40], repetitions: 1)
        let measurement = try #require(try result(definition).measurements.first)

        #expect(measurement.notes.contains { $0.contains("lower bounds") })
        #expect((measurement.endToEnd?.mean ?? 0) > 4)
    }

    @Test func `table T1 is counted from the description`() throws {
        let definition = StudyDefinition(
            figure: "T", title: "T", question: "T", phase: .resources, models: ["tiny"], contexts: [1024], arms: [],
            repetitions: 1, device: "simulated:h100")
        let counts = try definition.counts(models: ["tiny": StudyFixture.model])

        let attention = try #require(counts.first { $0.part == "attention" && $0.phase == "prefill" })
        #expect(abs(attention.operationsGrowth - 2) < 0.01)
        let mlp = try #require(counts.first { $0.part == "MLP" && $0.phase == "decode" })
        #expect(mlp.operationsGrowth == 0 && mlp.operations == Double(2 * 3 * 256 * 512 * 4))
        #expect(throws: StudyError.self) { try definition.counts(models: [:]) }
    }

    /// Probes of two machines of a kind have the same sources in words.
    @Test func `a header knows the times that it assumes`() throws {
        let definition = StudyFixture.definition(arms: [StudyFixture.one])
        let device = try DeviceParameters.named("h100")
        func parameters(_ change: (inout DeviceParameters) -> Void) throws -> [String: String] {
            var device = device
            change(&device)
            return try SimulatedStudy(definition: definition, device: device, models: ["tiny": StudyFixture.model])
                .parameters
        }
        let own = try parameters { _ in }
        #expect(try parameters { $0.product.tensorShare /= 2 } != own)
        #expect(try parameters { $0.decodeAttention.share /= 2 } != own)
        #expect(try parameters { $0.prefillAttention.fixedSeconds *= 2 } != own)
        #expect(try parameters { $0.elementwise.memoryShare /= 2 } != own)
    }
}
