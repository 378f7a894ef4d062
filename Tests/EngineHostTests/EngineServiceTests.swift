// Tandem — Apache-2.0

import EngineHost
import EngineLink
import Foundation
import InferenceEngine
import NIOCore
import Requests
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(10))) struct EngineServiceTests {
    private func expected(_ request: EngineRequest) -> [TokenID] {
        testModel.answer(request, limit: testContextLength).tokens
    }

    @Test func helloSaysWhatTheEngineIs() async throws {
        try await EngineFixture.run { engine in
            let gateway = TestGateway(engine.service.address)
            let hello = try await gateway.opened()
            #expect(hello == engine.service.hello)
            #expect(hello.engineIndex == 5)
            #expect(hello.vocabularySize == 1000)
            #expect(hello.keyValueBlocks == 1024)
            #expect(hello.maximumContextLength == UInt32(testContextLength))
            #expect(hello.maximumSequences == 8)
            #expect(hello.blockSize == 16)
            #expect(hello.hashSeed == 9)
            #expect(hello.pid == getpid())
        }
    }

    @Test func requestsStreamWhatTheModelYields() async throws {
        try await EngineFixture.run { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            let requests = (1...20).map { testRequest($0, promptCount: Int($0) * 9, new: 30, first: TokenID($0)) }
            for request in requests { gateway.client.send(.submit(request)) }
            let answers = try await gateway.answers { answers in
                requests.allSatisfy { answers[$0.id]?.finish != nil }
            }
            for request in requests {
                #expect(answers[request.id]?.tokens == expected(request))
                #expect(answers[request.id]?.finish == .length)
                #expect(answers[request.id]?.cachedPromptTokens != nil)
            }
        }
    }

    private static func choice(_ texts: String...) -> GrammarSource {
        GrammarSource(kind: .choice, text: "[" + texts.map { "\"\($0)\"" }.joined(separator: ",") + "]")
    }

    @Test func requestsFollowTheirGrammars() async throws {
        try await EngineFixture.run { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            let texts = ["yes", "no", "perhaps"]
            for id in 1...12 {
                var request = testRequest(RequestID(id), first: TokenID(id))
                request.grammar = Self.choice("yes", "no", id % 2 == 0 ? "perhaps" : "maybe")
                gateway.client.send(.submit(request))
            }
            let answers = try await gateway.answers { $0.count == 12 && $0.values.allSatisfy { $0.finish != nil } }
            for (id, answer) in answers {
                #expect(answer.finish == .complete)
                let text = String(decoding: answer.tokens.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
                #expect((id % 2 == 0 ? texts : ["yes", "no", "maybe"]).contains(text), "\(text)")
            }
        }
    }

    @Test func grammarsThatCannotBeCompiledAreRefused() async throws {
        try await EngineFixture.run { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            var request = testRequest(1)
            request.grammar = GrammarSource(kind: .choice, text: "no array")
            let answer = try await gateway.answer(request)
            #expect(answer.finish == .failed)
            #expect(answer.failure?.kind == .invalid)
            // The engine goes on.
            #expect(try await gateway.answer(testRequest(2)).finish == .length)
        }
    }

    @Test func commandsReachSequencesWhoseGrammarIsBeingCompiled() async throws {
        try await EngineFixture.run { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            var request = testRequest(1)
            request.grammar = Self.choice(String(repeating: "a", count: 200))
            gateway.client.send(.submit(request))
            gateway.client.send(.cancel(1))
            let answer = try await gateway.answers { $0[1]?.finish != nil }[1]
            #expect(answer?.finish == .cancelled)
        }
    }

    @Test func promptsAreScored() async throws {
        try await EngineFixture.run { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            var request = testRequest(1, new: 0)
            request.pooling = .last
            request.labelTokens = [3, 4]
            let expected = testModel.answer(request, limit: testContextLength)
            let answer = try await gateway.answer(request)
            #expect(answer.score == expected.score)
            #expect(answer.finish == .length)
        }
    }

    @Test func twoGatewaysWithTheSameIdsGetTheirOwn() async throws {
        try await EngineFixture.run(isGated: true) { engine in
            let one = TestGateway(engine.service.address)
            let two = TestGateway(engine.service.address)
            _ = try await one.opened()
            _ = try await two.opened()
            let first = testRequest(1, first: 3)
            let second = testRequest(1, first: 4)
            one.client.send(.submit(first))
            two.client.send(.submit(second))
            engine.gate.open()
            #expect(try await one.answers { $0[1]?.finish != nil }[1]?.tokens == expected(first))
            #expect(try await two.answers { $0[1]?.finish != nil }[1]?.tokens == expected(second))
        }
    }

    @Test func cancelledSequenceEndsAndOthersDoNot() async throws {
        try await EngineFixture.run(isGated: true) { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            let long = testRequest(1, new: 1900)
            let short = testRequest(2, new: 40, first: 9)
            gateway.client.send(.submit(long))
            engine.gate.allow(3)
            let begun = try await gateway.answers { ($0[1]?.tokens.count ?? 0) >= 1 }
            gateway.client.send(.submit(short))
            gateway.client.send(.cancel(1))
            // Commands for what does not exist are for nobody.
            gateway.client.send(.cancel(99))
            // A refusal says that the engine has read all that came before.
            gateway.client.send(.submit(EngineRequest(id: 9, tokens: [], maximumNewTokens: 1)))
            let read = try await gateway.answers { $0[9]?.finish != nil }
            engine.gate.open()
            let rest = try await gateway.answers { $0[1]?.finish != nil && $0[2]?.finish != nil }
            #expect(rest[1]?.finish == .cancelled)
            let tokens = [begun, read, rest].flatMap { $0[1]?.tokens ?? [] }
            #expect(tokens.count < 1900)
            #expect(tokens[...] == expected(long).prefix(tokens.count))
            #expect(rest[2]?.tokens == expected(short))
        }
    }

    @Test func pausedSequenceGoesOnWhenResumed() async throws {
        try await EngineFixture.run(isGated: true) { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            let request = testRequest(1, new: 60)
            gateway.client.send(.submit(request))
            engine.gate.allow(2)
            var tokens = try await gateway.answers { ($0[1]?.tokens.count ?? 0) >= 1 }[1]?.tokens ?? []
            gateway.client.send(.pause(1))
            // A refusal says that the engine has read all that came before.
            gateway.client.send(.submit(EngineRequest(id: 9, tokens: [], maximumNewTokens: 1)))
            tokens += try await gateway.answers { $0[9]?.finish != nil }[1]?.tokens ?? []
            engine.gate.open()
            // A paused sequence runs no more: another one comes to its end meanwhile.
            gateway.client.send(.submit(testRequest(2, new: 100)))
            let paused = try await gateway.answers { $0[2]?.finish != nil }
            #expect(paused[1]?.finish == nil)
            tokens += paused[1]?.tokens ?? []
            #expect(tokens.count < 60)
            gateway.client.send(.resume(1, credits: .max))
            tokens += try await gateway.answers { $0[1]?.finish != nil }[1]?.tokens ?? []
            #expect(tokens == expected(request))
        }
    }

    @Test func lostGatewayTakesItsRequestsAlong() async throws {
        try await EngineFixture.run(isGated: true) { engine in
            let lost = TestGateway(engine.service.address)
            _ = try await lost.opened()
            for id in 1...3 { lost.client.send(.submit(testRequest(RequestID(id), new: 1900))) }
            engine.gate.allow(3)
            _ = try await lost.answers { $0[1] != nil }
            lost.client.close()
            _ = try await lost.closed()
            let other = TestGateway(engine.service.address)
            _ = try await other.opened()
            // Whatever the event loop heard before this, the end of the first link included, has reached the engine.
            try await engine.service.ended.eventLoop.submit {}.get()
            let request = testRequest(1, new: 40, first: 11)
            other.client.send(.submit(request))
            engine.gate.open()
            #expect(try await other.answers { $0[1]?.finish != nil }[1]?.tokens == expected(request))
            let idle = try await other.statistics { $0.runningSequences == 0 && $0.waitingSequences == 0 }
            #expect(idle.generatedTokens < 1900)
            #expect(idle.steps > 0)
        }
    }

    @Test func badRequestsFailAloneAndNothingElse() async throws {
        try await EngineFixture.run { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            var bad = testRequest(1)
            bad.tokens = [5000]
            let refused = try await gateway.answer(bad)
            #expect(refused.finish == .failed)
            #expect(refused.failure?.kind == .invalid)
            #expect(refused.failure?.message.contains("5000") == true)
            let long = try await gateway.answer(testRequest(2, promptCount: testContextLength + 1))
            #expect(long.failure?.kind == .doesNotFit)
            // The id is free again.
            let good = testRequest(1)
            #expect(try await gateway.answer(good).tokens == expected(good))
        }
    }

    @Test func idInUseClosesOnlyThatLink() async throws {
        try await EngineFixture.run(isGated: true) { engine in
            let good = TestGateway(engine.service.address)
            _ = try await good.opened()
            let request = testRequest(1)
            good.client.send(.submit(request))
            let bad = TestGateway(engine.service.address)
            _ = try await bad.opened()
            bad.client.send(.submit(request))
            bad.client.send(.submit(request))
            let error = try await bad.closed()
            #expect(error.code == .malformed)
            #expect(error.message.contains("id 1 is in use"))
            engine.gate.open()
            #expect(try await good.answers { $0[1]?.finish != nil }[1]?.tokens == expected(request))
        }
    }

    @Test func wrongTokenizerAndVersionAreRefused() async throws {
        try await EngineFixture.run { engine in
            let stranger = ClientHello(tokenizerFingerprint: Digest128(high: 1, low: 1), pid: 1)
            let refused = TestGateway(engine.service.address, hello: stranger)
            #expect(try await refused.closed().code == .fingerprint)
            let future = ClientHello(version: 999, tokenizerFingerprint: testTokenizer, pid: 1)
            let old = TestGateway(engine.service.address, hello: future)
            #expect(try await old.closed().code == .version)
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            #expect(try await gateway.answer(testRequest(1)).finish == .length)
        }
    }

    @Test func laterGatewayLearnsOfCachedBlocks() async throws {
        try await EngineFixture.run { engine in
            let first = TestGateway(engine.service.address)
            _ = try await first.opened()
            let request = testRequest(1, promptCount: 40, new: 4)
            _ = try await first.answer(request)
            let stored = try await first.statistics { $0.runningSequences == 0 && !$0.storedBlocks.isEmpty }
            let root = BlockHash.root(model: Digest128(high: 1, low: 2), salt: "", seed: 9)
            let block = root.next(tokens: request.tokens[..<16])
            #expect(stored.storedBlocks.contains(block))
            let second = TestGateway(engine.service.address)
            _ = try await second.opened()
            let snapshot = try await second.statistics()
            #expect(Set(snapshot.storedBlocks).isSuperset(of: stored.storedBlocks))
            #expect(snapshot.totalBlocks == 1024)
            #expect(try await second.answer(request).cachedPromptTokens == 32)
        }
    }

    @Test func drainFinishesWhatRunsAndTakesNothingNew() async throws {
        try await EngineFixture.run(isGated: true) { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            let request = testRequest(1, new: 50)
            gateway.client.send(.submit(request))
            engine.gate.allow(2)
            let begun = try await gateway.answers { ($0[1]?.tokens.count ?? 0) >= 1 }
            engine.service.terminate()
            // The event loop may read the socket before it runs what was asked of it; this waits for the latter.
            try await engine.service.ended.eventLoop.submit {}.get()
            gateway.client.send(.submit(testRequest(2)))
            let refused = try await gateway.answers { $0[2]?.finish != nil }
            #expect(refused[2]?.failure?.kind == .draining)
            #expect(refused[1]?.finish == nil)
            engine.gate.open()
            let rest = try await gateway.answers { $0[1]?.finish != nil }
            #expect([begun, refused, rest].flatMap { $0[1]?.tokens ?? [] } == expected(request))
            let exit = try await engine.service.ended.get()
            #expect(exit == .drained)
        }
    }

    @Test func idleEngineDrainsAtOnce() async throws {
        try await EngineFixture.run { engine in
            engine.service.terminate()
            let exit = try await engine.service.ended.get()
            #expect(exit == .drained)
        }
    }

    @Test func secondTerminationDoesNotWait() async throws {
        try await EngineFixture.run(isGated: true) { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            gateway.client.send(.submit(testRequest(1, new: 1900)))
            engine.gate.allow(2)
            _ = try await gateway.answers { $0[1] != nil }
            engine.service.terminate()
            engine.service.terminate()
            let exit = try await engine.service.ended.get()
            #expect(exit == .abandoned)
        }
    }

    @Test func drainHasADeadline() async throws {
        try await EngineFixture.run(isGated: true, drainTimeout: .milliseconds(10)) { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            gateway.client.send(.submit(testRequest(1, new: 1900)))
            engine.gate.allow(2)
            _ = try await gateway.answers { $0[1] != nil }
            engine.service.terminate()
            let exit = try await engine.service.ended.get()
            #expect(exit == .abandoned)
            #expect(await engine.lines.next()?.contains("longer than") == true)
        }
    }

    @Test func heartbeatsShowADeviceThatHangs() async throws {
        try await EngineFixture.run(isGated: true) { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            let idle = try await gateway.heartbeat()
            #expect(!idle.isWorking)
            gateway.client.send(.submit(testRequest(1)))
            // The step thread waits for a result that does not come; the event loop goes on beating.
            let stuck = try await gateway.heartbeat(isWorking: true)
            let later = try await gateway.heartbeat()
            #expect(later == stuck && later.progress != idle.progress)
            engine.gate.allow(2)
            _ = try await gateway.heartbeat(isWorking: true, beyond: stuck.progress)
            engine.gate.open()
            let done = try await gateway.heartbeat(isWorking: false)
            let resting = try await gateway.heartbeat()
            #expect(done == resting)
        }
    }

    @Test func aPausedSequenceIsNoWork() async throws {
        try await EngineFixture.run(isGated: true) { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            gateway.client.send(.submit(testRequest(1)))
            _ = try await gateway.heartbeat(isWorking: true)
            gateway.client.send(.pause(1))
            engine.gate.open()
            _ = try await gateway.heartbeat(isWorking: false)
        }
    }

    @Test func supervisorHearsHelloAndDrains() async throws {
        try await EngineFixture.run(hasSupervisor: true) { engine in
            var reader = LinkFrameReader()
            var bytes = [UInt8](repeating: 0, count: 4096)
            var message: LinkMessage?
            while message == nil {
                let count = read(engine.supervisor, &bytes, bytes.count)
                try #require(count > 0)
                reader.append(Array(bytes[..<count]))
                message = try reader.next()
            }
            #expect(message == .engineHello(engine.service.hello))
            let drain = LinkCodec.frame(.drain)
            #expect(write(engine.supervisor, drain, drain.count) == drain.count)
            let exit = try await engine.service.ended.get()
            #expect(exit == .drained)
        }
    }

    @Test func engineEndsWithItsSupervisor() async throws {
        try await EngineFixture.run(hasSupervisor: true) { engine in
            #expect(Foundation.shutdown(engine.supervisor, Int32(SHUT_RDWR)) == 0)
            let exit = try await engine.service.ended.get()
            #expect(exit == .supervisorGone)
        }
    }

    @Test func supervisorThatSpeaksNonsenseIsNone() async throws {
        try await EngineFixture.run(hasSupervisor: true) { engine in
            let nonsense: [UInt8] = [1, 0, 0, 0, 250]
            #expect(write(engine.supervisor, nonsense, nonsense.count) == nonsense.count)
            let exit = try await engine.service.ended.get()
            #expect(exit == .supervisorGone)
            #expect(await engine.lines.next()?.contains("unknown frame type 250") == true)
        }
    }

    @Test func lostDeviceFailsSequencesAndEndsTheEngine() async throws {
        let fault = MockExecutor.Fault(
            call: .result,
            number: 3,
            error: ExecutorError(kind: .fatal, message: "the device fell off the bus")
        )
        try await EngineFixture.run(faults: [fault]) { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            let answer = try await gateway.answer(testRequest(1, new: 50))
            #expect(answer.finish == .failed)
            #expect(answer.failure?.kind == .draining)
            let exit = try await engine.service.ended.get()
            #expect(exit == .deviceFailed)
            #expect(await engine.lines.next()?.contains("fell off the bus") == true)
        }
    }

    @Test func aFaultOfAllEnginesEndsTheEngineWithAStatusOfItsOwn() async throws {
        let fault = MockExecutor.Fault(
            call: .result, number: 3, error: ExecutorError(kind: .fatal, message: "CUDA error 700", concernsAll: true))
        try await EngineFixture.run(faults: [fault]) { engine in
            let gateway = TestGateway(engine.service.address)
            _ = try await gateway.opened()
            gateway.client.send(.submit(testRequest(1, new: 50)))
            // Nobody is told to go elsewhere, where the same has happened: the end of the link says it all.
            let exit = try await engine.service.ended.get()
            #expect(exit == .deviceFault)
        }
    }

    @Test func executorThatCannotBePreparedIsAnError() throws {
        let fault = MockExecutor.Fault(
            call: .prepare,
            number: 1,
            error: ExecutorError(kind: .outOfMemory, message: "no room for keys and values")
        )
        let error = #expect(throws: EngineHostError.self) { try EngineFixture(faults: [fault]) }
        #expect(error?.message.contains("no room for keys and values") == true)
    }

    @Test func addressInUseByAFileIsAnError() throws {
        let path = NSTemporaryDirectory() + "tandem-\(UUID().uuidString.prefix(8))"
        try Data().write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(throws: EngineHostError.self) { try EngineFixture(socketPath: path) }
    }
}
