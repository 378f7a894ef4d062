// Tandem — Apache-2.0

/// What a server's processes will take, decided before anything is loaded.
public struct MemoryPlan: Sendable, Equatable {
    /// What one engine takes beside its KV cache, in bytes.
    public struct Engine: Sendable, Equatable {
        /// Packed weights; all engines share one copy.
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

    public var engines: Int
    public var engine: Engine
    /// KV bytes of each engine.
    public var keyValueBytes: UInt64
    /// Bytes that could be taken when the plan was made.
    public var availableBytes: UInt64

    public init(engines: Int, engine: Engine, keyValueBytes: UInt64, availableBytes: UInt64) {
        self.engines = engines
        self.engine = engine
        self.keyValueBytes = keyValueBytes
        self.availableBytes = availableBytes
    }

    /// Measured: code, threads, requests and outputs of one engine.
    public static let engineProcessBytes: UInt64 = 24 << 20
    /// Measured: vocabulary, connections and responses of the gateway, and the supervisor.
    public static let otherProcessBytes: UInt64 = 64 << 20

    /// What is left to others and to surprises: a sixteenth, at least 64 MiB.
    public static func margin(of availableBytes: UInt64) -> UInt64 { max(64 << 20, availableBytes / 16) }

    /// What all processes take.
    public var totalBytes: UInt64 {
        Self.sum(fixedBytes, Self.product(keyValueBytes, engines))
    }

    /// What all processes take beside KV caches.
    public var fixedBytes: UInt64 {
        let each = Self.sum(Self.sum(engine.workspaces, engine.tables), Self.engineProcessBytes)
        return Self.sum(Self.sum(engine.weights, Self.otherProcessBytes), Self.product(each, engines))
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

    // MARK: - The KV cache

    /// Most that an engine takes by itself: more only pays with long contexts and many of them.
    public static let defaultMaximumBytes: UInt64 = 1 << 30

    /// KV bytes of each engine.
    ///
    /// - Parameters:
    ///   - requested: what the user asked for, an engine; null for the default: a fifth of the available memory shared
    ///     by all engines, at most ``defaultMaximumBytes`` each, but room for one full sequence in any case.
    ///   - availableBytes: what is there for KV caches and for nothing else.
    ///   - bytesPerToken: KV bytes of one token over all layers.
    ///   - contextLength: tokens of the longest sequence.
    /// - Throws: ``SupervisionError`` if one full sequence does not fit.
    public static func keyValueBytes(
        requested: UInt64?,
        availableBytes: UInt64,
        engines: Int,
        bytesPerToken: UInt64,
        contextLength: Int
    ) throws(SupervisionError) -> UInt64 {
        let needed = product(bytesPerToken, max(1, contextLength))
        if let requested {
            guard requested >= needed else {
                throw .keyValueMemoryTooSmall(
                    givenBytes: requested, neededBytes: needed, contextLength: contextLength)
            }
            return requested
        }
        let engineCount = UInt64(max(1, engines))
        let share = min(defaultMaximumBytes, availableBytes / 5 / engineCount)
        if share >= needed { return share / (1 << 20) * (1 << 20) >= needed ? share / (1 << 20) * (1 << 20) : share }
        // A small machine may spend more than a fifth on the one sequence it must be able to serve.
        let most = availableBytes / engineCount
        guard most >= needed else {
            throw .notEnoughMemory(neededBytes: needed, availableBytes: most, contextLength: contextLength)
        }
        return needed
    }

    // MARK: - Sums that stay at the largest number

    static func sum(_ first: UInt64, _ second: UInt64) -> UInt64 {
        let (value, overflow) = first.addingReportingOverflow(second)
        return overflow ? .max : value
    }

    /// A product, or the largest number.
    public static func product(_ first: UInt64, _ second: Int) -> UInt64 {
        let (value, overflow) = first.multipliedReportingOverflow(by: UInt64(clamping: second))
        return overflow ? .max : value
    }
}
