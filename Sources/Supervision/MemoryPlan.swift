// Tandem — Apache-2.0

/// What a server's processes will take, decided before anything is loaded.
public struct MemoryPlan: Sendable, Equatable {
    /// What one engine takes beside its KV cache, in bytes.
    public struct Engine: Sendable, Equatable {
        /// Packed weights; all engines of a model share one copy.
        public var weights: UInt64
        /// Intermediate numbers of a step.
        public var workspaces: UInt64
        /// Block tables and rotary tables.
        public var tables: UInt64

        public init(weights: UInt64, workspaces: UInt64, tables: UInt64) {
            self.weights = weights
            self.workspaces = workspaces
            self.tables = tables
        }
    }

    /// The part of one model.
    public struct Model: Sendable, Equatable {
        /// For people.
        public var name: String
        public var engines: Int
        public var engine: Engine
        /// KV bytes of each engine.
        public var keyValueBytes: UInt64

        public init(name: String, engines: Int, engine: Engine, keyValueBytes: UInt64 = 0) {
            self.name = name
            self.engines = engines
            self.engine = engine
            self.keyValueBytes = keyValueBytes
        }

        /// What each of its engines takes for itself: all but the weights.
        public var ownBytes: UInt64 {
            MemoryPlan.sum(
                MemoryPlan.sum(engine.workspaces, engine.tables),
                MemoryPlan.sum(keyValueBytes, MemoryPlan.engineProcessBytes))
        }

        /// What its engines take beside KV caches.
        var fixedBytes: UInt64 {
            let each = MemoryPlan.sum(MemoryPlan.sum(engine.workspaces, engine.tables), MemoryPlan.engineProcessBytes)
            return MemoryPlan.sum(engine.weights, MemoryPlan.product(each, engines))
        }
    }

    public var models: [Model]
    /// Bytes that could be taken when the plan was made.
    public var availableBytes: UInt64

    public init(models: [Model], availableBytes: UInt64) {
        self.models = models
        self.availableBytes = availableBytes
    }

    /// Measured: code, threads, requests and outputs of one engine.
    public static let engineProcessBytes: UInt64 = 24 << 20
    /// Measured: vocabulary, connections and responses of the gateway, and the supervisor.
    public static let otherProcessBytes: UInt64 = 64 << 20

    /// Measured: 4 MiB of the gateway for a vocabulary of 49 thousand tokens; the largest have 262 thousand.
    public static let furtherModelBytes: UInt64 = 24 << 20

    /// What is left to others and to surprises: a sixteenth, at least 64 MiB.
    public static func margin(of availableBytes: UInt64) -> UInt64 { max(64 << 20, availableBytes / 16) }

    /// Of all models.
    public var engines: Int { models.reduce(0) { $0 + $1.engines } }

    /// KV caches of all engines.
    var keyValueBytes: UInt64 { models.reduce(0) { Self.sum($0, Self.product($1.keyValueBytes, $1.engines)) } }

    /// The weights of all models.
    var weightBytes: UInt64 { models.reduce(0) { Self.sum($0, $1.engine.weights) } }

    /// What all processes take.
    public var totalBytes: UInt64 { Self.sum(fixedBytes, keyValueBytes) }

    /// What all processes take beside KV caches.
    public var fixedBytes: UInt64 { models.reduce(otherBytes) { Self.sum($0, $1.fixedBytes) } }

    /// The gateway, which has a vocabulary of each model, and the supervisor.
    var otherBytes: UInt64 {
        Self.sum(Self.otherProcessBytes, Self.product(Self.furtherModelBytes, max(1, models.count) - 1))
    }

    /// What KV caches may take.
    public var roomForKeyValues: UInt64 {
        let taken = Self.sum(fixedBytes, Self.margin(of: availableBytes))
        return availableBytes > taken ? availableBytes - taken : 0
    }

    /// - Throws: ``SupervisionError/planDoesNotFit(_:)`` if not all of it can be had with the margin.
    public func check() throws(SupervisionError) {
        let margin = Self.margin(of: availableBytes)
        guard availableBytes >= margin, totalBytes <= availableBytes - margin else { throw .planDoesNotFit(self) }
    }

    /// A byte count for people.
    public static func text(_ bytes: UInt64) -> String { ByteCountText.text(bytes) }

    // MARK: - Sums that stay at the largest number

    /// A sum, or the largest number.
    public static func sum(_ first: UInt64, _ second: UInt64) -> UInt64 {
        let (value, overflow) = first.addingReportingOverflow(second)
        return overflow ? .max : value
    }

    /// A product, or the largest number.
    public static func product(_ first: UInt64, _ second: Int) -> UInt64 {
        let (value, overflow) = first.multipliedReportingOverflow(by: UInt64(clamping: second))
        return overflow ? .max : value
    }
}
