// Tandem — Apache-2.0

internal import Glibc

/// Passes on what an external engine prints, each line with the engine's name before it. It has a thread of its own,
/// which ends with the output: whoever does not read our standard error stops engines that print, and nothing else.
enum EngineOutput {
    /// Longer lines are cut into several.
    private static let maximumLine = 4000

    /// A pipe's writing end for an engine's standard output and standard error, to be closed once the engine runs.
    static func open(title: String) throws(LaunchError) -> Int32 {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else {
            throw LaunchError(reason: "cannot create a pipe: \(String(cString: strerror(errno)))")
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let context = Unmanaged.passRetained(Relay(descriptor: ends[0], prefix: Array("\(title): ".utf8)))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { pointer in
                pointer.map { Unmanaged<Relay>.fromOpaque($0).takeRetainedValue() }?.run()
                return nil
            }, context.toOpaque())
        guard code == 0 else {
            context.release()
            for end in ends { close(end) }
            throw LaunchError(reason: "cannot start a thread for its output: \(String(cString: strerror(code)))")
        }
        pthread_detach(thread)
        return ends[1]
    }

    private final class Relay: Sendable {
        private let descriptor: Int32
        private let prefix: [UInt8]

        init(descriptor: Int32, prefix: [UInt8]) {
            self.descriptor = descriptor
            self.prefix = prefix
        }

        func run() {
            defer { close(descriptor) }
            var lines = LineBuffer(maximumLine: EngineOutput.maximumLine)
            var buffer = [UInt8](repeating: 0, count: 16384)
            while true {
                let count = read(descriptor, &buffer, buffer.count)
                if count < 0 && errno == EINTR { continue }
                guard count > 0 else { break }
                for line in lines.add(buffer[..<count]) { say(line) }
            }
            if let line = lines.rest { say(line) }
        }

        /// In one piece, so that lines of several processes do not mix.
        private func say(_ line: [UInt8]) {
            var bytes = (prefix + line + [UInt8(ascii: "\n")])[...]
            while !bytes.isEmpty {
                let count = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
                if count < 0 && errno == EINTR { continue }
                // Nobody reads it; the engine shall not stop for that.
                guard count > 0 else { return }
                bytes = bytes.dropFirst(count)
            }
        }
    }
}

/// Cuts bytes that come in pieces into lines.
struct LineBuffer {
    private let maximumLine: Int
    private var line: [UInt8] = []
    private var endedWithReturn = false

    init(maximumLine: Int) {
        self.maximumLine = maximumLine
    }

    /// What has no end yet; null if that is nothing.
    var rest: [UInt8]? { line.isEmpty ? nil : line }

    /// Lines that end in these bytes, without their ends. A carriage return ends one, too, as progress bars have it.
    mutating func add(_ bytes: some Sequence<UInt8>) -> [[UInt8]] {
        var lines: [[UInt8]] = []
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "\n") where endedWithReturn:
                break
            case UInt8(ascii: "\n"), UInt8(ascii: "\r"):
                lines.append(line)
                line = []
            default:
                line.append(byte)
                if line.count == maximumLine {
                    lines.append(line)
                    line = []
                }
            }
            endedWithReturn = byte == UInt8(ascii: "\r")
        }
        return lines
    }
}
