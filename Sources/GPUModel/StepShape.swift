// Tandem — Apache-2.0

/// What one step of an engine computes. Averages are allowed: half a prompt in each step is a prompt in every second.
public struct StepShape: Sendable, Equatable {
    /// Sequences that get one token each.
    public var decoding: Double
    /// Keys that such a token sees, its own included.
    public var context: Double
    /// Whole prompts that are computed beside them.
    public var prompts: Double
    /// Tokens of a prompt.
    public var promptLength: Double

    public init(decoding: Double = 0, context: Double = 0, prompts: Double = 0, promptLength: Double = 0) {
        self.decoding = decoding
        self.context = context
        self.prompts = prompts
        self.promptLength = promptLength
    }

    /// Tokens that go through the layers.
    public var rows: Double { decoding + prompts * promptLength }
    /// Tokens whose logits are computed.
    public var sampled: Double { decoding + prompts }
    /// Sequences that take part, for which the host has work.
    public var sequences: Double { decoding + prompts }
}

/// How an engine's kernels are cut between the matrix products.
public enum KernelFusion: String, Sendable, Equatable, CaseIterable {
    /// As serving engines do: residual and norm in one kernel, rotation and cache in one, activation in one.
    case fused
    /// One kernel an operation, as PyTorch runs a plain model.
    case eager
}

/// Kernels that follow one another on the GPU, `repeats` times.
public struct KernelSequence: Sendable, Equatable {
    public var kernels: [Kernel]
    public var repeats: Int

    public init(kernels: [Kernel], repeats: Int) {
        self.kernels = kernels
        self.repeats = repeats
    }
}

/// A step as the GPU sees it: its kernels, and sums over them.
public struct StepProfile: Sendable, Equatable {
    public let sequences: [KernelSequence]
    /// Tokens that the step generates; in a step of prompts alone, tokens of prompts.
    public let tokens: Double
    /// Seconds alone on the GPU.
    public let seconds: Double
    /// Kernels that run.
    public let kernelCount: Int

    public init(sequences: [KernelSequence], tokens: Double) {
        self.sequences = sequences.map { sequence in
            KernelSequence(kernels: sequence.kernels.filter { $0.seconds > 0 }, repeats: sequence.repeats)
        }
        self.tokens = tokens
        seconds = self.sequences.reduce(0) { sum, sequence in
            sum + Double(sequence.repeats) * sequence.kernels.reduce(0) { $0 + $1.seconds }
        }
        kernelCount = self.sequences.reduce(0) { $0 + $1.repeats * $1.kernels.count }
    }

    /// Seconds of the kernels of one component.
    public func seconds(of component: Component) -> Double {
        sum { $0.component == component ? $0.seconds : 0 }
    }

    /// Seconds in which kernels do no work worth counting.
    public var fixedSeconds: Double { sum(\.fixedSeconds) }

    /// A sum over all kernels that run.
    public func sum(_ value: (Kernel) -> Double) -> Double {
        sequences.reduce(0) { total, sequence in
            total + Double(sequence.repeats) * sequence.kernels.reduce(0) { $0 + value($1) }
        }
    }

    /// The same step where each kernel takes longer by a constant, as under MPS.
    public func addingToEachKernel(_ seconds: Double) -> StepProfile {
        changing { $0.fixedSeconds += seconds }
    }

    /// The same step on a GPU that is slower or faster throughout, as measured of a real engine.
    public func scaled(by factor: Double) -> StepProfile {
        changing { kernel in
            kernel.fixedSeconds *= factor
            kernel.workSeconds *= factor
        }
    }

    private func changing(_ change: (inout Kernel) -> Void) -> StepProfile {
        StepProfile(
            sequences: sequences.map { sequence in
                var sequence = sequence
                for index in sequence.kernels.indices { change(&sequence.kernels[index]) }
                return sequence
            }, tokens: tokens)
    }
}
