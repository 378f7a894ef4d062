// Tandem — Apache-2.0

import EngineLink
import NIOCore

/// A gateway's signs of life to its supervisor: one a period, as long as every event loop takes its turns. One loop that
/// hangs is as bad as all of them, since its clients get no answers.
final class GatewayPulse {
    private static let period = TimeAmount.milliseconds(Heartbeat.periodMilliseconds)

    private let loops: [any EventLoop]
    private let channel: any Channel
    private var beats: UInt64 = 0

    private init(loops: [any EventLoop], channel: any Channel) {
        self.loops = loops
        self.channel = channel
    }

    /// Beats until the channel closes.
    static func start(_ group: any EventLoopGroup, to channel: any Channel) {
        let loops = Array(group.makeIterator())
        channel.eventLoop.execute {
            NIOLoopBound(GatewayPulse(loops: loops, channel: channel), eventLoop: channel.eventLoop).value.ask()
        }
    }

    /// Sends a beat once all loops have taken a turn, then waits for the next one.
    private func ask() {
        guard channel.isActive else { return }
        let pulse = NIOLoopBound(self, eventLoop: channel.eventLoop)
        EventLoopFuture.andAllComplete(loops.map { $0.submit {} }, on: channel.eventLoop).whenComplete { _ in
            pulse.value.beat()
        }
    }

    private func beat() {
        beats += 1
        if channel.isWritable { SupervisorChannel.send(.heartbeat(Heartbeat(progress: beats)), to: channel) }
        let pulse = NIOLoopBound(self, eventLoop: channel.eventLoop)
        channel.eventLoop.scheduleTask(in: Self.period) { pulse.value.ask() }
    }
}
