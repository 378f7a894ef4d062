// Tandem — Apache-2.0

public import LanguageModel

/// What a phase of one part of a model takes, counted from the model's description (the article's table T1).
public struct ResourceCount: Sendable, Equatable {
    public enum Phase: String, Sendable, Equatable, CaseIterable {
        /// A whole prompt of so many tokens.
        case prefill
        /// One token after so many.
        case decode
    }

    public enum Part: String, Sendable, Equatable, CaseIterable {
        case feedForward
        /// Scores and sums over keys and values; its projections are counted apart, since they do not see the context.
        case attention
        case projections
    }

    public var part: Part
    public var phase: Phase
    public var operations: Double
    /// Weights, or keys and values, that are read once.
    public var bytes: Double
}

extension DecoderDescription {
    /// What all layers' parts take in both phases, 16-bit.
    ///
    /// - Parameter context: tokens of the prompt, or before the token.
    public func resourceCounts(context: Int) -> [ResourceCount] {
        func counting(_ ablation: Ablation) -> DecoderDescription {
            var copy = self
            copy.ablation = ablation
            return copy
        }
        let feedForward = counting(.mlpOnly)
        let attention = counting(.attentionOnly)
        let feedForwardToken = Double(feedForward.flopsPerToken(head: false))
        let projectionToken = Double(attention.flopsPerToken(head: false))
        func attentionToken(_ visible: Int) -> Double {
            Double(attention.flopsPerToken(head: false, context: visible)) - projectionToken
        }
        // Matrices have one multiplication and one addition a weight, hence a byte of 16-bit weights an operation.
        let cache = Double(attention.kvBytesRead(context: context, elementBytes: 2))
        // Operations are linear in what is visible up to the windows: the sum over a prompt is taken in closed form
        // between their edges.
        let edges = ([0, context] + layers.compactMap { layer in layer.window.map { min($0, context) } }).sorted()
        let prompt = zip(edges, edges.dropFirst()).reduce(0.0) { sum, ends in
            let (low, high) = ends
            guard high > low else { return sum }
            return sum + (attentionToken(low + 1) + attentionToken(high)) / 2 * Double(high - low)
        }
        let tokens = Double(context)
        return [
            ResourceCount(
                part: .feedForward, phase: .prefill, operations: feedForwardToken * tokens, bytes: feedForwardToken),
            ResourceCount(part: .feedForward, phase: .decode, operations: feedForwardToken, bytes: feedForwardToken),
            ResourceCount(part: .attention, phase: .prefill, operations: prompt, bytes: cache),
            ResourceCount(part: .attention, phase: .decode, operations: attentionToken(context), bytes: cache),
            ResourceCount(
                part: .projections, phase: .prefill, operations: projectionToken * tokens, bytes: projectionToken),
            ResourceCount(part: .projections, phase: .decode, operations: projectionToken, bytes: projectionToken),
        ]
    }

    /// With which power of the context a count grows between `context` and twice that: 0 for constant, 1 for linear.
    public func growth(
        of value: KeyPath<ResourceCount, Double>, _ part: ResourceCount.Part, _ phase: ResourceCount.Phase,
        at context: Int
    ) -> Double {
        func count(_ context: Int) -> Double {
            resourceCounts(context: context).first { $0.part == part && $0.phase == phase }?[keyPath: value] ?? 0
        }
        let (low, high) = (count(context), count(2 * context))
        guard low > 0, high > 0 else { return 0 }
        return logarithm(high / low) / logarithm(2)
    }
}
