// Tandem — Apache-2.0

import Glibc

/// A directory in which one file after another takes the same name.
struct HostileDirectory: Sendable {
    let path: String

    init(_ path: String) { self.path = path }

    /// Writes a file, in place of the one before.
    ///
    /// - Returns: its path.
    @discardableResult
    func write(_ bytes: [UInt8], as name: String) -> String {
        let file = path + "/" + name
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        precondition(descriptor >= 0, "\(file) cannot be written")
        defer { close(descriptor) }
        var start = 0
        while start < bytes.count {
            let count = bytes[start...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            precondition(count > 0, "\(file) cannot be written")
            start += count
        }
        return file
    }
}
