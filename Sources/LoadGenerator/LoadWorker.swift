// Tandem — Apache-2.0

import HTTPCore
import NIOCore

/// Sends the requests of a run and notes what comes. Lives on its event loop.
///
/// Nothing holds it but its timers and its exchanges; the run is over when the last of them is.
final class LoadWorker {
    /// Between two looks at the clock and at whether the run was stopped.
    private static let tick = TimeAmount.milliseconds(10)
    /// A client that cannot reach the server waits so long before it tries again.
    private static let unreachablePause = UInt64(100_000_000)

    private let plan: LoadPlan
    private let eventLoop: any EventLoop
    private let run: LoadRun
    private let promise: EventLoopPromise<LoadOutcome>
    private let client: HTTPClient
    private let headers: HTTPHeaders
    private let start = NIODeadline.now()
    private let cpuAtStart = LoadRun.cpuNanoseconds()

    private var progress = LoadProgress()
    private var outcome = LoadOutcome()
    private var exchanges: [Int: LoadExchange] = [:]
    /// Number of the next request.
    private var next = 0
    /// Clients of a closed pace that pause.
    private var pausing = 0
    /// Requests that are due and wait for a free place, in order.
    private var overdue: ArraySlice<Int> = []
    private var isOver = false

    init(_ plan: LoadPlan, eventLoop: any EventLoop, run: LoadRun, promise: EventLoopPromise<LoadOutcome>) {
        self.plan = plan
        self.eventLoop = eventLoop
        self.run = run
        self.promise = promise
        var limits = HTTPClientLimits()
        limits.connectTimeout = .seconds(10)
        limits.firstByteTimeout = .nanoseconds(Int64(clamping: plan.timeoutNanoseconds))
        limits.silenceTimeout = limits.firstByteTimeout
        limits.maximumIdleConnections = .max
        // A request counts once, and what became of it is told.
        limits.resends = false
        // Servers close what is not used, some after five seconds; a request must not run into that.
        limits.keepAliveTimeout = .seconds(2)
        client = HTTPClient(endpoint: plan.endpoint, eventLoop: eventLoop, limits: limits)
        var headers: HTTPHeaders = ["Content-Type": "application/json"]
        if let key = plan.apiKey { headers.add("Authorization", "Bearer \(key)") }
        self.headers = headers
    }

    /// Nanoseconds from the beginning.
    var now: UInt64 { UInt64(max(0, (NIODeadline.now() - start).nanoseconds)) }

    func begin() {
        armTick()
        switch plan.pace {
        case .closed(let clients, _):
            for _ in 0..<clients { sendOfClient(due: now) }
        case .open: sendDue()
        }
        endIfOver()
    }

    // MARK: - Pace

    private func sendOfClient(due: UInt64) {
        guard !isOver, next < plan.requests ?? .max, due < plan.nanoseconds ?? .max else { return }
        let moment = now
        next += 1
        send(next - 1, scheduled: due, lag: moment &- min(due, moment))
    }

    /// Sends what is due of a schedule, and comes again for the rest.
    private func sendDue() {
        guard case .open(let schedule, let limit) = plan.pace, !isOver else { return }
        while next < schedule.count, schedule[next] <= now {
            next += 1
            if exchanges.count < limit ?? .max {
                let moment = now
                send(next - 1, scheduled: schedule[next - 1], lag: moment - min(schedule[next - 1], moment))
            } else {
                overdue.append(next - 1)
            }
        }
        guard next < schedule.count else { return }
        at(schedule[next]) { $0.sendDue() }
    }

    /// Does something later. The run is not over before that if something is left to be sent.
    private func at(_ moment: UInt64, _ action: @escaping (LoadWorker) -> Void) {
        eventLoop.assumeIsolated().scheduleTask(deadline: start + .nanoseconds(Int64(clamping: moment))) {
            action(self)
        }
    }

    private func send(_ index: Int, scheduled: UInt64, lag: UInt64) {
        let item = plan.workload.item(at: index)
        let request = HTTPClientRequest(
            method: .post, target: plan.template.target, headers: headers,
            body: ByteBuffer(bytes: plan.template.body(item)))
        var record = RequestRecord(index: index, scheduled: scheduled, sent: now)
        record.lag = lag
        record.expectedPromptTokens = item.promptTokens
        record.maximumTokens = item.maximumTokens
        let exchange = LoadExchange(record, streams: plan.template.streams, worker: self)
        exchanges[index] = exchange
        progress.sent += 1
        exchange.request = client.send(request, to: exchange)
        run.report(progress)
    }

    // MARK: - Answers

    func received(chunks: Int) {
        progress.chunks += chunks
        run.report(progress)
    }

    func ended(_ exchange: LoadExchange) {
        let record = exchange.record
        guard exchanges.removeValue(forKey: record.index) != nil else { return }
        outcome.records.append(record)
        var isUnreachable = false
        if case .failed(let reason, _) = record.outcome {
            progress.failed += 1
            isUnreachable = reason == LoadExchange.unreachable
        } else {
            progress.complete += 1
        }
        run.report(progress)
        switch plan.pace {
        case .closed(_, var pause):
            if isUnreachable { pause = max(pause, Self.unreachablePause) }
            let due = record.ended + pause
            if pause > 0, next < plan.requests ?? .max, due < plan.nanoseconds ?? .max {
                pausing += 1
                at(due) { worker in
                    worker.pausing -= 1
                    worker.sendOfClient(due: due)
                    worker.endIfOver()
                }
            } else {
                sendOfClient(due: due)
            }
        case .open(let schedule, _):
            if let index = overdue.popFirst() { send(index, scheduled: schedule[index], lag: 0) }
        }
        endIfOver()
    }

    // MARK: - The end

    private func armTick() {
        let due = NIODeadline.now() + Self.tick
        eventLoop.assumeIsolated().scheduleTask(deadline: due) { [self] in
            guard !isOver else { return }
            outcome.tickLags.append(UInt64(max(0, (NIODeadline.now() - due).nanoseconds)))
            if run.isStopped { stop() } else { armTick() }
        }
    }

    private func endIfOver() {
        guard !isOver, exchanges.isEmpty, pausing == 0, overdue.isEmpty else { return }
        if case .open(let schedule, _) = plan.pace, next < schedule.count { return }
        end()
    }

    private func stop() {
        outcome.isStopped = true
        outcome.unsent = overdue.count
        let moment = now
        for exchange in exchanges.values {
            exchange.request?.cancel()
            exchange.record.ended = moment
            outcome.records.append(exchange.record)
        }
        exchanges.removeAll()
        outcome.nanoseconds = moment
        end()
    }

    private func end() {
        isOver = true
        client.shutdown()
        outcome.nanoseconds = max(outcome.nanoseconds, outcome.records.map(\.ended).max() ?? 0)
        outcome.cpuNanoseconds = LoadRun.cpuNanoseconds() - cpuAtStart
        outcome.records.sort { $0.index < $1.index }
        promise.succeed(outcome)
    }
}
