// Tandem — Apache-2.0

internal import Glibc

/// How much memory the KV cache of each engine gets.
public enum MemoryPlan {
    /// Most that an engine takes by itself: more only pays with long contexts and many of them.
    public static let defaultMaximumBytes: UInt64 = 1 << 30

    /// KV bytes of each engine.
    ///
    /// - Parameters:
    ///   - requested: what the user asked for, an engine; null for the default: a fifth of the available memory shared
    ///     by all engines, at most ``defaultMaximumBytes`` each, but room for one full sequence in any case.
    ///   - bytesPerToken: KV bytes of one token over all layers.
    ///   - contextLength: tokens of the longest sequence.
    /// - Throws: ``SupervisionError`` if one full sequence does not fit.
    public static func keyValueBytes(
        requested: UInt64?,
        availableBytes: UInt64,
        engines: Int,
        bytesPerToken: UInt64,
        contextLength: Int
    ) throws(SupervisionError) -> UInt64 {
        let (product, overflow) = bytesPerToken.multipliedReportingOverflow(by: UInt64(max(1, contextLength)))
        let needed = overflow ? UInt64.max : product
        if let requested {
            guard requested >= needed else {
                throw .keyValueMemoryTooSmall(
                    givenBytes: requested, neededBytes: needed, contextLength: contextLength)
            }
            return requested
        }
        let engineCount = UInt64(max(1, engines))
        let share = min(defaultMaximumBytes, availableBytes / 5 / engineCount)
        if share >= needed { return share / (1 << 20) * (1 << 20) >= needed ? share / (1 << 20) * (1 << 20) : share }
        // A small machine may spend more than a fifth on the one sequence it must be able to serve.
        let most = availableBytes / 2 / engineCount
        guard most >= needed else {
            throw .notEnoughMemory(neededBytes: needed, availableBytes: most, contextLength: contextLength)
        }
        return needed
    }

    /// Bytes this process could take now: what the kernel calls available, or less if its control group allows less.
    public static func availableBytes() -> UInt64 {
        let machine = text(of: "/proc/meminfo").flatMap(availableBytes(meminfo:)) ?? 0
        guard let limit = text(of: "/sys/fs/cgroup/memory.max").flatMap(number),
            let used = text(of: "/sys/fs/cgroup/memory.current").flatMap(number)
        else { return machine }
        return min(machine, limit > used ? limit - used : 0)
    }

    /// `MemAvailable` of the text of /proc/meminfo, in bytes.
    static func availableBytes(meminfo: String) -> UInt64? {
        for line in meminfo.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
            let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard fields.count >= 2, let kibibytes = UInt64(fields[1]) else { return nil }
            let (bytes, overflow) = kibibytes.multipliedReportingOverflow(by: 1024)
            return overflow ? nil : bytes
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
