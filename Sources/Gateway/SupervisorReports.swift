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
    }

    private let state = Mutex(State())

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

    func send(_ report: ExternalEngineReport) {
        let channel = state.withLock { state in
            if state.channel == nil { state.unsent.append(report) }
            return state.channel
        }
        if let channel { SupervisorChannel.send(.engineReport(report), to: channel) }
    }
}
