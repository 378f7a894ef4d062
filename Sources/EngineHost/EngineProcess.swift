// Tandem — Apache-2.0

import EngineLink
public import NIOCore
import Synchronization

/// The engines of one process, which have one supervisor and one end.
///
/// Each has an event loop, a step thread and a link of its own. They drain together; when one of them fails, the process
/// has failed.
public final class EngineProcess: Sendable {
    /// Why the process is to end: the first reason of an engine that is not a finished drain, or that all have drained.
    public var ended: EventLoopFuture<EngineExit> { end.futureResult }
    /// The engines, in order.
    public let services: [EngineService]

    private let end: EventLoopPromise<EngineExit>

    /// What the engines' event loops share.
    private final class Board: Sendable {
        struct State {
            var progress: ProcessProgress
            var running: Int
            var supervisor: (any Channel)?
        }

        let state: Mutex<State>

        init(engines: Int) {
            state = Mutex(State(progress: ProcessProgress(engines: engines), running: engines))
        }

        func heard(_ engine: Int, _ heartbeat: Heartbeat) {
            let (whole, supervisor) = state.withLock { ($0.progress.heard(engine, heartbeat), $0.supervisor) }
            if let whole, let supervisor { StatusChannel.send(whole, to: supervisor) }
        }

        /// An engine has drained.
        ///
        /// - Returns: whether it was the last.
        func drained(_ engine: Int) -> Bool {
            state.withLock { state in
                state.progress.ended(engine)
                state.running -= 1
                return state.running == 0
            }
        }
    }

    /// Takes engines that serve already, and tells the supervisor of all of them. Blocks meanwhile, so it must not be
    /// called on an event loop.
    ///
    /// - Parameters:
    ///   - services: one at least; theirs to shut down by the caller if this fails.
    ///   - statusDescriptor: a socket to the supervisor, handed over; `nil` if there is none.
    public init(_ services: [EngineService], statusDescriptor: Int32? = nil) throws(EngineHostError) {
        guard let eventLoop = services.first?.eventLoop else {
            throw EngineHostError(message: "there are no engines", isPermanent: true)
        }
        self.services = services
        end = eventLoop.makePromise(of: EngineExit.self)
        let board = Board(engines: services.count)
        for (index, service) in services.enumerated() {
            service.onHeartbeat { board.heard(index, $0) }
            service.ended.whenComplete { [end] result in
                let exit = (try? result.get()) ?? .abandoned
                if exit != .drained || board.drained(index) { end.succeed(exit) }
            }
        }
        guard let statusDescriptor else { return }
        do {
            let channel = try StatusChannel.open(
                statusDescriptor, hellos: services.map(\.hello), on: eventLoop,
                onEvent: { event in
                    for service in services { service.supervisor(event) }
                }
            ).wait()
            board.state.withLock { $0.supervisor = channel }
        } catch {
            end.succeed(.startFailed)
            throw EngineHostError(
                message: "cannot use descriptor \(statusDescriptor) as the supervisor's socket: \(error)")
        }
    }

    /// Ends the process because of what happened to the device; every request goes on elsewhere.
    public func deviceFaulted(_ message: String, concernsAll: Bool) {
        services.first?.deviceFaulted(message, concernsAll: concernsAll)
    }

    /// What a termination signal asks for: the first time to drain, the second time to end at once.
    public func terminate() {
        for service in services { service.terminate() }
    }

    /// Sends what gateways are still owed and closes their connections. Blocks meanwhile.
    public func closeLinks() {
        for closed in services.map({ $0.closeLink() }) { try? closed.wait() }
    }

    /// Shuts the engines down, one after the other; see ``EngineService/shutdown()``.
    public func shutdown() {
        for service in services { service.shutdown() }
    }
}
