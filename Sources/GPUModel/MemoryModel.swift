// Tandem — Apache-2.0

public import LanguageModel

/// How a GPU's memory is divided among engines.
public struct MemoryModel: Sendable {
    public var model: DecoderDescription
    public var device: DeviceParameters
    /// Share of the memory that is used at all; the rest is for the driver, fragments and peaks.
    public var usableShare: Double
    /// Whether engines of several processes read one copy of the weights.
    public var sharesWeights: Bool

    public init(
        model: DecoderDescription, device: DeviceParameters, usableShare: Double = 0.95, sharesWeights: Bool = false
    ) {
        self.model = model
        self.device = device
        self.usableShare = usableShare
        self.sharesWeights = sharesWeights
    }

    /// Bytes of the weights, 16-bit.
    public var weightBytes: Double { 2 * Double(model.parameterCount) }

    /// Bytes that are left for the keys and values of each engine; negative if the rest does not fit.
    public func cacheBytes(engines: Int, processes: Int) -> Double {
        let copies = sharesWeights ? 1 : Double(processes)
        let rest =
            usableShare * device.memoryBytes - copies * weightBytes - Double(processes) * device.sharing.processBytes
        return rest / Double(engines)
    }

    /// Bytes of keys and values of a sequence.
    public func sequenceBytes(tokens: Int) -> Double {
        Double(model.kvBytes(forSequenceOf: max(tokens, 1), tokensPerStep: 1, elementBytes: 2))
    }

    /// Sequences that an engine can run at once.
    ///
    /// - Parameter tokens: length of a sequence on average over its life.
    public func sequences(engines: Int, processes: Int, tokens: Int) -> Int {
        let bytes = cacheBytes(engines: engines, processes: processes)
        return bytes <= 0 ? 0 : Int(bytes / sequenceBytes(tokens: tokens))
    }
}
