// Tandem — Apache-2.0

import NIOCore
import Synchronization

/// The connections of one event loop that have something to send; all of them send at the end of the loop's turn, in one
/// task, so that what is written to a connection in one turn leaves in one system call.
final class FlushQueue {
    private let eventLoop: any EventLoop
    /// Told what sending took.
    private let observer: (@Sendable (TimeAmount) -> Void)?
    private var waiting: [ConnectionHandler] = []
    /// Of the turn before; kept for its memory.
    private var sending: [ConnectionHandler] = []
    /// Memory for what one connection sends at once; nothing stays in it.
    var scratch = ByteBuffer()

    init(eventLoop: any EventLoop, observer: (@Sendable (TimeAmount) -> Void)?) {
        self.eventLoop = eventLoop
        self.observer = observer
    }

    /// Lets a connection send at the end of this turn. It must not be added again before it was called.
    func add(_ connection: ConnectionHandler) {
        if waiting.isEmpty { eventLoop.assumeIsolated().execute { self.flush() } }
        waiting.append(connection)
    }

    private func flush() {
        // What is written from here on leaves in the next turn.
        swap(&waiting, &sending)
        let began = observer == nil ? nil : NIODeadline.now()
        for connection in sending { connection.flush() }
        sending.removeAll(keepingCapacity: sending.count <= Self.keptCapacity)
        if let observer, let began { observer(.now() - began) }
    }

    private static let keptCapacity = 4096
}

/// The queues of a server, one an event loop.
final class FlushQueues: Sendable {
    private let queues = Mutex<[ObjectIdentifier: NIOLoopBound<FlushQueue>]>([:])

    /// To be called on the loop.
    func queue(of eventLoop: any EventLoop, observer: (@Sendable (TimeAmount) -> Void)?) -> FlushQueue {
        queues.withLock { queues in
            if let queue = queues[ObjectIdentifier(eventLoop)] { return queue }
            let queue = NIOLoopBound(FlushQueue(eventLoop: eventLoop, observer: observer), eventLoop: eventLoop)
            queues[ObjectIdentifier(eventLoop)] = queue
            return queue
        }.value
    }
}
