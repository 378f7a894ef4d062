// Tandem — Apache-2.0

import GPUModel
import LanguageModel
import Testing

@testable import VirtualDevice

/// A device without a process: time passes when it is told to.
struct DeviceFixture {
    var state: DeviceState
    var now: UInt64 = 5_000_000_000
    /// What was done, by connection.
    var done: [(connection: Int, step: UInt64, due: UInt64)] = []
    var failures: [(connection: Int, failure: DeviceFailure)] = []
    var welcomed: [Int] = []
    var granted: [Int] = []
    var closed: [Int] = []
    var notices: [DeviceNotice] = []
    var logs: [String] = []

    init(usesMPS: Bool = true, gpu: String = "h100", mostClients: Int = 48) throws {
        state = DeviceState(
            DeviceState.Settings(
                device: try DeviceParameters.named(gpu), usesMPS: usesMPS, mostClients: mostClients), at: now)
        // The first report.
        take(state.timePassed(at: now))
        notices = []
    }

    static func model(_ name: String = "qwen2.5-0.5b", ablation: Ablation = .full) throws -> ClientModel {
        var description = try #require(BuiltInModel.named(name)).description
        description.ablation = ablation
        return try #require(ClientModel(description))
    }

    mutating func take(_ effects: [DeviceState.Effect]) {
        for effect in effects {
            switch effect {
            case .send(.welcome, let connection): welcomed.append(connection)
            case .send(.granted, let connection): granted.append(connection)
            case .send(.failed(let failure), let connection): failures.append((connection, failure))
            case .send(.done, _): Issue.record("a step that is done is a completion")
            case .complete(let step, let connection, let delivery):
                done.append((connection, step.step, delivery.due))
                state.delivered(delivery, at: now)
            case .close(let connection): closed.append(connection)
            case .tell(let notice): notices.append(notice)
            case .log(let text): logs.append(text)
            }
        }
    }

    mutating func send(_ message: ClientMessage, from connection: Int) {
        take(state.received(message, from: connection, at: now))
    }

    /// A client that may submit.
    mutating func connect(
        _ connection: Int, engine: UInt32? = nil, model: String = "qwen2.5-0.5b", ablation: Ablation = .full,
        percent: UInt8 = 100, keyValueBytes: UInt64 = 1 << 30
    ) throws {
        send(
            .hello(
                ClientHello(
                    pid: 100 + Int32(connection), engine: engine ?? UInt32(connection), percent: percent,
                    model: try Self.model(model, ablation: ablation))), from: connection)
        guard !closed.contains(connection) else { return }
        send(.allocate(keyValueBytes: keyValueBytes), from: connection)
    }

    static let decode = StepWork(decoding: 256, context: 128)

    mutating func submit(_ step: UInt64, _ work: StepWork = Self.decode, from connection: Int) {
        send(.submit(step: step, work: work), from: connection)
    }

    /// Lets time pass to every deadline in turn, as the process does.
    mutating func run(until end: UInt64) {
        while state.nextDeadline <= end {
            now = max(now, state.nextDeadline)
            take(state.timePassed(at: now))
        }
        now = max(now, end)
        take(state.timePassed(at: now))
    }

    mutating func run(seconds: Double) { run(until: now + UInt64(seconds * 1e9)) }

    mutating func control(_ line: String) throws -> String {
        let (answer, effects) = state.control(try ControlCommand(line.utf8), at: now)
        take(effects)
        return String(decoding: answer, as: UTF8.self)
    }

    mutating func disconnect(_ connection: Int) { take(state.disconnected(connection, at: now)) }
}
