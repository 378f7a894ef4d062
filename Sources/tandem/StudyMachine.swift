// Tandem — Apache-2.0

import Glibc
import ModelStore

/// What a study notes of the machine that it runs on, and of the program.
enum StudyMachine {
    /// Processor, cores, memory and system: `AMD EPYC 9R14, 2 cores, 8 GiB, Linux 6.1`.
    static var description: String {
        var system = utsname()
        uname(&system)
        let release = withUnsafeBytes(of: system.release) { bytes in
            // Without what a distributor appends to the version.
            String(decoding: bytes.prefix { $0 != 0 && $0 != UInt8(ascii: "-") }, as: UTF8.self)
        }
        let pages = sysconf(Int32(_SC_PHYS_PAGES))
        let memory = Double(pages) * Double(sysconf(Int32(_SC_PAGESIZE))) / 1_073_741_824
        return "\(processor ?? "unknown processor"), \(Process.usableCores().count) cores, "
            + "\(Int(memory.rounded())) GiB, Linux \(release)"
    }

    private static var processor: String? {
        guard let text = text(ofFile: "/proc/cpuinfo") else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix("model name") {
            return line.split(separator: ":", maxSplits: 1).last.map { name in
                String(name.drop { $0 == " " })
            }
        }
        return nil
    }

    /// Now, in UTC: `2026-11-26T21:09:00Z`.
    static var date: String {
        var now = Glibc.time(nil)
        var parts = tm()
        gmtime_r(&now, &parts)
        let two = { (value: Int32) in value < 10 ? "0\(value)" : "\(value)" }
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T\(two(parts.tm_hour)):"
            + "\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
    }

    /// The commit of the checkout that the program was built in; null if it was installed elsewhere.
    static var revision: String? {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
        guard count > 0 else { return nil }
        var path = String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        while let slash = path.lastIndex(of: "/") {
            path = String(path[..<slash])
            if access(path + "/.git", F_OK) == 0 { return commit(of: path + "/.git") }
        }
        return nil
    }

    /// What measured: the program itself, since a checkout may have changed since it was built.
    static var versions: [String: String] {
        let file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [:] }
        defer { close(file) }
        var sum = SHA256()
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = read(file, &buffer, buffer.count)
            guard count >= 0 else { return [:] }
            if count == 0 { return ["program, SHA-256": String(sum.hexDigest().prefix(16))] }
            buffer.withUnsafeBytes { sum.update(UnsafeRawBufferPointer(rebasing: $0[0..<count])) }
        }
    }

    /// - Parameter git: a directory, or the file that names it.
    private static func commit(of git: String) -> String? {
        var directory = git
        if let pointer = text(ofFile: git), pointer.hasPrefix("gitdir: ") { directory = line(pointer.dropFirst(8)) }
        guard let head = text(ofFile: directory + "/HEAD").map({ line($0[...]) }) else { return nil }
        guard head.hasPrefix("ref: ") else { return head }
        let reference = String(head.dropFirst(5))
        // A further work tree has its branches beside the first one's.
        let common = text(ofFile: directory + "/commondir").map { directory + "/" + line($0[...]) } ?? directory
        if let commit = text(ofFile: common + "/" + reference) { return line(commit[...]) }
        for entry in (text(ofFile: common + "/packed-refs") ?? "").split(separator: "\n")
        where entry.hasSuffix(" " + reference) {
            return entry.split(separator: " ").first.map(String.init)
        }
        return nil
    }

    private static func line(_ text: Substring) -> String { String(text.prefix { $0 != "\n" }) }

    private static func text(ofFile path: String) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while bytes.count < 1 << 20 {
            let count = read(file, &buffer, buffer.count)
            if count < 0 { return nil }
            if count == 0 { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
