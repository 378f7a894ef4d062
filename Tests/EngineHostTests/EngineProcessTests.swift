// Tandem — Apache-2.0

import EngineHost
import EngineLink
import Foundation
import InferenceEngine
import LanguageModel
import NIOCore
import NIOPosix
import Requests
import TestSupport
import Testing

/// Two engines of one process.
private struct Pair {
    let first: EngineFixture
    let second: EngineFixture
    let process: EngineProcess
    /// The supervisor's end of the status socket.
    let supervisor: Int32

    static func run(
        faults: [MockExecutor.Fault] = [], isGated: Bool = false, _ body: (Pair) async throws -> Void
    ) async throws {
        let first = try EngineFixture(isGated: isGated, faults: faults)
        defer { first.shutDown() }
        let second = try EngineFixture()
        defer { second.shutDown() }
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        defer { close(ends[0]) }
        let process = try EngineProcess([first.service, second.service], statusDescriptor: ends[1])
        try await body(Pair(first: first, second: second, process: process, supervisor: ends[0]))
    }

    /// Messages to the supervisor, until one is the last that is wanted.
    func messages(until isLast: (LinkMessage) -> Bool) throws -> [LinkMessage] {
        var reader = LinkFrameReader()
        var bytes = [UInt8](repeating: 0, count: 4096)
        var messages: [LinkMessage] = []
        while true {
            while let message = try reader.next() {
                messages.append(message)
                if isLast(message) { return messages }
            }
            let count = read(supervisor, &bytes, bytes.count)
            try #require(count > 0)
            reader.append(Array(bytes[..<count]))
        }
    }
}

@Suite(.timeLimit(.minutes(10))) struct EngineProcessTests {
    @Test func theSupervisorHearsOfEachEngineAndThenOfTheProcess() async throws {
        try await Pair.run { pair in
            let messages = try pair.messages { if case .heartbeat = $0 { true } else { false } }
            #expect(
                Array(messages.prefix(2)) == [pair.first, pair.second].map { .engineHello($0.service.hello) })
            #expect(messages.count == 3)
        }
    }

    @Test func anEngineThatStandsStillIsSeenBesideOneThatRuns() async throws {
        try await Pair.run(isGated: true) { pair in
            let gateway = TestGateway(pair.first.service.address)
            _ = try await gateway.opened()
            gateway.client.send(.submit(testRequest(1, new: 4)))
            var last: UInt64?
            // The process works, and gets nowhere from some sign of life on.
            let messages = try pair.messages { message in
                guard case .heartbeat(let heartbeat) = message, heartbeat.isWorking else { return false }
                defer { last = heartbeat.progress }
                return heartbeat.progress == last
            }
            #expect(messages.count > 3)
            let other = TestGateway(pair.second.service.address)
            _ = try await other.opened()
            let beside = try await other.answer(testRequest(1)).finish
            #expect(beside == .length)
            pair.first.gate.open()
            let freed = try await gateway.answers { $0[1]?.finish != nil }[1]?.finish
            #expect(freed == .length)
            let idle = try pair.messages { if case .heartbeat(let beat) = $0 { !beat.isWorking } else { false } }
            guard case .heartbeat(let heartbeat) = idle.last else { return }
            #expect(heartbeat.progress > last ?? 0)
        }
    }

    @Test func allEnginesDrainWhenTheSupervisorAsks() async throws {
        try await Pair.run { pair in
            let drain = LinkCodec.frame(.drain)
            #expect(write(pair.supervisor, drain, drain.count) == drain.count)
            let exit = try await pair.process.ended.get()
            #expect(exit == .drained)
            let first = try await pair.first.service.ended.get()
            #expect(first == .drained)
            let second = try await pair.second.service.ended.get()
            #expect(second == .drained)
        }
    }

    @Test func aDrainedEngineWaitsForTheOthers() async throws {
        try await Pair.run(isGated: true) { pair in
            let gateway = TestGateway(pair.first.service.address)
            _ = try await gateway.opened()
            let request = testRequest(1, new: 6)
            gateway.client.send(.submit(request))
            _ = try await gateway.heartbeat(isWorking: true)
            pair.process.terminate()
            let second = try await pair.second.service.ended.get()
            #expect(second == .drained)
            pair.first.gate.open()
            let count = try await gateway.answers { $0[1]?.finish != nil }[1]?.tokens.count
            #expect(count == 6)
            let exit = try await pair.process.ended.get()
            #expect(exit == .drained)
        }
    }

    @Test func oneFailureEndsTheProcess() async throws {
        let fault = MockExecutor.Fault(
            call: .result, number: 2, error: ExecutorError(kind: .fatal, message: "the device fell off the bus"))
        try await Pair.run(faults: [fault]) { pair in
            let gateway = TestGateway(pair.first.service.address)
            _ = try await gateway.opened()
            gateway.client.send(.submit(testRequest(1, new: 50)))
            let exit = try await pair.process.ended.get()
            #expect(exit == .deviceFailed)
            pair.process.closeLinks()
        }
    }

    @Test func theEndOfTheSupervisorIsTheEndOfAll() async throws {
        try await Pair.run { pair in
            #expect(Foundation.shutdown(pair.supervisor, Int32(SHUT_RDWR)) == 0)
            let exit = try await pair.process.ended.get()
            #expect(exit == .supervisorGone)
        }
    }

    @Test func aProcessHasEngines() throws {
        #expect(throws: EngineHostError.self) { try EngineProcess([]) }
    }

    /// The whole process with the real model, if there is one.
    @Test func enginesOfAProcessAnswerAlike() async throws {
        guard let model = try ModelFixture.path() else { return }
        let directory = NSTemporaryDirectory() + "tandem-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        var options = EngineHostOptions(
            modelPath: model, addresses: (0..<2).map { .unix(path: directory + "/\($0).sock") },
            keyValueBytes: 16 << 20)
        options.index = 6
        options.maximumSequences = 2
        options.contextLength = 128
        options.tokenizerFingerprint = testTokenizer
        let process = try EngineHost.start(options, on: MultiThreadedEventLoopGroup.singleton) { _, _ in }
        defer { process.shutdown() }
        var answers: [[TokenID]] = []
        for (index, service) in process.services.enumerated() {
            #expect(service.hello.engineIndex == 6 + UInt32(index))
            let gateway = TestGateway(service.address)
            let hello = try await gateway.opened()
            #expect(hello == service.hello)
            answers.append(
                try await gateway.answer(EngineRequest(id: 1, tokens: [1, 504, 260], maximumNewTokens: 8)).tokens)
        }
        #expect(answers.count == 2 && answers[0].count == 8 && answers[0] == answers[1])
    }
}
