// Tandem — Apache-2.0

import CTandemSystem
import Glibc
import Processes

/// The effects of a ``DeviceState``: one thread that waits in `ppoll`, with sockets for clients, for people and for a
/// supervisor.
public final class DeviceProcess {
    /// Where it listens.
    public struct Places: Sendable {
        /// Path of the clients' socket.
        public var clients: String
        /// Path of the control socket; null for none.
        public var control: String?
        /// The supervisor's socket, handed over; null if there is none.
        public var supervisor: Int32?

        public init(clients: String, control: String? = nil, supervisor: Int32? = nil) {
            self.clients = clients
            self.control = control
            self.supervisor = supervisor
        }
    }

    private struct ControlConnection {
        var descriptor: Int32
        var line: [UInt8] = []
        var isEnding = false
    }

    private static let mostControlConnections = 16
    private static let nice: Int32 = -15
    /// Packets of one client that are read before others have their turn.
    private static let packetsAtOnce = 4

    private var state: DeviceState
    private let listener: Int32
    private let controlListener: Int32
    private let supervisor: Int32
    private let log: (String) -> Void
    /// Descriptors of clients; their number is that of the connection.
    private var clients: [Int32] = []
    private var controls: [ControlConnection] = []
    private var hasEnded = false

    /// Listens.
    ///
    /// - Parameter log: takes a line for people.
    /// - Throws: ``DeviceProtocolError`` if it cannot.
    public init(
        _ settings: DeviceState.Settings, _ places: Places, log: @escaping (String) -> Void
    ) throws(DeviceProtocolError) {
        self.log = log
        state = DeviceState(settings, at: Self.now())
        supervisor = places.supervisor ?? -1
        listener = try Self.listen(places.clients, .packets)
        do throws(DeviceProtocolError) {
            controlListener =
                try places.control.map { (path) throws(DeviceProtocolError) in
                    try Self.listen(path, .stream)
                } ?? -1
        } catch {
            close(listener)
            throw error
        }
    }

    deinit {
        for descriptor in clients + controls.map(\.descriptor) + [listener, controlListener, supervisor]
        where descriptor >= 0 { close(descriptor) }
    }

    private static func listen(_ path: String, _ type: UnixSocket.Kind) throws(DeviceProtocolError) -> Int32 {
        do {
            return try UnixSocket.listen(path, type: type)
        } catch {
            throw DeviceProtocolError(message: "cannot listen at \(path): \(error.text)")
        }
    }

    private static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// Runs until the supervisor is gone; without one for ever.
    public func run() {
        // Fifty microseconds, the usual slack, are a twentieth of a short step.
        _ = tandem_set_timer_slack(1)
        // Hardware waits for no process. Where it is not permitted, the lag tells.
        _ = tandem_thread_set_nice(0, Self.nice)
        while !hasEnded { turn() }
    }

