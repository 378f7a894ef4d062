// Tandem — Apache-2.0

internal import Glibc

/// CPU time that all processes of the machine, and some of them, have taken so far: two moments say how many cores
/// worked for others meanwhile.
struct MachineLoad {
    /// Seconds since the machine started, over all cores, stolen ones included.
    var all: Double
    /// Seconds of the processes asked about.
    var own: Double
    private var time: ContinuousClock.Instant

    /// More cores than this, at work for others, spoil a measurement.
    static let tolerance = 0.1

    init(all: Double, own: Double, at time: ContinuousClock.Instant) {
        self.all = all
        self.own = own
        self.time = time
    }

    /// Null where /proc does not say it.
    init?(processes: [Int32]) {
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        guard ticks > 0, let bytes = try? StudyFile.read("/proc/stat"), let all = Self.busyTicks(bytes) else {
            return nil
        }
        var own = 0.0
        for process in processes {
            guard let bytes = try? StudyFile.read("/proc/\(process)/stat"), let used = Self.usedTicks(bytes) else {
                continue
            }
            own += Double(used) / ticks
        }
        self.init(all: Double(all) / ticks, own: own, at: .now)
    }

    /// Cores that worked for others from an earlier moment to this one.
    func otherCores(since earlier: MachineLoad) -> Double {
        let passed = earlier.time.duration(to: time)
        let seconds = Double(passed.components.seconds) + Double(passed.components.attoseconds) * 1e-18
        guard seconds > 0 else { return 0 }
        return max(0, (all - earlier.all - (own - earlier.own)) / seconds)
    }

    /// Of the first line of /proc/stat: everything but waiting; guests are in the times of users.
    static func busyTicks(_ bytes: [UInt8]) -> UInt64? {
        let line = String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
        let words = line.split(separator: " ")
        guard words.count >= 9, words[0] == "cpu" else { return nil }
        let numbers = words.dropFirst().prefix(8).compactMap { UInt64($0) }
        guard numbers.count == 8 else { return nil }
        return numbers[0] + numbers[1] + numbers[2] + numbers[5] + numbers[6] + numbers[7]
    }

    /// Of a process: what all its threads took, in user space and in the kernel. Its name may hold anything.
    static func usedTicks(_ bytes: [UInt8]) -> UInt64? {
        guard let end = bytes.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let words = String(decoding: bytes[(end + 1)...], as: UTF8.self).split(separator: " ")
        guard words.count > 12, let user = UInt64(words[11]), let system = UInt64(words[12]) else { return nil }
        return user + system
    }
}
