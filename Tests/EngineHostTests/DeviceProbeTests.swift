// Tandem — Apache-2.0

import EngineHost
import EngineLink
import InferenceEngine
import Requests
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(10))) struct DeviceProbeTests {
    @Test func aDeviceThatComputesIsNobodysWork() async throws {
        let engine = try EngineFixture(probesDevice: true)
        defer { engine.shutDown() }
        let gateway = TestGateway(engine.service.address)
        _ = try await gateway.opened()
        let request = testRequest(1, promptCount: 9, new: 7)
        let answer = try await gateway.answer(request)
        #expect(answer.tokens == testModel.answer(request, limit: testContextLength).tokens)
        // Of the request alone, not of the probe.
        let other = TestGateway(engine.service.address)
        _ = try await other.opened()
        let idle = try await other.statistics { $0.runningSequences == 0 && $0.generatedTokens > 0 }
        #expect(idle.generatedTokens == 7)
        #expect(idle.promptTokens == 9)
    }

    /// The first kernel fails: found, prepared, and of no use.
    @Test(arguments: [
        ExecutorError(kind: .fatal, message: "error 700"), ExecutorError(kind: .outOfMemory, message: "no memory"),
        ExecutorError(kind: .fatal, message: "error 719", concernsAll: true),
    ])
    func aDeviceThatDoesNotComputeIsNoEngine(error: ExecutorError) throws {
        let faults = (1...8).map { MockExecutor.Fault(call: .result, number: $0, error: error) }
        let failure = #expect(throws: EngineHostError.self) {
            _ = try EngineFixture(faults: faults, probesDevice: true)
        }
        #expect(failure?.message.contains(error.message) == true, "\(failure?.message ?? "")")
        #expect(failure?.isPermanent == false)
        // Under MPS the others have it, too, and must not be waited for.
        #expect(failure?.concernsAll == error.concernsAll)
    }

    /// The first kernel never ends, and nobody waits for the thread that waits for it.
    @Test func aDeviceThatHangsIsNoEngine() throws {
        let failure = #expect(throws: EngineHostError.self) {
            _ = try EngineFixture(isGated: true, probesDevice: true, probeTimeout: .milliseconds(20))
        }
        #expect(failure?.message == "the device hangs: it computed nothing for 0.02 s")
        #expect(failure?.isPermanent == false)
    }
}