    private func turn() {
        var entries = [
            pollfd(fd: supervisor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
            pollfd(fd: controlListener, events: Int16(POLLIN), revents: 0),
        ]
        let firstClient = entries.count
        let known = clients
        for descriptor in known { entries.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)) }
        let firstControl = entries.count
        let knownControls = controls.map(\.descriptor)
        for descriptor in knownControls { entries.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)) }
        let (now, deadline) = (Self.now(), state.nextDeadline)
        let left = deadline > now ? deadline - now : 0
        if tandem_poll(&entries, UInt32(entries.count), Int64(clamping: left)) < 0 {
            for index in entries.indices { entries[index].revents = 0 }
        }
        perform(state.timePassed(at: Self.now()))
        for (index, descriptor) in known.enumerated() where entries[firstClient + index].revents != 0 {
            readClient(descriptor)
        }
        if entries[0].revents != 0 { readSupervisor() }
        if entries[1].revents != 0 { acceptClients() }
        if entries[2].revents != 0 { acceptControls() }
        for (index, descriptor) in knownControls.enumerated() where entries[firstControl + index].revents != 0 {
            readControl(descriptor)
        }
    }

    // MARK: Effects

    private func perform(_ effects: [DeviceState.Effect]) {
        for effect in effects {
            switch effect {
            case .send(let message, let connection):
                send(DeviceCodec.bytes(message), to: connection)
            case .complete(let done, let connection, let delivery):
                send(DeviceCodec.bytes(.done(done) as DeviceMessage), to: connection)
                state.delivered(delivery, at: Self.now())
            case .close(let connection):
                drop(Int32(connection))
            case .tell(let notice):
                // One that is not read is out of date soon.
                if supervisor >= 0 { _ = UnixSocket.send(DeviceCodec.bytes(notice), to: supervisor) }
            case .log(let text):
                log(text)
            }
        }
    }

    /// One who does not read what it asked for is gone as far as this device is concerned.
    private func send(_ bytes: [UInt8], to connection: Int) {
        guard clients.contains(Int32(connection)) else { return }
        if !UnixSocket.send(bytes, to: Int32(connection)) { drop(Int32(connection)) }
    }

    private func drop(_ descriptor: Int32) {
        guard let index = clients.firstIndex(of: descriptor) else { return }
        clients.remove(at: index)
        close(descriptor)
        perform(state.disconnected(Int(descriptor), at: Self.now()))
    }

    // MARK: Clients

    private func acceptClients() {
        while true {
            guard let descriptor = UnixSocket.accept(listener) else { return }
            // Refusals are the state's business, and need a connection.
            guard clients.count < 2 * state.settings.mostClients + 16 else {
                close(descriptor)
                return
            }
            clients.append(descriptor)
        }
    }

    private func readClient(_ descriptor: Int32) {
        for _ in 0..<Self.packetsAtOnce where clients.contains(descriptor) {
            switch UnixSocket.receive(descriptor, limit: DeviceCodec.largestMessage) {
            case .nothing: return
            case .end: return drop(descriptor)
            case .bytes(let bytes):
                do throws(DeviceProtocolError) {
                    let message = try DeviceCodec.clientMessage(bytes)
                    perform(state.received(message, from: Int(descriptor), at: Self.now()))
                } catch {
                    let failure = DeviceFailure(
                        code: DeviceFailure.Code.invalidValue, message: error.description)
                    send(DeviceCodec.bytes(.failed(failure) as DeviceMessage), to: Int(descriptor))
                    return drop(descriptor)
                }
            }
        }
    }

    // MARK: Supervisor

    private func readSupervisor() {
        while true {
            switch UnixSocket.receive(supervisor, limit: DeviceCodec.largestMessage) {
            case .nothing: return
            case .end:
                hasEnded = true
                return
            case .bytes(let bytes):
                guard let order = try? DeviceCodec.order(bytes) else { continue }
                perform(state.ordered(order, at: Self.now()))
            }
        }
    }

    // MARK: Control

    private func acceptControls() {
        while true {
            guard let descriptor = UnixSocket.accept(controlListener) else { return }
            // The oldest makes room.
            if controls.count == Self.mostControlConnections { close(controls.removeFirst().descriptor) }
            controls.append(ControlConnection(descriptor: descriptor))
        }
    }

    private func readControl(_ descriptor: Int32) {
        guard let index = controls.firstIndex(where: { $0.descriptor == descriptor }) else { return }
        switch UnixSocket.receive(descriptor, limit: ControlCommand.longestLine) {
        case .nothing: return
        case .end: controls[index].isEnding = true
        case .bytes(let bytes):
            controls[index].line += bytes
            while !controls[index].isEnding,
                let end = controls[index].line.firstIndex(of: UInt8(ascii: "\n"))
            {
                let line = Array(controls[index].line[..<end])
                controls[index].line.removeSubrange(...end)
                if !UnixSocket.send(answer(line) + [UInt8(ascii: "\n")], to: descriptor) {
                    controls[index].isEnding = true
                }
            }
            if controls[index].line.count > ControlCommand.longestLine { controls[index].isEnding = true }
        }
        if controls[index].isEnding { close(controls.remove(at: index).descriptor) }
    }

    private func answer(_ line: [UInt8]) -> [UInt8] {
        do throws(DeviceProtocolError) {
            let (answer, effects) = state.control(try ControlCommand(line), at: Self.now())
            perform(effects)
            return answer
        } catch {
            return ControlCommand.answer(error)
        }
    }
}
