// Tandem — Apache-2.0

import AllocationCounter
import CPUExecutor
import Glibc
import InferenceEngine
import LanguageModel
import Requests
import Synchronization
import Weights

/// Counts what a warm engine allocates while it decodes: scheduler, step loop and executor, as an engine process has
/// them, without the link.
///
/// Prints one JSON object for each way of sampling and of taking reports, and fails if a compute thread allocates at
/// all, or the step thread more than what it hands over: nothing if its reports are not kept, one array a step if they
/// are.
struct AllocationCount {
    var model: DecoderDescription
    var file: any TensorSource
    var options: EngineBenchmark.Options

    private static let warmSteps = 64
    private static let countedSteps = 256

    func run() throws {
        var failures: [String] = []
        for sampled in [false, true] {
            for kept in [false, true] {
                var counts = try measure(sampled: sampled, kept: kept)
                // What the language's runtime makes the first time that a path is taken comes once; what steps allocate
                // comes again.
                if !excesses(of: counts, kept: kept).isEmpty { counts = try measure(sampled: sampled, kept: kept) }
                report(counts, sampled: sampled, kept: kept)
                failures += excesses(of: counts, kept: kept)
            }
        }
        guard failures.isEmpty else {
            throw EngineBenchmark.Failure(description: failures.joined(separator: "; "))
        }
    }

    private func excesses(of counts: [Count], kept: Bool) -> [String] {
        counts.filter { count in
            let most = kept && count.thread == "engine-step" ? UInt64(Self.countedSteps) : 0
            return count.isEngine && count.calls > most
        }.map { "\($0.thread): \($0.calls) allocations in \(Self.countedSteps) steps" }
    }

    private struct Count {
        var thread: String
        var calls: UInt64
        var bytes: UInt64

        /// Whether the thread is one of those that run steps.
        var isEngine: Bool { thread == "engine-step" || thread.hasPrefix("tandem-cpu-") }
    }

    private func measure(sampled: Bool, kept: Bool) throws -> [Count] {
        let batch = max(1, options.batches.first ?? 8)
        let newTokens = Self.warmSteps + Self.countedSteps + 32
        let length = options.promptLength + newTokens + 16
        let executor = try CPUExecutor(
            model: model, file: file,
            options: CPUExecutor.Options(compute: options.compute, threads: options.threads))
        let window = Window(warm: Self.warmSteps, counted: Self.countedSteps, keeps: kept)
        let loop = try StepLoop(
            executor: executor,
            configuration: SchedulerConfiguration(
                slots: batch, tokensPerStep: max(512, batch * options.promptLength), contextLength: length,
                asynchronous: options.asynchronous),
            keyValueBytes: 2 * batch * length
                * model.kvBytesPerToken(elementBytes: options.compute.keyValueElementBytes),
            groups: model.kvGroups,
            // Statistics come a few times a second, not with every step.
            options: StepLoopOptions(statisticsIntervalNanoseconds: .max),
            now: EngineBenchmark.nanoseconds,
            handlers: StepLoopHandlers(report: { window.take($0) }, fatal: { _ in window.finish() }))
        let sampling = SamplingParameters(temperature: sampled ? 0.8 : 0, topK: 50, topP: 0.95)
        let requests = (0..<batch).map { index -> StepCommand in
            let tokens = (0..<options.promptLength).map { TokenID((index * 7919 + $0 * 104_729) % 4096 + 200) }
            return .submit(
                EngineRequest(
                    id: RequestID(index + 1), tokens: tokens, sampling: sampling, maximumNewTokens: newTokens))
        }
        loop.send(requests)
        window.wait()
        loop.stop()
        loop.join()
        var entries = [tandem_allocations](repeating: tandem_allocations(), count: 64)
        let known = tandem_allocations_read(&entries, Int32(entries.count))
        return entries.prefix(Int(known)).map { entry in
            let name = withUnsafeBytes(of: entry.thread) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            return Count(thread: name, calls: entry.calls, bytes: entry.bytes)
        }
    }

    private func report(_ counts: [Count], sampled: Bool, kept: Bool) {
        let threads = counts.filter(\.isEngine).map { #""\#($0.thread)":{"calls":\#($0.calls),"bytes":\#($0.bytes)}"# }
        print(
            #"{"kind":"allocations","steps":\#(Self.countedSteps),"batch":\#(options.batches.first ?? 8),"#
                + #""sampled":\#(sampled),"reports_kept":\#(kept),"threads":{\#(threads.joined(separator: ","))}}"#)
    }
}

/// Counts reports on the step thread and switches the counter on and off at two of them.
private final class Window: Sendable {
    private let warm: Int
    private let counted: Int
    private let keeps: Bool
    private let taken = Atomic<Int>(0)
    private let finished = Atomic<Bool>(false)
    /// The latest report, if reports are kept: as long as a receiver's thread would.
    private let kept = Mutex<StepReport?>(nil)

    init(warm: Int, counted: Int, keeps: Bool) {
        self.warm = warm
        self.counted = counted
        self.keeps = keeps
    }

    func take(_ report: StepReport) {
        if keeps { kept.withLock { $0 = report } }
        let number = taken.wrappingAdd(1, ordering: .relaxed).newValue
        if number == warm { tandem_allocations_begin() }
        if number == warm + counted {
            tandem_allocations_end()
            finish()
        }
    }

    func finish() { finished.store(true, ordering: .releasing) }

    func wait() {
        while !finished.load(ordering: .acquiring) { usleep(1000) }
    }
}
