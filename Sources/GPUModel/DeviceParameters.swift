// Tandem — Apache-2.0

/// What the model knows of a GPU: its data sheet, and how far kernels reach it. Seconds, bytes and FLOP throughout.
public struct DeviceParameters: Sendable, Equatable {
    /// The name by which it is asked for: `h100`.
    public var name: String
    /// The name for people.
    public var title: String
    /// Streaming multiprocessors (SMs).
    public var multiprocessors: Int
    /// Dense 16-bit floating-point operations a second of the data sheet.
    public var tensorRate: Double
    /// Bytes a second of the memory, of the data sheet.
    public var memoryRate: Double
    /// Bytes of memory.
    public var memoryBytes: Double
    public var product: ProductParameters
    public var decodeAttention: AttentionParameters
    public var prefillAttention: AttentionParameters
    public var elementwise: ElementwiseParameters
    public var sharing: SharingParameters
    /// Where the numbers come from, one line a group of them.
    public var sources: [String]

    public init(
        name: String, title: String, multiprocessors: Int, tensorRate: Double, memoryRate: Double, memoryBytes: Double,
        product: ProductParameters, decodeAttention: AttentionParameters, prefillAttention: AttentionParameters,
        elementwise: ElementwiseParameters, sharing: SharingParameters, sources: [String]
    ) {
        self.name = name
        self.title = title
        self.multiprocessors = multiprocessors
        self.tensorRate = tensorRate
        self.memoryRate = memoryRate
        self.memoryBytes = memoryBytes
        self.product = product
        self.decodeAttention = decodeAttention
        self.prefillAttention = prefillAttention
        self.elementwise = elementwise
        self.sharing = sharing
        self.sources = sources
    }
}

/// Time of a matrix product: `fixedSeconds + (compute^exponent + memory^exponent)^(1/exponent)`.
public struct ProductParameters: Sendable, Equatable {
    /// Launch, first loads and drain.
    public var fixedSeconds: Double
    /// Share of ``DeviceParameters/tensorRate`` that large products reach.
    public var tensorShare: Double
    /// Share of ``DeviceParameters/memoryRate`` that thin products reach.
    public var memoryShare: Double
    /// How sharp the knee between the two is: infinite would be the larger of both, 1 their sum.
    public var exponent: Double

    public init(fixedSeconds: Double, tensorShare: Double, memoryShare: Double, exponent: Double) {
        self.fixedSeconds = fixedSeconds
        self.tensorShare = tensorShare
        self.memoryShare = memoryShare
        self.exponent = exponent
    }
}

/// Time of attention: `fixedSeconds + amount / (share · rate) + blocks / SMs · blockSeconds`, where the amount is
/// bytes of keys and values in decode, and operations in prefill.
public struct AttentionParameters: Sendable, Equatable {
    public var fixedSeconds: Double
    /// Share of the data sheet's memory rate (decode) or tensor rate (prefill).
    public var share: Double
    /// What each thread block costs its SM beyond that.
    public var blockSeconds: Double

    public init(fixedSeconds: Double, share: Double, blockSeconds: Double) {
        self.fixedSeconds = fixedSeconds
        self.share = share
        self.blockSeconds = blockSeconds
    }
}

/// Time of norms, activations, copies: `fixedSeconds + bytes / (memoryShare · rate)`.
public struct ElementwiseParameters: Sendable, Equatable {
    public var fixedSeconds: Double
    public var memoryShare: Double

    public init(fixedSeconds: Double, memoryShare: Double) {
        self.fixedSeconds = fixedSeconds
        self.memoryShare = memoryShare
    }
}

/// What happens when several engines use one GPU.
public struct SharingParameters: Sendable, Equatable {
    /// How much more of the SMs kernels get when one more runs beside them: with 0 they exclude each other, with 1 they
    /// do not see each other.
    public var coResidency: Double
    /// By how much each kernel slows for each other one that runs (caches, row conflicts in memory).
    public var interference: Double
    /// Share of the GPU that a kernel keeps from others during its fixed part.
    public var latencyOccupancy: Double
    /// What MPS adds to each kernel.
    public var mpsKernelSeconds: Double
    /// Length of a time slice.
    public var sliceSeconds: Double
    /// Time lost at each change of the context.
    public var switchSeconds: Double
    /// Share of the SMs that reaches the memory's full rate.
    public var bandwidthSaturationShare: Double
    /// Memory that each process takes beside weights and cache: context, graphs, workspaces.
    public var processBytes: Double

    public init(
        coResidency: Double, interference: Double, latencyOccupancy: Double, mpsKernelSeconds: Double,
        sliceSeconds: Double, switchSeconds: Double, bandwidthSaturationShare: Double, processBytes: Double
    ) {
        self.coResidency = coResidency
        self.interference = interference
        self.latencyOccupancy = latencyOccupancy
        self.mpsKernelSeconds = mpsKernelSeconds
        self.sliceSeconds = sliceSeconds
        self.switchSeconds = switchSeconds
        self.bandwidthSaturationShare = bandwidthSaturationShare
        self.processBytes = processBytes
    }

    /// Share of the memory's rate that a share of the SMs can draw: `1 - exp(-4 s / saturation)`. An H100 was measured
    /// to read at 33, 59, 87 and 98 % with 6, 12, 25 and 50 % of its SMs (Results/gpu-probe/h100-2026-11-26); with a
    /// saturation of 0.5 this says 38, 62, 86 and 98 %.
    public func memoryShare(ofMultiprocessors share: Double) -> Double {
        guard share < 1 else { return 1 }
        return 1 - exponential(-4 * max(share, 0) / bandwidthSaturationShare)
    }
}
