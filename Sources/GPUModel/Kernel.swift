// Tandem — Apache-2.0

/// What something that runs takes of a GPU at its full speed, as shares of the whole.
public struct Demand: Sendable, Equatable {
    /// Slots of the streaming multiprocessors.
    public var multiprocessors: Double
    /// The tensor cores' reachable rate.
    public var tensor: Double
    /// The memory's reachable rate.
    public var memory: Double

    public init(multiprocessors: Double, tensor: Double, memory: Double) {
        self.multiprocessors = multiprocessors
        self.tensor = tensor
        self.memory = memory
    }

    public static let zero = Demand(multiprocessors: 0, tensor: 0, memory: 0)
}

/// Which part of a model a kernel belongs to.
public enum Component: String, Sendable, Equatable, CaseIterable {
    case attention
    case feedForward
    /// Embedding, last norm, head, sampling.
    case rest
}

/// One kernel: a fixed part, launch to first work and drain, in which it moves nothing worth counting, and the work.
public struct Kernel: Sendable, Equatable {
    /// What it is, for tables.
    public var name: String
    public var component: Component
    /// Seconds of the fixed part.
    public var fixedSeconds: Double
    /// Seconds of the work on a GPU of its own.
    public var workSeconds: Double
    /// What the work takes of the GPU.
    public var demand: Demand

    public init(
        name: String, component: Component, fixedSeconds: Double, workSeconds: Double, demand: Demand
    ) {
        self.name = name
        self.component = component
        self.fixedSeconds = fixedSeconds
        self.workSeconds = workSeconds
        self.demand = demand
    }

    /// Seconds alone on the GPU.
    public var seconds: Double { fixedSeconds + workSeconds }
}

/// The roofline: what kernels take on a device.
extension DeviceParameters {
    /// A product of an `rows` × `inner` by an `inner` × `columns` matrix, 16-bit, accumulated in 32.
    public func matrixProduct(
        _ name: String, _ component: Component, rows: Double, columns: Double, inner: Double
    ) -> Kernel {
        guard rows > 0 else { return .nothing(name, component) }
        let compute = 2 * rows * columns * inner / (product.tensorShare * tensorRate)
        let bytes = 2 * (rows * inner + columns * inner + rows * columns)
        let transfer = bytes / (product.memoryShare * memoryRate)
        let work = power(power(compute, product.exponent) + power(transfer, product.exponent), 1 / product.exponent)
        // Libraries choose tiles that fill the last wave; 64 × 64 is about the smallest that they use.
        let tiles = (rows / 64).rounded(.up) * (columns / 64).rounded(.up)
        return Kernel(
            name: name, component: component, fixedSeconds: product.fixedSeconds, workSeconds: work,
            demand: demand(work: work, compute: compute, transfer: transfer, blocks: tiles))
    }

    /// Attention of one new token of each of `sequences` to `context` keys.
    public func attentionToCache(
        sequences: Double, context: Double, queryHeads: Int, keyValueHeads: Int, headDimension: Int
    ) -> Kernel {
        guard sequences > 0, context > 0 else { return .nothing("attention", .attention) }
        let width = Double(headDimension)
        let bytes = sequences * (4 * context * Double(keyValueHeads) * width + 4 * Double(queryHeads) * width)
        let transfer = bytes / (decodeAttention.share * memoryRate)
        let blocks = sequences * Double(keyValueHeads)
        let work = transfer + blocks / Double(multiprocessors) * decodeAttention.blockSeconds
        let operations = 4 * sequences * context * Double(queryHeads) * width
        return Kernel(
            name: "attention", component: .attention, fixedSeconds: decodeAttention.fixedSeconds, workSeconds: work,
            demand: demand(
                work: work, compute: operations / (product.tensorShare * tensorRate), transfer: transfer, blocks: blocks
            ))
    }

    /// Attention of whole prompts to themselves, causal, or of their ends to a window.
    public func attentionInPrompts(
        prompts: Double, length: Double, window: Double?, queryHeads: Int, headDimension: Int
    ) -> Kernel {
        guard prompts > 0, length > 0 else { return .nothing("prompt attention", .attention) }
        let heads = Double(queryHeads)
        let tile = 128.0
        let rows = (length / tile).rounded(.up)
        // Tiles of keys that a tile of queries sees: one more each, up to the window's.
        let most = window.map { min(rows, ($0 / tile).rounded(.up) + 1) } ?? rows
        let pairs = most * (most + 1) / 2 + (rows - most) * most
        let operations = 4 * prompts * heads * Double(headDimension) * tile * tile * pairs
        let compute = operations / (prefillAttention.share * tensorRate)
        let blocks = prompts * heads * rows
        let work = compute + blocks / Double(multiprocessors) * prefillAttention.blockSeconds
        let bytes = 8 * prompts * length * heads * Double(headDimension)
        return Kernel(
            name: "prompt attention", component: .attention, fixedSeconds: prefillAttention.fixedSeconds,
            workSeconds: work,
            demand: demand(
                work: work, compute: compute, transfer: bytes / (elementwise.memoryShare * memoryRate), blocks: blocks))
    }

    /// A kernel that only moves bytes.
    public func transfer(_ name: String, _ component: Component, bytes: Double) -> Kernel {
        guard bytes > 0 else { return .nothing(name, component) }
        let work = bytes / (elementwise.memoryShare * memoryRate)
        return Kernel(
            name: name, component: component, fixedSeconds: elementwise.fixedSeconds, workSeconds: work,
            demand: demand(work: work, compute: 0, transfer: work, blocks: Double(multiprocessors)))
    }

    /// Shares of the device: tensor and memory by what the work would take of each alone, SM slots by how far the
    /// blocks fill waves, whatever the blocks wait for, and no fewer than it takes to draw the memory's rate.
    private func demand(work: Double, compute: Double, transfer: Double, blocks: Double) -> Demand {
        let memory = min(1, transfer / work)
        let waves = blocks / Double(multiprocessors)
        let occupancy = waves <= 1 ? waves : waves / waves.rounded(.up)
        return Demand(
            multiprocessors: min(1, max(occupancy, sharing.bandwidthSaturationShare * memory)),
            tensor: min(1, compute / work), memory: memory)
    }
}

extension Kernel {
    /// What takes no time.
    static func nothing(_ name: String, _ component: Component) -> Kernel {
        Kernel(name: name, component: component, fixedSeconds: 0, workSeconds: 0, demand: .zero)
    }
}
