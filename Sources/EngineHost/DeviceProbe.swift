// Tandem — Apache-2.0

import EngineLink
import InferenceEngine
import NIOCore
import Requests
import Synchronization

/// Computes a few tokens before an engine says that it serves: a device can be found and prepared, and still hang or
/// fail at its first kernel.
///
/// Its state lives on the event loop that gets the reports.
final class DeviceProbe: Sendable {
    private let promise: EventLoopPromise<SchedulerCounters>
    private let hasFinished: NIOLoopBoundBox<Bool>
    private let eventLoop: any EventLoop
    private let vocabularySize: Int

    /// A sequence that no gateway can have.
    private static let id = RequestID.max
    private static let newTokens = 2
    private let timedOut = Atomic(false)

    init(eventLoop: any EventLoop, vocabularySize: Int) {
        self.eventLoop = eventLoop
        self.vocabularySize = vocabularySize
        promise = eventLoop.makePromise()
        hasFinished = NIOLoopBoundBox.makeBoxSendingValue(false, eventLoop: eventLoop)
    }

    deinit {
        promise.fail(ChannelError.alreadyClosed)
    }

    /// Blocks until tokens were computed.
    ///
    /// - Parameter limit: how long that may take; `nil` for ever.
    /// - Returns: what the loop has counted since its start, which is nobody's work.
    /// - Throws: ``EngineHostError`` if they were not.
    func run(on loop: StepLoop, timeout limit: Duration?) throws(EngineHostError) -> SchedulerCounters {
        let tokens = (0..<4).map { TokenID(truncatingIfNeeded: $0 % max(1, vocabularySize)) }
        let timeout = limit.map { limit in
            eventLoop.scheduleTask(in: TimeAmount(limit)) { [self] in
                timedOut.store(true, ordering: .relaxed)
                let seconds = limit / .seconds(1)
                promise.fail(EngineHostError(message: "the device hangs: it computed nothing for \(seconds) s"))
            }
        }
        defer { timeout?.cancel() }
        loop.submit(EngineRequest(id: Self.id, tokens: tokens, maximumNewTokens: Self.newTokens))
        do {
            return try promise.futureResult.wait()
        } catch {
            throw error as? EngineHostError ?? EngineHostError(message: "\(error)")
        }
    }

    /// Whether the device got nowhere: it may never again.
    var hasTimedOut: Bool { timedOut.load(ordering: .relaxed) }

    /// Takes reports as long as nobody else does.
    func deliver(_ report: StepReport) {
        if let output = report.outputs.first(where: { $0.id == Self.id && $0.finish != nil }) {
            hasFinished.value = true
            if let failure = output.failure {
                promise.fail(EngineHostError(message: "the device does not compute: \(failure.message)"))
            }
        }
        // They come once more when the loop falls idle.
        if hasFinished.value, let counters = report.statistics?.counters, counters.runningSequences == 0 {
            promise.succeed(counters)
        }
    }

    func deviceFailed(_ error: ExecutorError) {
        promise.fail(
            EngineHostError(message: "the device failed: \(error.message)", concernsAll: error.concernsAll))
    }
}
