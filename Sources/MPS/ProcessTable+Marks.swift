// Tandem — Apache-2.0

internal import CTandemSystem
internal import Glibc

/// A process that is known by variables of its environment.
public struct MarkedProcess: Sendable, Equatable {
    public var identity: ProcessIdentity
    /// Its process group.
    public var group: Int32
}

extension ProcessTable {
    /// Processes of this user, but this one itself, that were started with all these variables.
    public func processes(marked marks: [String: String]) -> [MarkedProcess] {
        let wanted = marks.map { Array("\($0.key)=\($0.value)".utf8) }
        guard !wanted.isEmpty else { return [] }
        var found: [MarkedProcess] = []
        for name in Self.names(in: root) {
            guard let pid = Int32(name), pid != getpid() else { continue }
            var status = stat()
            guard stat("\(root)/\(pid)", &status) == 0, status.st_uid == getuid(),
                let fields = statFields(pid), fields.count > 19, fields[0] != "Z", fields[0] != "X",
                let group = Int32(fields[2]), let start = UInt64(fields[19]),
                let environment = Self.read("\(root)/\(pid)/environ", limit: 1 << 20)
            else { continue }
            let entries = environment.split(separator: 0)
            guard wanted.allSatisfy({ mark in entries.contains { $0.elementsEqual(mark) } }) else { continue }
            found.append(MarkedProcess(identity: ProcessIdentity(pid: pid, startTime: start), group: group))
        }
        return found
    }

    /// Kills all processes with these marks, also those that they start meanwhile, and waits until they are gone.
    ///
    /// - Parameter patience: how long is waited, in milliseconds.
    /// - Returns: those that were killed.
    public func kill(marked marks: [String: String], patience: Int32) -> [MarkedProcess] {
        let deadline = ContinuousClock.now + .milliseconds(Int64(patience))
        var killed: [MarkedProcess] = []
        while true {
            let living = processes(marked: marks)
            guard !living.isEmpty else { return killed }
            var entries: [pollfd] = []
            defer { for entry in entries { close(entry.fd) } }
            for process in living {
                let handle = tandem_pidfd_open(process.identity.pid)
                guard handle >= 0 else { continue }
                entries.append(pollfd(fd: handle, events: Int16(POLLIN), revents: 0))
                // The handle is taken first: what it stands for cannot change any more while its start is looked at.
                guard lives(process.identity), tandem_pidfd_send_signal(handle, SIGKILL) >= 0 else { continue }
                if !killed.contains(process) { killed.append(process) }
            }
            while entries.contains(where: { $0.revents == 0 }) {
                let left = (deadline - ContinuousClock.now).components
                guard left.seconds >= 0, left.attoseconds > 0 || left.seconds > 0 else { return killed }
                var waiting = entries.filter { $0.revents == 0 }
                let milliseconds = Int32(clamping: left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000 + 1)
                guard poll(&waiting, nfds_t(waiting.count), milliseconds) >= 0 || errno == EINTR else { return killed }
                for ended in waiting where ended.revents != 0 {
                    guard let index = entries.firstIndex(where: { $0.fd == ended.fd }) else { continue }
                    entries[index].revents = ended.revents
                }
            }
            guard ContinuousClock.now < deadline else { return killed }
        }
    }
}
