// Tandem — Apache-2.0

internal import Glibc

/// Engines that are servers of the OpenAI API, started by a command of their own and reached over HTTP. Whether they
/// compute, the gateway finds out.
public struct ExternalEngine: Sendable {
    /// What a command may depend on.
    public struct Start: Sendable {
        /// Of the engine, among all engines.
        public var index: Int
        /// Where it shall listen.
        public var port: UInt16
        /// Cores it has.
        public var threads: Int
        /// Other engines of its model that run.
        public var running: Int
    }

    /// A command as it is run.
    public struct Command: Sendable {
        /// The first is the program as it was written.
        public var words: [String]
        /// Besides the environment.
        public var variables: [String: String]

        public init(words: [String], variables: [String: String] = [:]) {
            self.words = words
            self.variables = variables
        }
    }

    /// Path of the program.
    public var executable: String
    /// What it is called where people read it.
    public var name: String
    /// All of its environment, but what says which engine it is.
    public var environment: [String: String]
    public var command: @Sendable (Start) -> Command

    public init(
        executable: String, name: String, environment: [String: String],
        command: @escaping @Sendable (Start) -> Command
    ) {
        self.executable = executable
        self.name = name
        self.environment = environment
        self.command = command
    }

    /// Where a program is, as a shell finds it.
    ///
    /// - Parameter path: directories with colons between them; null if there is no such variable.
    /// - Throws: ``SupervisionError/noProgram(_:reason:)``.
    public static func executable(_ program: String, path: String?) throws(SupervisionError) -> String {
        func reason(_ file: String) -> String? {
            var status = stat()
            guard stat(file, &status) == 0 else { return String(cString: strerror(errno)) }
            guard status.st_mode & S_IFMT == S_IFREG else { return "it is no file" }
            return access(file, X_OK) == 0 ? nil : "it is not executable (chmod +x)"
        }
        if program.contains("/") {
            if let reason = reason(program) { throw .noProgram(program, reason: reason) }
            return program
        }
        let directories = (path ?? "/usr/local/bin:/usr/bin:/bin").split(
            separator: ":", omittingEmptySubsequences: false)
        for directory in directories {
            let file = (directory.isEmpty ? "." : directory) + "/" + program
            if reason(file) == nil { return file }
        }
        throw .noProgram(program, reason: "it is in no directory of PATH; install it, or give its path")
    }
}

extension ExternalEngine {
    /// Starts an engine; what it prints is passed on.
    ///
    /// - Parameters:
    ///   - title: what its lines begin with.
    ///   - cores: CPU numbers.
    ///   - surroundings: makes its environment of the one that it would have by itself.
    func start(
        _ start: Start, title: String, cores: [Int32], surroundings: ([String: String]) -> [String: String]
    ) throws(LaunchError) -> ChildProcess {
        let command = command(start)
        let output = try EngineOutput.open(title: title)
        defer { close(output) }
        return try ChildProcess(
            ChildLaunch(
                executable: executable, arguments: command.words,
                environment: surroundings(environment.merging(command.variables) { $1 }),
                descriptors: [(output, STDOUT_FILENO), (output, STDERR_FILENO)], cores: cores))
    }
}

/// Marks in the environment of children, by which what they leave behind is known.
enum ProcessMark {
    /// The directory of the supervisor that they belong to.
    static let runDirectory = "TANDEM_RUN_DIRECTORY"
    static let engineIndex = "TANDEM_ENGINE_INDEX"
}

/// Ports of this machine.
enum FreePort {
    /// Where an engine shall listen.
    ///
    /// - Parameters:
    ///   - base: of fixed ports; null for any free one.
    ///   - taken: by other engines.
    static func port(base: UInt16?, engine: Int, taken: Set<UInt16>) throws(LaunchError) -> UInt16 {
        guard let base else {
            if let port = find(except: taken) { return port }
            throw LaunchError(reason: "there is no free port: \(String(cString: strerror(errno)))")
        }
        let port = UInt16(clamping: Int(base) + engine)
        guard isFree(port) else { throw LaunchError(reason: "port \(port) is in use") }
        return port
    }

    /// A port where nobody listens now, and that none of `taken` is; null if the system gives none.
    static func find(except taken: Set<UInt16>) -> UInt16? {
        // Open all at once, so that the same one does not come again.
        var sockets: [Int32] = []
        defer { for socket in sockets { close(socket) } }
        for _ in 0...taken.count {
            guard let (socket, port) = bound(to: 0) else { return nil }
            sockets.append(socket)
            if !taken.contains(port) { return port }
        }
        return nil
    }

    /// Whether an engine could listen there. What another program serves there would be taken for the engine.
    static func isFree(_ port: UInt16) -> Bool {
        guard let (socket, _) = bound(to: port) else { return false }
        close(socket)
        return true
    }

    private static func bound(to port: UInt16) -> (socket: Int32, port: UInt16)? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        // Connections of an engine that died may still linger there.
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = in_addr_t(INADDR_LOOPBACK).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        guard isBound else {
            close(descriptor)
            return nil
        }
        return (descriptor, UInt16(bigEndian: address.sin_port))
    }
}
