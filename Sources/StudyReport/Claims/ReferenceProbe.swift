// Tandem — Apache-2.0

public import LanguageModel
public import Study

/// What two equal loops did on one H100 (`Results/gpu-probe/h100-2026-11-26`): steps a second, one window each, each
/// loop with the whole batch. Beside it a simulation can be judged, and claims of GPUs.
public enum ReferenceProbe {
    public static let provenance = Provenance(kind: .measured, device: "NVIDIA H100 80GB HBM3", date: "2026-11-26")

    /// By how much repeats of a loop in another process or run differed at most, as a share.
    public static let repeatability = 0.09

    public struct Cell: Sendable, Equatable {
        public var model: String
        public var phase: StudyDefinition.Phase
        /// Tokens before the one that is computed, or of a prompt.
        public var context: Int
        /// Sequences, or prompts, of each loop.
        public var batch: Int
        public var ablation: Ablation
        /// Microseconds of host time after each step.
        public var pause: Int
        /// Steps a second of one loop without MPS.
        public var one: Double
        /// Of two processes together, without and with MPS.
        public var timeSliced: Double
        public var mps: Double
        /// Of two streams of one process; null where they hung or were not tried.
        public var streams: Double?

        init(
            _ model: String, _ phase: StudyDefinition.Phase, _ context: Int, _ batch: Int, _ ablation: Ablation,
            _ pause: Int, _ one: Double, _ timeSliced: Double, _ mps: Double, _ streams: Double?
        ) {
            self.model = model
            self.phase = phase
            self.context = context
            self.batch = batch
            self.ablation = ablation
            self.pause = pause
            self.one = one
            self.timeSliced = timeSliced
            self.mps = mps
            self.streams = streams
        }

        /// Gain of two processes under MPS over one without.
        public var gain: Double { mps / one - 1 }

        /// Share of one loop's time in which its host pauses.
        public var pauseShare: Double { Double(pause) * 1e-6 * one }
    }

    /// Gains under MPS of cells without pauses, as `−7 % to +5 % (24 cells, median +1 %)`.
    static func range(_ phase: StudyDefinition.Phase, _ ablation: Ablation = .full) -> String {
        let gains = cells.filter { $0.phase == phase && $0.ablation == ablation && $0.pause == 0 }.map(\.gain).sorted()
        guard let least = gains.first, let greatest = gains.last else { return "not measured" }
        let middle = gains.count / 2
        let median = gains.count % 2 == 1 ? gains[middle] : (gains[middle - 1] + gains[middle]) / 2
        let text = ValueFormat.signedPercent
        return "\(text.text(least)) to \(text.text(greatest)) (\(gains.count) cells, median \(text.text(median)))"
    }
}
