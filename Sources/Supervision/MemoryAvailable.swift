// Tandem — Apache-2.0

internal import Glibc

/// How much memory there is to plan with.
public enum MemoryAvailable {
    /// Bytes this process could take now: what the kernel calls available, or less if a control group allows less.
    public static func bytes() -> UInt64 {
        bytes { text(of: $0) }
    }

    /// - Parameter read: the text of a file of /proc or /sys, or `nil` if there is none.
    static func bytes(read: (String) -> String?) -> UInt64 {
        let machine = read("/proc/meminfo").flatMap(available(meminfo:)) ?? 0
        return groups(read).reduce(machine) { min($0, room(in: $1, read) ?? .max) }
    }

    /// `MemAvailable` of the text of /proc/meminfo, in bytes.
    static func available(meminfo: String) -> UInt64? {
        guard let kibibytes = field("MemAvailable:", of: meminfo) else { return nil }
        let (bytes, overflow) = kibibytes.multipliedReportingOverflow(by: 1024)
        return overflow ? nil : bytes
    }

    // MARK: - Control groups

    private struct Group {
        var directory: String
        var limit: String
        var usage: String
    }

    /// The process's memory control group and all above it, of both versions; see cgroups(7).
    private static func groups(_ read: (String) -> String?) -> [Group] {
        var groups: [Group] = []
        for line in (read("/proc/self/cgroup") ?? "0::/").split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            let controllers = fields[1].split(separator: ",")
            let isFirstVersion = controllers.contains("memory")
            guard controllers.isEmpty || isFirstVersion else { continue }
            var parts = fields[2].split(separator: "/")
            while true {
                let path = parts.map { "/\($0)" }.joined()
                groups.append(
                    isFirstVersion
                        ? Group(
                            directory: "/sys/fs/cgroup/memory" + path, limit: "memory.limit_in_bytes",
                            usage: "memory.usage_in_bytes")
                        : Group(directory: "/sys/fs/cgroup" + path, limit: "memory.max", usage: "memory.current"))
                guard parts.popLast() != nil else { break }
            }
        }
        return groups
    }

    /// What a group's processes may still take; `nil` without a limit. Its clean file pages make way.
    private static func room(in group: Group, _ read: (String) -> String?) -> UInt64? {
        guard let limit = read("\(group.directory)/\(group.limit)").flatMap(number),
            let usage = read("\(group.directory)/\(group.usage)").flatMap(number)
        else { return nil }
        let files = read("\(group.directory)/memory.stat").flatMap { field("inactive_file", of: $0) } ?? 0
        let used = usage - min(usage, files)
        return limit > used ? limit - used : 0
    }

    // MARK: - Files

    /// The number behind a name at the beginning of a line.
    private static func field(_ name: String, of text: String) -> UInt64? {
        for line in text.split(separator: "\n") {
            let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            if fields.count >= 2, fields[0] == name { return UInt64(fields[1]) }
        }
        return nil
    }

    private static func number(_ text: String) -> UInt64? {
        UInt64(text.prefix { $0.isNumber })
    }

    private static func text(of path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 16384)
        let count = read(descriptor, &buffer, buffer.count)
        return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
    }
}
