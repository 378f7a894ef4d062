// Tandem — Apache-2.0

import GPUModel
import LanguageModel
import Testing

@testable import VirtualDevice

@Suite struct DeviceCodecTests {
    private func clientMessages() throws -> [ClientMessage] {
        try BuiltInModel.all.map { model in
            .hello(ClientHello(pid: 7, engine: 3, percent: 50, model: try #require(ClientModel(model.description))))
        } + [
            .allocate(keyValueBytes: .max), .allocate(keyValueBytes: 0),
            .submit(step: 1 << 40, work: StepWork(decoding: 3.5, context: 17, prompts: 2, promptLength: 100)),
        ]
    }

    private let deviceMessages: [DeviceMessage] = [
        .welcome(DeviceWelcome(name: "h100", memoryBytes: 80 << 30, usesMPS: true)), .granted(freeBytes: 12),
        .done(StepDone(step: 9, attention: 1, mlp: 2, rest: 3)),
        .failed(DeviceFailure(code: 700, concernsAll: true, message: "ü, \u{0} and “quotes”")),
    ]

    private let notices: [DeviceNotice] = [
        .report(
            DeviceReport(
                clients: 3, memoryBytes: 5, usedBytes: 4, steps: 99, lagMillionths: 12, isLate: true, isFaulted: true)),
        .dropped(engine: 4),
    ]

    @Test func messagesComeBack() throws {
        for message in try clientMessages() {
            #expect(try DeviceCodec.clientMessage(DeviceCodec.bytes(message)) == message)
        }
        for message in deviceMessages {
            #expect(try DeviceCodec.deviceMessage(DeviceCodec.bytes(message)) == message)
        }
        for notice in notices { #expect(try DeviceCodec.notice(DeviceCodec.bytes(notice)) == notice) }
        #expect(try DeviceCodec.order(DeviceCodec.bytes(DeviceOrder.drop(engine: 8))) == .drop(engine: 8))
    }

    @Test func aModelCostsTheSameAfterTheTrip() throws {
        let device = try DeviceParameters.named("h100")
        for model in BuiltInModel.all {
            for ablation in Ablation.allCases {
                var description = model.description
                description.ablation = ablation
                let back = try #require(ClientModel(description)).description
                #expect(back.parameterCount == description.parameterCount)
                #expect(back.kvGroups == description.kvGroups)
                let shape = StepShape(decoding: 17, context: 300, prompts: 2, promptLength: 100)
                #expect(
                    StepModel(model: back, device: device).profile(shape)
                        == StepModel(model: description, device: device).profile(shape))
            }
        }
    }

    @Test func cutPacketsAreRefused() throws {
        let whole =
            try clientMessages().map { DeviceCodec.bytes($0) } + deviceMessages.map { DeviceCodec.bytes($0) }
            + notices.map { DeviceCodec.bytes($0) } + [DeviceCodec.bytes(DeviceOrder.drop(engine: 8))]
        for bytes in whole {
            for count in 0..<bytes.count {
                let cut = Array(bytes[..<count])
                #expect(throws: DeviceProtocolError.self) { try DeviceCodec.clientMessage(cut) }
                #expect(throws: DeviceProtocolError.self) { try DeviceCodec.deviceMessage(cut) }
                #expect(throws: DeviceProtocolError.self) { try DeviceCodec.notice(cut) }
                #expect(throws: DeviceProtocolError.self) { try DeviceCodec.order(cut) }
            }
            #expect(throws: DeviceProtocolError.self) { try DeviceCodec.clientMessage(bytes + [0]) }
        }
    }

    /// Bytes from anywhere are refused or make a message that the device bears.
    @Test(arguments: 0..<20)
    func mutatedPacketsDoNoHarm(seed: UInt64) throws {
        var random = Walk(state: seed &+ 1)
        let originals = try clientMessages().map { DeviceCodec.bytes($0) }
        var fixture = try DeviceFixture()
        try fixture.connect(1)
        for round in 0..<300 {
            var bytes = originals[random.next(originals.count)]
            for _ in 0...random.next(4) { bytes[random.next(bytes.count)] = UInt8(truncatingIfNeeded: random.next()) }
            if random.next(8) == 0 { bytes.removeLast(random.next(bytes.count)) }
            guard let message = try? DeviceCodec.clientMessage(bytes) else { continue }
            if case .hello(let hello) = message {
                #expect(hello.model.isUsable)
                #expect(hello.model.description.parameterCount > 0)
            }
            // A long step is nothing but long.
            if case .submit(_, let work) = message, work.decoding + work.prompts * work.promptLength > 1e5 { continue }
            fixture.send(message, from: 2 + round)
            fixture.disconnect(2 + round)
        }
        fixture.submit(1, from: 1)
        fixture.run(seconds: 0.2)
        #expect(fixture.done.map(\.connection) == [1])
    }

    @Test func numbersOutOfRangeAreRefused() throws {
        func submit(_ work: StepWork) -> [UInt8] { DeviceCodec.bytes(.submit(step: 1, work: work)) }
        for work in [
            StepWork(decoding: .nan), StepWork(decoding: -1), StepWork(decoding: .infinity), StepWork(decoding: 1e300),
            StepWork(prompts: 2e6), StepWork(prompts: 1, promptLength: 1e9), StepWork(decoding: 1, context: 1e9),
        ] {
            #expect(throws: DeviceProtocolError.self) { try DeviceCodec.clientMessage(submit(work)) }
        }
        var model = try DeviceFixture.model()
        model.keyValueHeads = 0
        #expect(!model.isUsable)
        model = try DeviceFixture.model()
        model.layers = []
        #expect(!model.isUsable)
        var hello = ClientHello(pid: 1, engine: 1, model: model)
        #expect(throws: DeviceProtocolError.self) { try DeviceCodec.clientMessage(DeviceCodec.bytes(.hello(hello))) }
        hello.model = try DeviceFixture.model()
        hello.percent = 0
        #expect(throws: DeviceProtocolError.self) { try DeviceCodec.clientMessage(DeviceCodec.bytes(.hello(hello))) }
    }
}
