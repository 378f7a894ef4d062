// Tandem — Apache-2.0

import EngineLink

/// The sign of life of a process out of those of its engines.
///
/// The process lives while every engine gives signs of life, and gets on while every engine does that has work: its
/// number grows only once each of them has got on since it grew last. One that stands still is seen beside others that
/// run, and the slowest step sets the pace.
struct ProcessProgress {
    private struct Engine {
        var last = Heartbeat()
        /// Whether it was heard since the process was last spoken for.
        var isHeard = false
        var hasEnded = false
        /// Its progress when the process's number grew last.
        var mark: UInt64 = 0

        var standsStill: Bool { !hasEnded && last.isWorking && last.progress == mark }
    }

    private var engines: [Engine]
    private var count: UInt64 = 0

    init(engines: Int) {
        self.engines = Array(repeating: Engine(), count: engines)
    }

    /// Takes a sign of life of one engine.
    ///
    /// - Returns: that of the process, once all engines were heard.
    mutating func heard(_ engine: Int, _ heartbeat: Heartbeat) -> Heartbeat? {
        guard engines.indices.contains(engine) else { return nil }
        engines[engine].last = heartbeat
        engines[engine].isHeard = true
        return whole()
    }

    /// An engine has ended in good order, and is not waited for any more.
    mutating func ended(_ engine: Int) {
        guard engines.indices.contains(engine) else { return }
        engines[engine].hasEnded = true
    }

    private mutating func whole() -> Heartbeat? {
        guard engines.allSatisfy({ $0.isHeard || $0.hasEnded }) else { return nil }
        for index in engines.indices { engines[index].isHeard = false }
        if !engines.contains(where: \.standsStill) {
            count &+= 1
            for index in engines.indices { engines[index].mark = engines[index].last.progress }
        }
        return Heartbeat(progress: count, isWorking: engines.contains { !$0.hasEnded && $0.last.isWorking })
    }
}
