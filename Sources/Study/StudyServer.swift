// Tandem — Apache-2.0

internal import EngineLink
internal import Glibc
internal import NIOCore
internal import Processes
internal import Requests
internal import Supervision
internal import Synchronization

/// A `tandem serve` that a study started, and what its engines say of themselves. Belongs to the thread that made it:
/// the server ends with that thread.
final class StudyServer {
    /// How to start it.
    struct Launch {
        /// Words after `tandem`.
        var arguments: [String]
        var environment: [String: String]
        /// Directory for sockets and logs, of the study alone.
        var directory: String
        /// Names the log.
        var name: String
        var engines: Int
        /// Whether the engines are not Tandem's, which have no links.
        var isExternal: Bool
    }

    /// What an engine said, and when.
    struct Sample: Sendable {
        var time: NIODeadline
        var statistics: EngineStatistics
    }

    /// What engines said, by engine.
    private final class Samples: Sendable {
        let all: Mutex<[[Sample]]>

        init(engines: Int) { all = Mutex(Array(repeating: [], count: engines)) }
    }

    let links: [LinkAddress]
    let port: UInt16
    /// Of the server and its children; empty if it started others than those.
    let processes: [Int32]
    private let process: SpawnedProcess
    private let log: String
    private let samples: Samples
    private var observers: [EngineLinkClient] = []
    private var hasEnded = false

    private static let startSeconds = 600.0
    private static let stopSeconds = 15.0

    /// Starts it and waits until all engines can compute.
    ///
    /// - Parameter isStopped: whether to give up.
    /// - Throws: ``StudyError`` with what the server said last.
    init(_ launch: Launch, subject: String, isStopped: () -> Bool) throws(StudyError) {
        log = "\(launch.directory)/\(launch.name).log"
        let file = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer {
            close(file)
            close(null)
        }
        var environment = launch.environment
        environment["XDG_RUNTIME_DIR"] = launch.directory
        let spawn = Spawn(
            path: "/proc/self/exe", arguments: ["tandem"] + launch.arguments, environment: environment,
            descriptors: [(null, STDIN_FILENO), (file, STDOUT_FILENO), (file, STDERR_FILENO)])
        do {
            process = try spawn.start()
        } catch {
            throw StudyError(
                subject: subject, reason: "a server cannot \(error.stage): \(String(cString: strerror(error.code)))")
        }
        samples = Samples(engines: launch.engines)
        let found: SupervisorStatus?
        do {
            found = try Self.wait(
                for: process, directory: launch.directory, engines: launch.engines, isStopped: isStopped)
        } catch {
            Self.stop(process)
            let last = Self.lastLines(of: log)
            unlink(log)
            throw StudyError(
                subject: subject, reason: "tandem \(launch.arguments.joined(separator: " ")): \(error): \(last)")
        }
        guard let status = found else {
            Self.stop(process)
            unlink(log)
            throw StudyError(subject: subject, reason: "stopped")
        }
        port = status.port
        processes =
            launch.isExternal
            ? [] : [process.pid, status.gateway.pid] + Set(status.engines.map(\.process.pid)).sorted()
        links = (0..<(launch.isExternal ? 0 : launch.engines)).compactMap { index in
            try? LinkAddress("link+unix:\(status.runDirectory)/engine-\(index).sock")
        }
    }

    private struct Problem: Error, CustomStringConvertible {
        var description: String
    }

    /// - Returns: null if it was given up.
    private static func wait(
        for process: SpawnedProcess, directory: String, engines: Int, isStopped: () -> Bool
    ) throws(Problem) -> SupervisorStatus? {
        let begin = ContinuousClock.now
        while begin.duration(to: .now) < .seconds(startSeconds) {
            var entry = pollfd(fd: process.pidfd, events: Int16(POLLIN), revents: 0)
            if poll(&entry, 1, 50) > 0 { throw Problem(description: "the server ended") }
            if isStopped() { return nil }
            let servers = RunningSupervisor.all(environment: ["XDG_RUNTIME_DIR": directory])
            guard let server = servers.first(where: { $0.pid == process.pid && $0.directory.hasPrefix(directory) }),
                var client = try? AdminClient(directory: server.directory),
                case .status(let status)? = try? client.ask(.status)
            else { continue }
            if let failed = status.engines.first(where: { $0.process.state == .failed }) {
                throw Problem(description: "engine \(failed.index) does not start (\(failed.process.lastExit))")
            }
            if status.gateway.state == .ready, status.engines.count == engines,
                status.engines.allSatisfy({ $0.process.state == .ready })
            {
                return status
            }
        }
        throw Problem(description: "it did not serve within \(Int(startSeconds)) s")
    }

    /// The end of its log, on one line.
    private static func lastLines(of path: String) -> String {
        let bytes = (try? StudyFile.read(path)) ?? []
        let lines = String(decoding: bytes.suffix(2000), as: UTF8.self).split(separator: "\n").suffix(3)
        return lines.isEmpty ? "it said nothing" : lines.joined(separator: " | ")
    }

    // MARK: What engines say

    /// Listens to the engines from now on.
    func observe(fingerprint: Digest128, on eventLoop: any EventLoop) {
        let hello = ClientHello(tokenizerFingerprint: fingerprint, pid: getpid())
        for (index, link) in links.enumerated() {
            observers.append(
                EngineLinkClient.connect(to: link, hello: hello, on: eventLoop) { [samples] event in
                    guard case .message(.statistics(let statistics)) = event else { return }
                    samples.all.withLock { $0[index].append(Sample(time: .now(), statistics: statistics)) }
                })
        }
    }

    /// Forgets all that engines said but the last of it.
    func forgetSamples() {
        samples.all.withLock { samples in
            for index in samples.indices where samples[index].count > 1 {
                samples[index].removeFirst(samples[index].count - 1)
            }
        }
    }

    /// What each engine said since ``forgetSamples()``, its last word before that first.
    ///
    /// - Parameter tokens: that they have generated together since then. Waits a moment until they have said so.
    func takeSamples(tokens: Int) -> [[Sample]] {
        for _ in 0..<100 where !observers.isEmpty {
            let isDone = samples.all.withLock { samples in
                let generated = samples.reduce(0) { sum, samples in
                    // An engine that was started again counts from 0.
                    guard let first = samples.first?.statistics, let last = samples.last?.statistics,
                        last.generatedTokens >= first.generatedTokens
                    else { return sum }
                    return sum + Int(clamping: last.generatedTokens - first.generatedTokens)
                }
                return generated >= tokens && samples.allSatisfy { $0.last?.statistics.runningSequences == 0 }
            }
            if isDone { break }
            usleep(10_000)
        }
        return samples.all.withLock { $0 }
    }

    // MARK: The end

    /// Whether it runs.
    var isAlive: Bool {
        var entry = pollfd(fd: process.pidfd, events: Int16(POLLIN), revents: 0)
        return !hasEnded && poll(&entry, 1, 0) == 0
    }

    /// Ends it, and removes its log.
    func stop() {
        guard !hasEnded else { return }
        hasEnded = true
        for observer in observers { observer.close() }
        Self.stop(process)
        unlink(log)
    }

    private static func stop(_ process: SpawnedProcess) {
        kill(process.pid, SIGTERM)
        var entry = pollfd(fd: process.pidfd, events: Int16(POLLIN), revents: 0)
        if poll(&entry, 1, Int32(stopSeconds * 1000)) <= 0 { kill(-process.pid, SIGKILL) }
        var status: Int32 = 0
        while waitpid(process.pid, &status, 0) < 0, errno == EINTR {}
        close(process.pidfd)
    }
}
