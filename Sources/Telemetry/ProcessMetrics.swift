// Tandem — Apache-2.0

import Glibc

/// What Prometheus expects every process to say of itself, read from `/proc`.
public enum ProcessMetrics {
    /// Adds `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_cpu_seconds_total`,
    /// `process_open_fds`, `process_max_fds` and `process_start_time_seconds`; one that cannot be read is left out.
    public static func register(in registry: MetricRegistry) {
        registry.read("process_resident_memory_bytes", help: "Resident memory size in bytes.", kind: .gauge) {
            residentBytes().map { Double($0) }
        }
        registry.read(
            "process_cpu_seconds_total",
            help: "Total user and system CPU time spent in seconds.",
            kind: .counter
        ) {
            cpuSeconds()
        }
        registry.read("process_open_fds", help: "Number of open file descriptors.", kind: .gauge) {
            openDescriptors().map { Double($0) }
        }
        registry.read("process_virtual_memory_bytes", help: "Virtual memory size in bytes.", kind: .gauge) {
            memorySizes()?.virtual.map { Double($0) }
        }
        registry.read("process_max_fds", help: "Maximum number of open file descriptors.", kind: .gauge) {
            maximumDescriptors()
        }
        let start = startSeconds()
        registry.read(
            "process_start_time_seconds",
            help: "Start time of the process since the Unix epoch in seconds.",
            kind: .gauge
        ) {
            start
        }
    }

    /// Resident memory of this process, in bytes.
    public static func residentBytes() -> UInt64? { memorySizes()?.resident }

    /// Memory in bytes.
    private static func memorySizes() -> (virtual: UInt64?, resident: UInt64?)? {
        // Pages: total, resident, shared, …
        guard let text = contents(of: "/proc/self/statm"), let pageSize = UInt64(exactly: sysconf(Int32(_SC_PAGESIZE)))
        else { return nil }
        let bytes = text.split(separator: " ").prefix(2).map { field -> UInt64? in
            guard let pages = UInt64(field) else { return nil }
            let (bytes, overflow) = pages.multipliedReportingOverflow(by: pageSize)
            return overflow ? nil : bytes
        }
        return bytes.count == 2 ? (bytes[0], bytes[1]) : nil
    }

    private static func maximumDescriptors() -> Double? {
        guard let limit = DescriptorLimit.read() else { return nil }
        return limit.rlim_cur == rlim_t.max ? -1 : Double(limit.rlim_cur)
    }

    static func cpuSeconds() -> Double? {
        var time = timespec()
        guard clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0 else { return nil }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    static func openDescriptors() -> Int? {
        guard let directory = opendir("/proc/self/fd") else { return nil }
        defer { closedir(directory) }
        var count = 0
        while let entry = readdir(directory) {
            if entry.pointee.d_name.0 != 0x2E { count += 1 }
        }
        // The directory that was read is open too.
        return count - 1
    }

    static func startSeconds() -> Double? {
        guard let stat = contents(of: "/proc/self/stat"), let system = contents(of: "/proc/stat"),
            let nameEnd = stat.lastIndex(of: ")")
        else { return nil }
        // Field 22 of proc(5); the first after the name is field 3.
        let fields = stat[stat.index(after: nameEnd)...].split(separator: " ")
        guard fields.count > 19, let ticks = Double(fields[19]) else { return nil }
        let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
        guard let boot = system.split(separator: "\n").first(where: { $0.hasPrefix("btime ") }),
            let bootSeconds = Double(boot.dropFirst("btime ".count)), ticksPerSecond > 0
        else { return nil }
        return bootSeconds + ticks / ticksPerSecond
    }

    /// A small file of `/proc`.
    private static func contents(of path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while bytes.count < 1 << 20 {
            let count = read(descriptor, &chunk, chunk.count)
            guard count > 0 else { break }
            bytes.append(contentsOf: chunk[..<count])
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
