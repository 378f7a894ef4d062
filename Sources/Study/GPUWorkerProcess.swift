// Tandem — Apache-2.0

internal import Glibc
internal import JSON
internal import Processes
internal import Supervision

/// A `tandem gpu worker` that takes a line of JSON and answers with one. Belongs to the thread that started it, with
/// which it ends.
final class GPUWorkerProcess {
    private let process: SpawnedProcess
    private let input: Int32
    private let output: Int32
    private var buffer: [UInt8] = []
    private let subject: String
    /// How it ended, once that was asked for.
    private var exit: ChildExit?

    /// - Throws: ``StudyError`` if it does not start.
    init(device: String, environment: [String: String], log: String, subject: String) throws(StudyError) {
        self.subject = subject
        func failed(_ what: String) -> StudyError {
            StudyError(subject: subject, reason: "\(what): \(String(cString: strerror(errno)))")
        }
        // Children get what they are given and nothing else: everything is closed in them.
        var toWorker: [Int32] = [-1, -1]
        var fromWorker: [Int32] = [-1, -1]
        guard pipe(&toWorker) == 0 else { throw failed("a pipe cannot be made") }
        guard pipe(&fromWorker) == 0 else {
            toWorker.forEach { close($0) }
            throw failed("a pipe cannot be made")
        }
        let errors = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        defer {
            close(toWorker[0])
            close(fromWorker[1])
            close(errors)
        }
        let spawn = Spawn(
            path: "/proc/self/exe", arguments: ["tandem", "gpu", "worker", "--device", device],
            environment: environment,
            descriptors: [(toWorker[0], STDIN_FILENO), (fromWorker[1], STDOUT_FILENO), (errors, STDERR_FILENO)])
        do {
            process = try spawn.start()
        } catch {
            close(toWorker[1])
            close(fromWorker[0])
            throw StudyError(
                subject: subject, reason: "a worker cannot \(error.stage): \(String(cString: strerror(error.code)))")
        }
        (input, output) = (toWorker[1], fromWorker[0])
    }

    /// Sends a request; the answer is for ``answer(within:isStopped:)``.
    func ask(_ fill: (inout JSONWriter) -> Void) throws(StudyError) {
        var writer = JSONWriter()
        writer.beginObject()
        fill(&writer)
        writer.endObject()
        let line = writer.bytes + [UInt8(ascii: "\n")]
        guard write(input, line, line.count) == line.count else {
            throw ended()
        }
    }

    /// What its end, which is near or past, came from.
    private func ended() -> StudyError {
        var entry = pollfd(fd: process.pidfd, events: Int16(POLLIN), revents: 0)
        guard exit == nil, poll(&entry, 1, 1000) > 0 else {
            return StudyError(subject: subject, reason: "the worker \(exit?.description ?? "answers no more")")
        }
        return StudyError(subject: subject, reason: "the worker \(reap())")
    }

    /// Waits for its end.
    private func reap() -> ChildExit {
        var status: Int32 = 0
        while waitpid(process.pid, &status, 0) < 0, errno == EINTR {}
        let exit = ChildExit(waitStatus: status)
        self.exit = exit
        return exit
    }

    /// Waits for an answer.
    ///
    /// - Throws: ``StudyError``: the worker's own failure, its end, or silence.
    func answer(within seconds: Int, isStopped: () -> Bool) throws(StudyError) -> JSONObject {
        let begin = ContinuousClock.now
        while true {
            if let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
                let line = Array(buffer[..<end])
                buffer.removeSubrange(...end)
                guard let object = try? JSONParser.parse(line).object else {
                    throw StudyError(subject: subject, reason: "the worker answers with something that is no JSON")
                }
                if let failure = object["failure"]?.string { throw StudyError(subject: subject, reason: failure) }
                return object
            }
            if isStopped() { throw StudyError(subject: subject, reason: "stopped") }
            guard begin.duration(to: .now) < .seconds(seconds) else {
                throw StudyError(subject: subject, reason: "the worker says nothing for \(seconds) s")
            }
            var entry = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, 50) > 0 else { continue }
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = read(output, &bytes, bytes.count)
            guard count > 0 else { throw ended() }
            buffer += bytes[..<count]
        }
    }

    /// Ends it.
    func stop() {
        close(input)
        if exit == nil {
            var entry = pollfd(fd: process.pidfd, events: Int16(POLLIN), revents: 0)
            if poll(&entry, 1, 5000) <= 0 { kill(-process.pid, SIGKILL) }
            _ = reap()
        }
        close(process.pidfd)
        close(output)
    }
}
