// Tandem — Apache-2.0

import Glibc

/// Scripts that tests run as programs.
public enum ExecutableScript {
    /// The script could not be written.
    public struct WriteError: Error {
        public var path: String
    }

    /// Writes a script and makes it executable.
    ///
    /// Another process does it. A file that this one had open for writing could be inherited by a child that another
    /// test is just starting, and as long as anybody has it open for writing, it cannot be run ("Text file busy").
    public static func write(_ text: String, to path: String) throws {
        let words = ["sh", "-c", "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", text, path]
        var arguments = words.map { word -> UnsafeMutablePointer<CChar>? in strdup(word) }
        defer { for argument in arguments { free(argument) } }
        arguments.append(nil)
        var pid: pid_t = 0
        var status: Int32 = 0
        guard posix_spawn(&pid, "/bin/sh", nil, nil, arguments, nil) == 0 else { throw WriteError(path: path) }
        while waitpid(pid, &status, 0) < 0 {
            guard errno == EINTR else { throw WriteError(path: path) }
        }
        guard status == 0 else { throw WriteError(path: path) }
    }
}
