// Tandem — Apache-2.0

import Glibc
import TestSupport

/// What a run has seen so far. Plain numbers, so that it can lie in memory that outlives a crash.
public struct FuzzTally: Sendable {
    /// The execution that is under way.
    public var current: UInt64 = 0
    /// Executions that came to their end.
    public var executions: UInt64 = 0
    public var accepted: UInt64 = 0
    public var refused: UInt64 = 0
    public var faults: UInt64 = 0
    /// Processor time of the slowest execution, in nanoseconds.
    public var slowest: UInt64 = 0
    public var slowestExecution: UInt64 = 0
    /// Executions that took longer than ``FuzzRun/timeLimit``.
    public var overTime: UInt64 = 0
    /// Processor time of all executions, in nanoseconds.
    public var time: UInt64 = 0

    public init() {}
}

/// A sequence of inputs to one target. Its number and the seed decide what an input is, so that any can be made again.
public struct FuzzRun: Sendable {
    /// An execution may take this much processor time, in nanoseconds.
    public static let timeLimit: UInt64 = 1_000_000_000

    private let target: FuzzTarget
    private let seed: UInt64
    private let mutator: Mutator

    /// - Parameter corpus: further files to begin from.
    public init(_ target: FuzzTarget, seed: UInt64, corpus: [[UInt8]] = []) {
        self.target = target
        self.seed = seed
        mutator = Mutator(seeds: target.seeds + corpus, dialect: target.dialect)
    }

    /// The input of an execution. The first ones are the files to begin from as they are.
    public func input(_ execution: UInt64) -> [UInt8] {
        if execution < UInt64(mutator.seeds.count) { return mutator.seeds[Int(execution)] }
        var mixer = SeededGenerator(seed: seed)
        var generator = SeededGenerator(seed: mixer.next() ^ execution &* 0xD6E8_FEB8_6659_FD93)
        return mutator.input(&generator)
    }

    /// Runs executions one after another.
    ///
    /// - Parameters:
    ///   - executions: their numbers.
    ///   - tally: is kept up to date, so that what lies behind it tells which execution ended the process.
    ///   - isOver: asked now and then whether to stop before the end.
    ///   - report: told of every fault and of every execution over the time limit.
    public func run(
        _ executions: Range<UInt64>, tally: UnsafeMutablePointer<FuzzTally>, isOver: () -> Bool = { false },
        report: (UInt64, String) -> Void
    ) {
        for execution in executions {
            if execution.isMultiple(of: 256), isOver() { return }
            let input = input(execution)
            tally.pointee.current = execution
            let start = FuzzRun.processorTime()
            let outcome = target.execute(input)
            let time = FuzzRun.processorTime() - start
            tally.pointee.executions += 1
            tally.pointee.time += time
            switch outcome {
            case .accepted: tally.pointee.accepted += 1
            case .refused: tally.pointee.refused += 1
            case .fault(let text):
                tally.pointee.faults += 1
                report(execution, text)
            }
            if time > tally.pointee.slowest {
                tally.pointee.slowest = time
                tally.pointee.slowestExecution = execution
            }
            if time > FuzzRun.timeLimit {
                tally.pointee.overTime += 1
                report(execution, "took \(time / 1_000_000) ms")
            }
        }
    }

    /// Of this thread: other work on the machine does not count.
    private static func processorTime() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
