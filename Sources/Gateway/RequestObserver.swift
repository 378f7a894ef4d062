// Tandem — Apache-2.0

import NIOCore
import Requests
import Synchronization
import Telemetry

/// Times one request and enters it into the metrics.
final class RequestObserver {
    /// When a choice got its first and its latest tokens, and when the engine that gave the first began with it, if it
    /// says so.
    private struct Times {
        var first: NIODeadline?
        var latest: NIODeadline?
        var begun: NIODeadline?
    }

    private let metrics: GatewayMetrics
    private let requests: RequestMetrics
    private let clock: @Sendable () -> NIODeadline
    /// Of the first choice, which nearly always is the only one.
    private var firstChoice = Times()
    private var otherChoices: [Times]
    private let admission: NIODeadline
    private var unfinished: Int

    /// - Parameter model: what the request asks for, if the metrics are those of many models.
    init(
        metrics: GatewayMetrics, model: String? = nil, clock: @escaping @Sendable () -> NIODeadline, choices: Int
    ) {
        self.metrics = metrics
        requests = metrics.requests(of: model)
        self.clock = clock
        admission = clock()
        otherChoices = Array(repeating: Times(), count: max(0, choices - 1))
        unfinished = choices
    }

    /// - Parameters:
    ///   - promptTokens: of all prompts.
    ///   - maximumTokens: what the request asked for; `nil` if it left the limit open.
    func admitted(promptTokens: Int, sequences: Int, maximumTokens: Int?) {
        metrics.requestsInHand.add(1, ordering: .relaxed)
        requests.promptTokens.add(UInt64(promptTokens))
        requests.requestPromptTokens.observe(Double(promptTokens))
        requests.requestChoices.observe(Double(sequences))
        if let maximumTokens { requests.requestMaximumTokens.observe(Double(maximumTokens)) }
    }

    /// A request was admitted whose tokens nobody counts here.
    func admitted() {
        metrics.requestsInHand.add(1, ordering: .relaxed)
    }

    /// Tokens of a whole answer that were not seen one by one.
    func generated(tokens: Int) {
        if tokens > 0 { requests.generationTokens.add(UInt64(tokens)) }
    }

    /// Prompt tokens, of a request whose engine counted them.
    func prompted(tokens: Int) {
        requests.promptTokens.add(UInt64(tokens))
        requests.requestPromptTokens.observe(Double(tokens))
    }

    /// A choice got tokens.
    func produced(tokens: Int, choice: Int) {
        produced(tokens: tokens, choice: choice, at: clock())
    }

    func produced(tokens: Int, choice: Int, at now: NIODeadline) {
        guard tokens > 0 else { return }
        requests.generationTokens.add(UInt64(tokens))
        var times = times(choice)
        if let before = times.latest {
            requests.interTokenLatency.observe(seconds(now - before) / Double(tokens), times: UInt64(tokens))
        } else {
            requests.timeToFirstToken.observe(seconds(now - admission))
            times.first = now
        }
        times.latest = now
        set(times, of: choice)
    }

    /// An engine's first output for a choice says how long ago it began with it: a length of time, so that clocks of
    /// several machines need not agree. The engine counts that gives the first token: what was spent on one that was lost
    /// before is part of the time in the queue, and who goes on after that token does not begin anew.
    func began(choice: Int, prefillMicroseconds: UInt32, at now: NIODeadline) {
        var times = times(choice)
        guard times.first == nil else { return }
        times.begun = max(admission, now - .microseconds(Int64(prefillMicroseconds)))
        set(times, of: choice)
    }

    private func set(_ times: Times, of choice: Int) {
        if choice == 0 { firstChoice = times } else { otherChoices[choice - 1] = times }
    }

    private func times(_ choice: Int) -> Times { choice == 0 ? firstChoice : otherChoices[choice - 1] }

    /// A choice ended by itself.
    func finished(choice: Int, reason: String, tokens: Int) {
        unfinished -= 1
        requests.success(reason).add()
        requests.requestGenerationTokens.observe(Double(tokens))
        guard let first = times(choice).first, let latest = times(choice).latest else { return }
        if tokens > 1 { requests.timePerOutputToken.observe(seconds(latest - first) / Double(tokens - 1)) }
        requests.decodeTime.observe(seconds(latest - first))
        guard let begun = times(choice).begun, let phases = requests.phases else { return }
        phases.queue.observe(seconds(begun - admission))
        phases.prefill.observe(seconds(first - begun))
        phases.inference.observe(seconds(latest - begun))
    }

    /// A sequence that generates nothing was computed.
    func scored() {
        unfinished -= 1
        requests.success("stop").add()
    }

    func completed() {
        metrics.requestsInHand.subtract(1, ordering: .relaxed)
        requests.endToEndLatency.observe(seconds(clock() - admission))
    }

    /// It is answered with an error. What the client did wrong is no failure of a sequence.
    func failed(status: Int) {
        metrics.requestsInHand.subtract(1, ordering: .relaxed)
        if status >= 500 { requests.success("error").add(UInt64(max(0, unfinished))) }
        requests.refused(status: status)
    }

    /// The client left.
    func aborted() {
        metrics.requestsInHand.subtract(1, ordering: .relaxed)
        requests.success("abort").add(UInt64(max(0, unfinished)))
    }

    /// The client did not take what it was sent.
    func gaveUpSlowClient() {
        metrics.slowClients.add()
        aborted()
    }

    func now() -> NIODeadline { clock() }

    /// Tokens were turned into text, on the gateway's account.
    ///
    /// - Returns: now.
    func detokenized(since began: NIODeadline) -> NIODeadline {
        let now = clock()
        HostTimes.add(now - began, to: metrics.hostTimes.detokenize)
        return now
    }

    /// Something was written to the client, on the gateway's account.
    func wrote(since began: NIODeadline) {
        HostTimes.add(clock() - began, to: metrics.hostTimes.write)
    }

    /// Writes to the client, on the gateway's account.
    func writing(_ body: () -> Void) {
        metrics.hostTimes.measure(metrics.hostTimes.write, body)
    }

    private func seconds(_ amount: TimeAmount) -> Double { Double(amount.nanoseconds) / 1e9 }
}
