// Tandem — Apache-2.0

internal import Glibc

/// The memory of a process, by /proc/PID/status (proc(5)).
enum ProcessMemory {
    /// Bytes that a process has to itself: anonymous pages, in memory (`RssAnon`) and swapped out (`VmSwap`).
    ///
    /// The resident set and its high-water mark (`VmRSS`, `VmHWM`) also have the pages that processes share, each of
    /// them in full: the one copy of the weights, a memory file, would count once an engine, and the model's file,
    /// which is the page cache's, too. The kernel keeps no high-water mark of anonymous pages alone.
    static func ownBytes(status: String) -> UInt64? {
        guard let resident = field("RssAnon:", of: status) else { return nil }
        return MemoryPlan.sum(resident, field("VmSwap:", of: status) ?? 0)
    }

    /// Null if there is no such process.
    static func ownBytes(of pid: Int32) -> UInt64? {
        guard pid > 0 else { return nil }
        let descriptor = open("/proc/\(pid)/status", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 8192)
        let count = read(descriptor, &buffer, buffer.count)
        guard count > 0 else { return nil }
        return ownBytes(status: String(decoding: buffer[..<count], as: UTF8.self))
    }

    /// A field in bytes; the file has `kB`, which are 1024 bytes.
    private static func field(_ name: String, of text: String) -> UInt64? {
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard fields.count >= 2, let kibibytes = UInt64(fields[1]) else { return nil }
            return MemoryPlan.product(kibibytes, 1024)
        }
        return nil
    }
}
