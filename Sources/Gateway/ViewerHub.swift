// Tandem — Apache-2.0

import HTTPCore
import NIOCore
import Synchronization

/// Sends the same picture of the server, a few times a second, to everybody who watches it. Nothing is done when nobody
/// watches.
///
/// A picture is made once for all viewers. A viewer who has not taken the ones before misses it: what waits for a viewer
/// is at most what waits for any client before it counts as slow, and one picture.
final class ViewerHub: Sendable {
    /// A connection as the hub uses it, from its own event loop.
    protocol Viewer: Sendable {
        var eventLoop: any EventLoop { get }
        var isWritable: Bool { get }
        func write(_ bytes: ByteBuffer)
        func finish()
    }

    private struct State {
        var viewers: [UInt64: any Viewer] = [:]
        var nextID: UInt64 = 1
        var isTicking = false
        var isClosed = false
        var pictures: UInt64 = 0
        var missed: UInt64 = 0
    }

    /// More are refused.
    static let limit = 64

    private let state = Mutex(State())
    private let eventLoop: any EventLoop
    private let interval: TimeAmount
    /// Makes a picture: server-sent events.
    private let picture: @Sendable (any EventLoop) -> EventLoopFuture<ByteBuffer>

    /// - Parameter eventLoop: where pictures are made.
    init(
        eventLoop: any EventLoop, interval: TimeAmount,
        picture: @escaping @Sendable (any EventLoop) -> EventLoopFuture<ByteBuffer>
    ) {
        self.eventLoop = eventLoop
        self.interval = interval
        self.picture = picture
    }

    /// How many watch.
    var count: Int { state.withLock { $0.viewers.count } }
    /// Pictures that were made.
    var pictures: UInt64 { state.withLock { $0.pictures } }
    /// Pictures that a viewer missed because it had not taken the ones before.
    var missed: UInt64 { state.withLock { $0.missed } }

    /// Whether one more may watch.
    var hasRoom: Bool { state.withLock { $0.viewers.count < Self.limit && !$0.isClosed } }

    /// Adds a viewer; the first picture follows at once if nobody watched before.
    ///
    /// - Returns: what ``remove(_:)`` takes; `nil` if there is no room.
    func add(_ viewer: any Viewer) -> UInt64? {
        let (id, isFirst) = state.withLock { state -> (UInt64?, Bool) in
            guard state.viewers.count < Self.limit, !state.isClosed else { return (nil, false) }
            let id = state.nextID
            state.nextID += 1
            state.viewers[id] = viewer
            defer { state.isTicking = true }
            return (id, !state.isTicking)
        }
        if isFirst { eventLoop.execute { self.tick() } }
        return id
    }

    func remove(_ id: UInt64) {
        state.withLock { $0.viewers[id] = nil }
    }

    /// Ends all streams and takes no more viewers.
    func close() {
        let viewers = state.withLock { state in
            defer { state.viewers = [:] }
            state.isClosed = true
            return Array(state.viewers.values)
        }
        for viewer in viewers { viewer.eventLoop.execute { viewer.finish() } }
    }

    private func tick() {
        let goesOn = state.withLock { state in
            if state.viewers.isEmpty { state.isTicking = false }
            return state.isTicking
        }
        guard goesOn else { return }
        picture(eventLoop).hop(to: eventLoop).whenComplete { [self] outcome in
            if case .success(let bytes) = outcome { send(bytes) }
            eventLoop.scheduleTask(in: interval) { self.tick() }
        }
    }

    private func send(_ bytes: ByteBuffer) {
        let viewers = state.withLock { state in
            state.pictures += 1
            return Array(state.viewers.values)
        }
        for viewer in viewers {
            viewer.eventLoop.execute { [self] in
                if viewer.isWritable {
                    viewer.write(bytes)
                } else {
                    state.withLock { $0.missed += 1 }
                }
            }
        }
    }
}

extension HTTPResponder: ViewerHub.Viewer {}
