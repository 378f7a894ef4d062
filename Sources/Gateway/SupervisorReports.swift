// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Synchronization

/// What a gateway tells its supervisor of engines that only it can speak to.
final class SupervisorReports: Sendable {
    private struct State {
        var channel: (any Channel)?
        /// Made before there was a channel.
        var unsent: [ExternalEngineReport] = []
        var prover: ObjectIdentifier?
        /// Event loops that have nothing in hand there, by the process.
        var idle: [Int32: Set<ObjectIdentifier>] = [:]
    }

    private let state = Mutex(State())
    /// Event loops that have to be done with an engine until it is idle.
    let eventLoops: Int

    init(eventLoops: Int) {
        self.eventLoops = eventLoops
    }

    /// Whether an event loop is the one that finds out about engines that start, so that not all of them do: the first
    /// one that asks.
    func isProver(_ eventLoop: any EventLoop) -> Bool {
        state.withLock { state in
            let asking = ObjectIdentifier(eventLoop)
            if state.prover == nil { state.prover = asking }
            return state.prover == asking
        }
    }

    func connect(_ channel: any Channel) {
        let unsent = state.withLock { state in
            state.channel = channel
            defer { state.unsent = [] }
            return state.unsent
        }
        for report in unsent { SupervisorChannel.send(.engineReport(report), to: channel) }
    }

    /// An event loop may get requests for a process again.
    func resumed(_ pid: Int32, on eventLoop: any EventLoop) {
        state.withLock { state in _ = state.idle[pid]?.remove(ObjectIdentifier(eventLoop)) }
    }

    func send(_ report: ExternalEngineReport, of eventLoop: any EventLoop) {
        let channel = state.withLock { state -> (any Channel)? in
            if report.finding == .idle {
                state.idle[report.pid, default: []].insert(ObjectIdentifier(eventLoop))
                guard state.idle[report.pid]?.count == eventLoops else { return nil }
                state.idle[report.pid] = nil
            }
            if state.channel == nil { state.unsent.append(report) }
            return state.channel
        }
        if let channel { SupervisorChannel.send(.engineReport(report), to: channel) }
    }
}
