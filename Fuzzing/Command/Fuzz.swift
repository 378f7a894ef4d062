// Tandem — Apache-2.0

import Fuzzing
import Glibc

/// Reads hostile files, a million of them, and tells what went wrong.
enum Fuzz {
    /// After so many findings in one target there is enough to do.
    private static let maximumFindings = 10

    static func main() {
        guard let options = Options(Array(CommandLine.arguments.dropFirst())) else {
            Files.report(Options.usage)
            exit(2)
        }
        if let tally = options.tally, let directory = options.directory {
            runChild(options, tally: tally, directory: directory)
            return
        }
        if let execution = options.replay {
            replay(options, execution)
            return
        }
        var isClean = true
        print("| target | executions | accepted | slowest | mean | peak memory | findings | seed |")
        print("|---|---|---|---|---|---|---|---|")
        for target in options.targets where !run(target, options) { isClean = false }
        exit(isClean ? 0 : 1)
    }

    private static func fail(_ message: String) -> Never {
        Files.report("fuzz: \(message)")
        exit(2)
    }

    private static func makeRun(_ name: String, _ options: Options, directory: String) -> FuzzRun {
        guard let target = FuzzTarget.named(name, directory: directory) else { fail("there is no target \(name)") }
        let files = options.corpus.map { corpus in Files.names(in: corpus).map { corpus + "/" + $0 } } ?? []
        return FuzzRun(target, seed: options.seed, corpus: files.compactMap { Files.read($0, limit: 1 << 16) })
    }

    private static func replay(_ options: Options, _ execution: UInt64) {
        guard let directory = Files.makeDirectory() else { fail("no directory can be made") }
        defer { Files.remove(directory) }
        let run = makeRun(options.targets[0], options, directory: directory)
        let input = run.input(execution)
        if let output = options.output {
            guard Files.write(input, to: output) else { fail("\(output) cannot be written") }
        }
        print("input \(options.seed):\(execution) has \(input.count) bytes")
        var tally = FuzzTally()
        run.run(execution..<execution + 1, tally: &tally) { _, text in print(text) }
        print("\(tally.accepted == 1 ? "accepted" : "not accepted") after \(tally.time / 1000) µs")
    }

    // MARK: - Child

    private static func runChild(_ options: Options, tally path: String, directory: String) {
        guard let tally = SharedTally(path: path, isNew: false) else { fail("\(path) cannot be mapped") }
        var limit = rlimit(rlim_cur: rlim_t(options.memory << 20), rlim_max: rlim_t(options.memory << 20))
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
        let run = makeRun(options.targets[0], options, directory: directory)
        let deadline = options.seconds.map { monotonicSeconds() + $0 }
        var reports = 0
        run.run(
            options.first..<max(options.first, options.executions), tally: tally.pointer,
            isOver: { deadline.map { monotonicSeconds() >= $0 } ?? false },
            report: { execution, text in
                reports += 1
                guard reports <= maximumFindings else { return }
                Files.report("\(options.targets[0]) --replay \(options.seed):\(execution): \(text.prefix(2000))")
            })
    }

    private static func monotonicSeconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec)
    }

    // MARK: - Parent

    /// Runs one target in child processes, a new one after each crash, and prints its line of the table.
    ///
    /// - Returns: whether nothing was found.
    private static func run(_ name: String, _ options: Options) -> Bool {
        guard let directory = Files.makeDirectory(),
            let tally = SharedTally(path: directory + "/tally", isNew: true),
            mkdir(directory + "/files", 0o700) == 0
        else { fail("no directory can be made") }
        defer {
            Files.remove(directory + "/files")
            Files.remove(directory)
        }
        let start = monotonicSeconds()
        var options = options
        options.targets = [name]
        var crashes = 0
        var peak = 0
        while crashes < maximumFindings {
            if let seconds = options.seconds {
                let used = monotonicSeconds() - start
                guard used < seconds else { break }
            }
            let ended = runChild(options, directory, tally, elapsed: monotonicSeconds() - start)
            peak = max(peak, ended.peakKilobytes)
            guard let crash = ended.crash else { break }
            crashes += 1
            Files.report("\(name) --replay \(options.seed):\(tally.pointer.pointee.current): \(crash)")
            options.first = tally.pointer.pointee.current + 1
        }
        let result = tally.pointer.pointee
        let findings = UInt64(crashes) + result.faults + result.overTime
        let all = max(1, result.executions)
        print(
            "| \(name) | \(result.executions) | \(percent(result.accepted, of: all)) | "
                + "\(milliseconds(result.slowest)) (\(result.slowestExecution)) | \(result.time / all / 1000) µs | "
                + "\(peak / 1024) MiB | \(findings) | \(options.seed) |")
        fflush(nil)
        return findings == 0
    }

    private static func percent(_ part: UInt64, of whole: UInt64) -> String {
        let tenths = part * 1000 / whole
        return "\(tenths / 10).\(tenths % 10) %"
    }

    private static func milliseconds(_ nanoseconds: UInt64) -> String {
        "\(nanoseconds / 1_000_000).\(nanoseconds / 100_000 % 10) ms"
    }

    /// Runs a child to its end.
    ///
    /// - Returns: what ended it, if it did not end by itself, and the most memory it had.
    private static func runChild(
        _ options: Options, _ directory: String, _ tally: SharedTally, elapsed: UInt64
    ) -> (crash: String?, peakKilobytes: Int) {
        var arguments = [
            "fuzz", options.targets[0], "--executions", "\(options.executions)", "--seed", "\(options.seed)",
            "--memory", "\(options.memory)", "--tally", directory + "/tally", "--directory", directory + "/files",
            "--first", "\(options.first)",
        ]
        if let corpus = options.corpus { arguments += ["--corpus", corpus] }
        if let seconds = options.seconds { arguments += ["--seconds", "\(seconds - min(seconds, elapsed))"] }
        var pointers = arguments.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var process = pid_t()
        guard posix_spawn(&process, "/proc/self/exe", nil, nil, &pointers, environ) == 0 else {
            fail("no child starts")
        }
        return wait(for: process, tally)
    }

    /// An execution that is not over after a minute, on a machine that has other things to do as well, hangs.
    private static func wait(for process: pid_t, _ tally: SharedTally) -> (crash: String?, peakKilobytes: Int) {
        var usage = rusage()
        var status: CInt = 0
        var last = tally.pointer.pointee.executions
        var changed = monotonicSeconds()
        var hangs = false
        while wait4(process, &status, WNOHANG, &usage) == 0 {
            if tally.pointer.pointee.executions != last {
                last = tally.pointer.pointee.executions
                changed = monotonicSeconds()
            } else if monotonicSeconds() - changed > 60, !hangs {
                hangs = true
                kill(process, SIGKILL)
            }
            usleep(20_000)
        }
        let peak = usage.ru_maxrss
        if hangs { return ("hangs", peak) }
        let signal = status & 0x7F
        if signal != 0 { return ("ended by signal \(signal)", peak) }
        let code = (status >> 8) & 0xFF
        return (code == 0 ? nil : "exited with status \(code)", peak)
    }
}
