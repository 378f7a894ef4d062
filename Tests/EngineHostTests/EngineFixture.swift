// Tandem — Apache-2.0

import EngineHost
import EngineLink
import Foundation
import Grammar
import InferenceEngine
import LanguageModel
import NIOCore
import NIOPosix
import Requests
import Synchronization
import TestSupport

/// Lets the step thread pass only as often as it was told.
final class Gate: Sendable {
    private let isOpen = Atomic(false)
    private let permits = DispatchSemaphore(value: 0)

    /// Lets so many steps pass.
    func allow(_ steps: Int) {
        for _ in 0..<steps { permits.signal() }
    }

    /// Lets everything pass from now on.
    func open() {
        isOpen.store(true, ordering: .releasing)
        permits.signal()
    }

    func pass() {
        if isOpen.load(ordering: .acquiring) { return }
        permits.wait()
        // One permit for ever, once it is open.
        if isOpen.load(ordering: .acquiring) { permits.signal() }
    }
}

let testTokenizer = Digest128(high: 0x70, low: 0x71)
let testModel = MockModel(vocabularySize: 1000)
let testContextLength = 2048

/// An engine with a mock executor, listening at a Unix socket in a directory of its own.
struct EngineFixture {
    let service: EngineService
    let process: EngineProcess
    let directory: String
    let gate: Gate
    /// The supervisor's end of the status socket; -1 if there is none.
    let supervisor: Int32
    let lines = Inbox<String>()

    init(
        isGated: Bool = false,
        hasSupervisor: Bool = false,
        faults: [MockExecutor.Fault] = [],
        drainTimeout: TimeAmount = .minutes(5),
        socketPath: String? = nil,
        probesDevice: Bool = false,
        probeTimeout: Duration? = nil
    ) throws {
        directory = NSTemporaryDirectory() + "tandem-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        var ends: [Int32] = [-1, -1]
        if hasSupervisor { socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) }
        supervisor = ends[0]
        let gate = Gate()
        self.gate = gate
        let executor = MockExecutor(model: testModel, blockCount: 1024)
        executor.faults = faults
        if isGated { executor.onResult = { _ in gate.pass() } }
        var options = EngineServiceOptions(
            index: 5,
            modelName: "mock",
            tokenizerFingerprint: testTokenizer,
            vocabularySize: testModel.vocabularySize,
            scheduler: SchedulerConfiguration(
                slots: 8,
                tokensPerStep: 64,
                contextLength: testContextLength,
                vocabularySize: testModel.vocabularySize,
                modelFingerprint: Digest128(high: 1, low: 2),
                hashSeed: 9
            ),
            keyValueBytes: 1 << 20,
            groups: [KeyValueGroup(layers: [0], window: nil)],
            address: .unix(path: socketPath ?? directory + "/engine.sock"),
            drainTimeout: drainTimeout
        )
        options.probesDevice = probesDevice
        options.probeTimeout = probeTimeout
        options.vocabulary = { count in
            TokenVocabulary(count: count) { $0 < 256 ? [UInt8($0)] : nil }
        }
        do {
            service = try EngineService.start(
                executor: executor,
                options: options,
                on: MultiThreadedEventLoopGroup.singleton.next(),
                now: { DispatchTime.now().uptimeNanoseconds },
                log: { [lines] in lines.put($0) }
            )
            process = try EngineProcess([service], statusDescriptor: hasSupervisor ? ends[1] : nil)
        } catch {
            // A step thread that hangs there would do so for ever.
            gate.open()
            try? FileManager.default.removeItem(atPath: directory)
            throw error
        }
    }

    func shutDown() {
        gate.open()
        service.shutdown()
        if supervisor >= 0 { close(supervisor) }
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// Runs a test with an engine and shuts it down whatever happens.
    static func run<Result>(
        isGated: Bool = false,
        hasSupervisor: Bool = false,
        faults: [MockExecutor.Fault] = [],
        drainTimeout: TimeAmount = .minutes(5),
        _ body: (EngineFixture) async throws -> Result
    ) async throws -> Result {
        let fixture = try EngineFixture(
            isGated: isGated,
            hasSupervisor: hasSupervisor,
            faults: faults,
            drainTimeout: drainTimeout
        )
        do {
            let result = try await body(fixture)
            fixture.shutDown()
            return result
        } catch {
            fixture.shutDown()
            throw error
        }
    }
}

