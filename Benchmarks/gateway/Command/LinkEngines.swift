// Tandem — Apache-2.0

import EngineLink
import GatewayLoad
import NIOCore
import Requests

/// Engines behind engine links that compute nothing: each gives every sequence a token a step, the first one at once.
/// All of them live on one event loop.
final class LinkEngines: Sendable {
    let addresses: [String]
    /// When they were told to cancel.
    let cancels = CancelTimes()
    private let engines: [LinkEngine]

    /// - Parameter tokens: ids of the tokens that are sent, by their index in `gateway_load_token`.
    init(count: Int, folder: String, fingerprint: Digest128, tokens: [TokenID], on eventLoop: any EventLoop)
        async throws
    {
        var engines: [LinkEngine] = []
        var addresses: [String] = []
        for index in 0..<count {
            let engine = LinkEngine(tokens: tokens, cancels: cancels, eventLoop: eventLoop)
            let hello = EngineHello(
                engineIndex: UInt32(index), pid: 0, modelName: "mock", modelFingerprint: fingerprint,
                tokenizerFingerprint: fingerprint, vocabularySize: 1 << 20, blockSize: 16, hashSeed: 0,
                keyValueBlocks: 1 << 20, maximumContextLength: 1 << 20, maximumSequences: 1 << 16, device: "none")
            let server = try await EngineLinkServer.start(
                at: .unix(path: "\(folder)/engine-\(index).sock"), hello: hello, on: eventLoop, delegate: engine
            ).get()
            try await engine.start(server)
            engines.append(engine)
            addresses.append("\(server.address)")
        }
        self.engines = engines
        self.addresses = addresses
    }
}

/// One of them.
private final class LinkEngine: EngineLinkServerDelegate {
    private let eventLoop: any EventLoop
    private let state: NIOLoopBoundBox<Sequences>

    init(tokens: [TokenID], cancels: CancelTimes, eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        state = .makeBoxSendingValue(Sequences(tokens: tokens, cancels: cancels), eventLoop: eventLoop)
    }

    func start(_ server: EngineLinkServer) async throws {
        try await eventLoop.submit { [state] in
            state.value.server = server
            state.value.due = .now()
        }.get()
        eventLoop.execute { self.step() }
    }

    func linkOpened(_ connection: LinkConnectionID, hello: ClientHello) {}

    func linkReceived(_ message: LinkMessage, from connection: LinkConnectionID) {
        state.value.take(message, from: connection)
    }

    func linkClosed(_ connection: LinkConnectionID, reason: LinkError?) {
        state.value.remove(connection)
    }

    /// How long it looks away when there is nothing to send.
    private static let rest = TimeAmount.microseconds(50)

    private func step() {
        let settings = gateway_load_settings()
        guard settings.interval > 0 else {
            if state.value.step(onlyWithRoom: true) {
                eventLoop.execute { self.step() }
            } else {
                eventLoop.scheduleTask(in: Self.rest) { self.step() }
            }
            return
        }
        state.value.step()
        // A step that is late is made up for, as in an engine that is slow once.
        let next = max(state.value.due + .nanoseconds(Int64(settings.interval)), .now() - .milliseconds(20))
        state.value.due = next
        eventLoop.scheduleTask(deadline: next) { self.step() }
    }
}

/// The sequences of an engine.
private struct Sequences {
    private struct Key: Hashable {
        var connection: LinkConnectionID
        var id: RequestID
    }

    private struct Sequence {
        var key: Key
        var slot: UInt64
        var position: Int
        var maximum: Int
        var credits = UInt32.max
    }

    let tokens: [TokenID]
    let cancels: CancelTimes
    var server: EngineLinkServer?
    var due = NIODeadline.now()
    private var sequences: [Sequence] = []
    private var places: [Key: Int] = [:]
    private var steps: UInt64 = 0

    init(tokens: [TokenID], cancels: CancelTimes) {
        self.tokens = tokens
        self.cancels = cancels
    }

    mutating func take(_ message: LinkMessage, from connection: LinkConnectionID) {
        switch message {
        case .submit(let request):
            var sequence = Sequence(
                key: Key(connection: connection, id: request.id), slot: request.sampling.seed,
                position: request.resumeOffset, maximum: request.maximumNewTokens)
            steps += 1
            let output = advance(&sequence, isFirst: true)
            server?.send(.stepOutput(StepOutput(step: steps, outputs: [output])), to: connection)
            guard sequence.position < sequence.maximum else { return }
            places[sequence.key] = sequences.count
            sequences.append(sequence)
        case .cancel(let id):
            let key = Key(connection: connection, id: id)
            if let place = places[key] { cancels.note(sequences[place].slot) }
            remove(key)
        case .pause(let id):
            if let place = places[Key(connection: connection, id: id)] { sequences[place].credits = 0 }
        case .resume(let id, let credits):
            if let place = places[Key(connection: connection, id: id)] { sequences[place].credits = credits }
        default: break
        }
    }

    mutating func remove(_ connection: LinkConnectionID) {
        for key in places.keys where key.connection == connection { remove(key) }
    }

    private mutating func remove(_ key: Key) {
        guard let place = places.removeValue(forKey: key) else { return }
        let last = sequences.removeLast()
        guard place < sequences.count else { return }
        sequences[place] = last
        places[last.key] = place
    }

    /// Returns whether there was anything to do.
    @discardableResult
    mutating func step(onlyWithRoom: Bool = false) -> Bool {
        steps += 1
        var outputs: [LinkConnectionID: [SequenceOutput]] = [:]
        var finished: [Key] = []
        for place in sequences.indices where sequences[place].credits > 0 {
            let sequence = sequences[place]
            if onlyWithRoom, !gateway_load_has_room(sequence.slot, UInt32(sequence.position)) { continue }
            let output = advance(&sequences[place])
            outputs[sequences[place].key.connection, default: []].append(output)
            if output.finish != nil { finished.append(sequences[place].key) }
        }
        for key in finished { remove(key) }
        guard !outputs.isEmpty else { return false }
        server?.send(
            outputs.map { (connection: $0.key, message: .stepOutput(StepOutput(step: steps, outputs: $0.value))) })
        return true
    }

    private func advance(_ sequence: inout Sequence, isFirst: Bool = false) -> SequenceOutput {
        var output = SequenceOutput(id: sequence.key.id)
        let position = UInt32(sequence.position)
        output.tokens.append(tokens[Int(gateway_load_token(sequence.slot, position))])
        gateway_load_sent(sequence.slot, position)
        sequence.position += 1
        if sequence.credits != .max { sequence.credits -= 1 }
        if isFirst { (output.cachedPromptTokens, output.prefillMicroseconds) = (0, 0) }
        if sequence.position >= sequence.maximum { output.finish = .length }
        return output
    }
}
