// Tandem — Apache-2.0

import GPUModel
import LanguageModel
import Testing

@testable import VirtualDevice

@Suite struct DeviceStateTests {
    /// Seconds of a step alone, by the model itself.
    private func alone(_ work: StepWork, mps: Bool, model name: String = "qwen2.5-0.5b") throws -> Double {
        let device = try DeviceParameters.named("h100")
        let description = try #require(BuiltInModel.named(name)).description
        let profile = StepModel(model: description, device: device).profile(
            StepShape(
                decoding: work.decoding, context: work.context, prompts: work.prompts, promptLength: work.promptLength))
        return (mps ? profile.addingToEachKernel(device.sharing.mpsKernelSeconds) : profile).seconds
    }

    @Test(arguments: [true, false])
    func aStepAloneTakesWhatTheModelSays(usesMPS: Bool) throws {
        var fixture = try DeviceFixture(usesMPS: usesMPS)
        try fixture.connect(1)
        #expect(fixture.welcomed == [1])
        #expect(fixture.granted == [1])
        let start = fixture.now
        fixture.submit(1, from: 1)
        fixture.run(seconds: 0.1)
        #expect(fixture.done.map(\.step) == [1])
        let took = Double(try #require(fixture.done.first).due - start) / 1e9
        #expect(abs(took - (try alone(DeviceFixture.decode, mps: usesMPS))) < 1e-6)
    }

    @Test func stepsOfAClientFollowOneAnother() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        let start = fixture.now
        for step in 1...3 { fixture.submit(UInt64(step), from: 1) }
        fixture.run(seconds: 0.1)
        #expect(fixture.done.map(\.step) == [1, 2, 3])
        let one = try alone(DeviceFixture.decode, mps: true)
        for (index, done) in fixture.done.enumerated() {
            #expect(abs(Double(done.due - start) / 1e9 - Double(index + 1) * one) < 1e-6)
        }
    }

    /// The timeline computes ahead and throws away: what comes out is what the shared device says, driven directly.
    @Test(arguments: [true, false])
    func severalClientsShareAsTheModelSays(usesMPS: Bool) throws {
        var fixture = try DeviceFixture(usesMPS: usesMPS)
        let device = try DeviceParameters.named("h100")
        var direct = SharedDevice(
            policy: usesMPS ? .leftover : .timeSliced, parameters: device.sharing,
            shares: Array(repeating: 1, count: 48))
        let start = fixture.now
        var expected: [(client: Int, time: Double)] = []
        func profile(_ work: StepWork) throws -> SharedDevice.Program {
            let description = try #require(BuiltInModel.named("qwen2.5-0.5b")).description
            let profile = StepModel(model: description, device: device).profile(
                StepShape(
                    decoding: work.decoding, context: work.context, prompts: work.prompts,
                    promptLength: work.promptLength))
            return SharedDevice.Program(
                usesMPS ? profile.addingToEachKernel(device.sharing.mpsKernelSeconds) : profile,
                latencyOccupancy: device.sharing.latencyOccupancy)
        }
        for client in 0..<3 { try fixture.connect(client + 1) }
        // Submissions in the middle of what runs, a few behind those before.
        for step in 0..<12 {
            let (client, at) = (step % 3, Double(step) * 0.00037)
            let work = StepWork(decoding: Double(64 + 32 * step), context: 512)
            while direct.now < at {
                for done in direct.advance(to: at) { expected.append((done.client, done.time)) }
            }
            direct.submit(try profile(work), client: client)
            fixture.run(until: start + UInt64(at * 1e9))
            fixture.submit(UInt64(step + 1), work, from: client + 1)
        }
        while direct.hasWork { for done in direct.advance(to: 10) { expected.append((done.client, done.time)) } }
        fixture.run(seconds: 1)
        #expect(fixture.done.count == 12)
        #expect(fixture.done.map { $0.connection - 1 } == expected.map(\.client))
        for (done, wanted) in zip(fixture.done, expected) {
            #expect(abs(Double(done.due - start) / 1e9 - wanted.time) < 2e-6)
        }
    }

    @Test func ablatedModelsTakeLess() throws {
        var times: [Ablation: UInt64] = [:]
        for ablation in Ablation.allCases {
            var fixture = try DeviceFixture()
            try fixture.connect(1, ablation: ablation)
            let start = fixture.now
            fixture.submit(1, from: 1)
            fixture.run(seconds: 0.1)
            times[ablation] = try #require(fixture.done.first).due - start
        }
        #expect(try #require(times[.attentionOnly]) < #require(times[.full]))
        #expect(try #require(times[.mlpOnly]) < #require(times[.full]))
    }

