// Tandem — Apache-2.0

internal import Glibc

/// NVIDIA's programs on this machine.
public struct MPSPrograms: Sendable, Equatable {
    public var control: String
    /// Null if only the daemon finds it, or nobody.
    public var server: String?

    /// Where distributions and containers put them, beside PATH: Debian has the server in `/usr/sbin`.
    static let usualDirectories = ["/usr/bin", "/usr/sbin", "/usr/local/nvidia/bin", "/usr/local/bin", "/opt/bin"]

    /// - Parameter searchPath: directories separated by colons.
    public init(searchPath: String, usualDirectories: [String]? = nil) throws(MPSError) {
        let directories =
            searchPath.split(separator: ":").map(String.init) + (usualDirectories ?? Self.usualDirectories)
        func find(_ name: String) -> String? {
            directories.lazy.map { "\($0)/\(name)" }.first { path in
                var status = stat()
                return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path, X_OK) == 0
            }
        }
        guard let control = find(MPSRole.control.program) else { throw .programMissing(name: MPSRole.control.program) }
        self.control = control
        server = find(MPSRole.server.program)
    }

    /// A search path on which the daemon finds its server.
    func searchPath(_ before: String?) -> String {
        var directories = (before ?? "/usr/bin:/bin").split(separator: ":").map(String.init)
        for program in [control, server ?? control] {
            let directory = program.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" }
            if !directories.contains(directory) { directories.append(directory) }
        }
        return directories.joined(separator: ":")
    }
}
