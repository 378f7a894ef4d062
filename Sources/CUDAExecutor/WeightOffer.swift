// Tandem — Apache-2.0

public import Requests

/// Which numbers lie in a stretch of device memory, and in which order: what two processes compare before one uses
/// weights that the other loaded.
public struct WeightIdentity: Sendable, Equatable {
    /// Of the model's description, its tensors and the ablation.
    public var model: Digest128
    /// Of the places of all matrices and vectors; see `WeightLayout`.
    public var layout: UInt64
    /// Bytes from the first number to the last.
    public var byteCount: Int
    /// The GPU's UUID.
    public var device: String

    public init(model: Digest128, layout: UInt64, byteCount: Int, device: String) {
        self.model = model
        self.layout = layout
        self.byteCount = byteCount
        self.device = device
    }
}

/// How device memory of one process comes into another.
public enum WeightSharing: String, Sendable, CaseIterable {
    /// A file descriptor of memory that is mapped read-only and outlives whoever made it (virtual memory management).
    case descriptor
    /// 64 bytes that name an allocation, which lives as long as its owner (CUDA IPC).
    case handle
}

/// Weights that an owner hands out.
public struct WeightOffer: Sendable, Equatable {
    public var identity: WeightIdentity
    public var sharing: WeightSharing
    /// Bytes of the memory as it is mapped: a multiple of the device's granularity.
    public var mappedBytes: Int
    /// For ``WeightSharing/handle``; empty else.
    public var handle: [UInt8]

    public init(identity: WeightIdentity, sharing: WeightSharing, mappedBytes: Int, handle: [UInt8] = []) {
        self.identity = identity
        self.sharing = sharing
        self.mappedBytes = mappedBytes
        self.handle = handle
    }
}

/// What came of asking an owner for weights.
public enum WeightSupply: Sendable {
    /// The descriptor, -1 for ``WeightSharing/handle``, belongs to whoever receives this.
    case offered(WeightOffer, descriptor: Int32)
    /// Why there are none, for people.
    case none(reason: String)
}