/// What one sequence yielded.
struct Answer: Equatable {
    var tokens: [TokenID] = []
    var finish: FinishReason?
    var failure: RequestFailure?
    var cachedPromptTokens: Int?
    var score: PromptScore?
}

/// A gateway's link with what it heard.
struct TestGateway {
    let client: EngineLinkClient
    private let events = Inbox<EngineLinkClient.Event>()

    init(_ address: LinkAddress, hello: ClientHello = ClientHello(tokenizerFingerprint: testTokenizer, pid: 1)) {
        client = EngineLinkClient.connect(
            to: address,
            hello: hello,
            timeout: .minutes(10),
            on: MultiThreadedEventLoopGroup.singleton.next()
        ) { [events] event in
            events.put(event)
            if case .closed = event { events.finish() }
        }
    }

    struct Unexpected: Error {
        var event: EngineLinkClient.Event?
    }

    func opened() async throws -> EngineHello {
        let event = await events.next()
        guard case .opened(let hello) = event else { throw Unexpected(event: event) }
        return hello
    }

    /// The reason of the close that follows what else arrives.
    func closed() async throws -> LinkError {
        while let event = await events.next() {
            if case .closed(let error) = event { return error }
        }
        throw Unexpected()
    }

    /// The next statistics for which `condition` holds.
    func statistics(where condition: (EngineStatistics) -> Bool = { _ in true }) async throws -> EngineStatistics {
        while let event = await events.next() {
            if case .message(.statistics(let statistics)) = event, condition(statistics) { return statistics }
        }
        throw Unexpected()
    }

    /// The next heartbeat, or the next of an engine that works or does not, or the next with another progress.
    func heartbeat(isWorking: Bool? = nil, beyond progress: UInt64? = nil) async throws -> Heartbeat {
        while let event = await events.next() {
            guard case .message(let message) = event, case .heartbeat(let heartbeat) = message else { continue }
            let isWanted = heartbeat.isWorking == isWorking ?? heartbeat.isWorking && heartbeat.progress != progress
            if isWanted { return heartbeat }
        }
        throw Unexpected()
    }

    /// Outputs until `condition` holds of the sequences' answers.
    func answers(until condition: ([RequestID: Answer]) -> Bool) async throws -> [RequestID: Answer] {
        var answers: [RequestID: Answer] = [:]
        while !condition(answers) {
            let event = await events.next()
            guard case .message(let message) = event else { throw Unexpected(event: event) }
            guard case .stepOutput(let step) = message else { continue }
            for output in step.outputs {
                answers[output.id, default: Answer()].tokens += output.tokens
                if let finish = output.finish { answers[output.id]?.finish = finish }
                if let score = output.score { answers[output.id]?.score = score }
                if let failure = output.failure { answers[output.id]?.failure = failure }
                if let cached = output.cachedPromptTokens { answers[output.id]?.cachedPromptTokens = cached }
            }
        }
        return answers
    }

    /// What a request yields to its end.
    func answer(_ request: EngineRequest) async throws -> Answer {
        client.send(.submit(request))
        return try await answers { $0[request.id]?.finish != nil }[request.id] ?? Answer()
    }
}

func testRequest(_ id: RequestID, promptCount: Int = 5, new: Int = 20, first: TokenID = 1) -> EngineRequest {
    EngineRequest(
        id: id,
        tokens: (0..<TokenID(promptCount)).map { ($0 * 7 + first) % TokenID(testModel.vocabularySize) },
        maximumNewTokens: new
    )
}