    @Test func memoryIsTheGPUs() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1, keyValueBytes: 40 << 30)
        try fixture.connect(2, keyValueBytes: 40 << 30)
        #expect(fixture.granted == [1])
        let failure = try #require(fixture.failures.first).failure
        #expect(failure.code == 2)
        #expect(failure.message.contains("out of memory on the simulated h100"))
        #expect(failure.message.contains("40 GiB of keys and values"))
        #expect(failure.message.contains("of 80 GiB that another client"))
        // Nothing was taken, and the next one may be smaller.
        fixture.send(.allocate(keyValueBytes: 30 << 30), from: 2)
        #expect(fixture.granted == [1, 2])
        fixture.disconnect(1)
        try fixture.connect(3, keyValueBytes: 40 << 30)
        #expect(fixture.granted == [1, 2, 3])
        var huge = try DeviceFixture()
        try huge.connect(1, keyValueBytes: .max)
        #expect(huge.granted.isEmpty)
        #expect(try #require(huge.failures.first).failure.code == 2)
    }

    @Test func contextsTakeMemoryToo() throws {
        var fixture = try DeviceFixture(gpu: "l4")
        for connection in 1...16 {
            try fixture.connect(connection, keyValueBytes: 0)
        }
        let codes = Set(fixture.failures.map(\.failure.code))
        #expect(codes == [2])
        #expect(fixture.welcomed.count < 16)
        #expect(fixture.state.report(at: fixture.now).usedBytes <= 24 << 30)
    }

    @Test func onlySoManyClients() throws {
        var fixture = try DeviceFixture(mostClients: 2)
        for connection in 1...3 { try fixture.connect(connection, keyValueBytes: 1 << 20) }
        #expect(fixture.welcomed == [1, 2])
        #expect(fixture.failures.first?.failure.code == 808)
        #expect(fixture.closed.contains(3))
    }

    @Test func messagesInTheWrongOrderEndAClient() throws {
        var fixture = try DeviceFixture()
        fixture.submit(1, from: 1)
        #expect(fixture.closed == [1])
        try fixture.connect(2)
        fixture.send(.allocate(keyValueBytes: 1), from: 2)
        #expect(fixture.closed == [1, 2])
        try fixture.connect(3)
        for step in 1...20 where !fixture.closed.contains(3) { fixture.submit(UInt64(step), from: 3) }
        #expect(fixture.closed == [1, 2, 3])
        #expect(fixture.state.report(at: fixture.now).clients == 0)
        fixture.run(seconds: 1)
        #expect(fixture.done.isEmpty)
    }

    @Test func aClientThatGoesTakesItsWorkAlong() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        try fixture.connect(2)
        let start = fixture.now
        fixture.submit(1, from: 1)
        fixture.submit(1, from: 2)
        fixture.disconnect(1)
        fixture.run(seconds: 0.1)
        #expect(fixture.done.map(\.connection) == [2])
        let took = Double(try #require(fixture.done.first).due - start) / 1e9
        #expect(abs(took - (try alone(DeviceFixture.decode, mps: true))) < 1e-6)
    }

    @Test func componentsAddUpToWhatTheStepTook() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        let start = fixture.now
        fixture.submit(1, from: 1)
        var sum: UInt64 = 0
        while sum == 0 {
            fixture.now = fixture.state.nextDeadline
            for case .complete(let done, _, _) in fixture.state.timePassed(at: fixture.now) {
                sum = done.attention + done.mlp + done.rest
                #expect(done.attention > 0 && done.mlp > 0 && done.rest > 0)
            }
        }
        #expect(abs(Double(sum) - Double(fixture.now - start)) < 2000)
    }

    @Test func lagIsReportedAndTooMuchOfItIsAnError() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        for step in 1...200 {
            fixture.submit(UInt64(step), from: 1)
            // Nobody looks before twice the time is over.
            fixture.now += 10_000_000
            fixture.take(fixture.state.timePassed(at: fixture.now))
        }
        let report = fixture.state.report(at: fixture.now)
        #expect(report.isLate)
        #expect(report.lagMillionths > 500_000)
        #expect(fixture.logs.contains { $0.hasPrefix("error: it lags behind") })
        let status = try fixture.control("status")
        #expect(status.contains(#""late":true"#))
        for step in 201...2000 {
            fixture.submit(UInt64(step), from: 1)
            fixture.run(seconds: 0.006)
        }
        #expect(!fixture.state.report(at: fixture.now).isLate)
        #expect(fixture.logs.contains { $0.hasPrefix("it keeps up again") })
        #expect(fixture.state.lag.worst > 0.5)
    }

    @Test func aReportComesEverySecond() throws {
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        fixture.run(seconds: 5.5)
        let reports = fixture.notices.compactMap { if case .report(let report) = $0 { report } else { nil } }
        #expect(reports.count == 5)
        #expect(reports.allSatisfy { $0.clients == 1 && $0.memoryBytes == 80 << 30 })
    }
}
