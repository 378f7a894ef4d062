// Tandem — Apache-2.0

public import InferenceEngine
public import LanguageModel

extension GPULoop {
    /// Makes loops of one process, whose executors share context, kernels and weights.
    ///
    /// - Parameters:
    ///   - count: how many.
    ///   - options: of each.
    public static func loops(
        _ count: Int, model: DecoderDescription, randomSeed: UInt64, _ settings: Settings,
        now: @escaping () -> UInt64, options: (_ place: Int) -> CUDAExecutor.Options
    ) throws(ExecutorError) -> [GPULoop] {
        var loops: [GPULoop] = []
        var shared: SharedModel?
        for place in 0..<count {
            let executor: CUDAExecutor
            if let shared {
                executor = try CUDAExecutor(beside: shared, options: options(place))
            } else {
                executor = try CUDAExecutor(model: model, randomSeed: randomSeed, options: options(place))
                shared = executor.shared
            }
            loops.append(try GPULoop(executor, model: model, settings: settings, now: now))
        }
        return loops
    }

    /// Runs several loops of one process with one thread, which puts a step of each into the device and then takes their
    /// results in turn: each loop's device work runs beside the others', and their host work adds up.
    ///
    /// - Returns: a window for each loop.
    public static func run(
        together loops: [GPULoop], seconds: Double, now: () -> UInt64
    ) throws(ExecutorError) -> [Window] {
        var windows = Array(repeating: Window(), count: loops.count)
        guard let settings = loops.first?.settings else { return windows }
        let start = now()
        let end = start &+ UInt64(seconds * 1e9)
        while now() < end || windows.contains(where: { $0.steps == 0 }) {
            for (index, loop) in loops.enumerated() {
                if loop.hasFullPipeline {
                    try loop.take()
                    windows[index].steps += 1
                    loop.pause(settings.pauseNanoseconds)
                }
                try loop.submit()
            }
        }
        for (index, loop) in loops.enumerated() {
            while loop.hasStepInFlight {
                try loop.take()
                windows[index].steps += 1
            }
        }
        let elapsed = Double(now() &- start) / 1e9
        for index in windows.indices {
            windows[index].seconds = elapsed
            let profile = loops[index].executor.profile()
            windows[index].profile = profile
            windows[index].deviceSeconds = Double(profile.attention &+ profile.mlp &+ profile.rest) / 1e9
        }
        return windows
    }
}
