// Tandem — Apache-2.0

public import JSON

/// One answer of a gateway's `/engines`. What an answer leaves out is 0, empty or `nil`.
public struct EnginesSnapshot: Sendable, Equatable {
    /// One engine.
    public struct Engine: Sendable, Equatable {
        public var index = 0
        public var model = ""
        public var state = ""
        public var isServing = false
        /// 0 if there is no process.
        public var pid = 0
        public var restarts = 0
        public var reason = ""
        public var device = ""
        public var running: Int?
        public var waiting: Int?
        public var maximumSequences: Int?
        public var usedBlocks: Int?
        public var totalBlocks: Int?
        /// Counters since the engine's start.
        public var steps = 0
        public var promptTokens = 0
        public var cachedPromptTokens = 0
        public var generatedTokens = 0
        public var outstandingRequests = 0

        public init() {}
    }

    /// A GPU that is watched.
    public struct GPU: Sendable, Equatable {
        /// `0`, or `simulated:h100`.
        public var gpu = ""
        public var name = ""
        public var isSimulated = false
        public var note = ""
        public var clockLimits: [String] = []
        /// XID; `nil` if there was none.
        public var fault: Int?
        public var faultText = ""
        /// As `/engines` names them; what is not known is missing.
        public var values: [String: Double] = [:]

        public init() {}
    }

    /// Something that happened.
    public struct Event: Sendable, Equatable {
        public var id = 0
        /// Seconds since the gateway's start.
        public var uptime = 0.0
        public var kind = ""
        public var model = ""
        public var engine = 0
        public var reason = ""
        public var continued = 0
        public var retried = 0
        public var refused = 0

        public init() {}
    }

    public var version = ""
    public var pid = 0
    /// Seconds since the gateway's start.
    public var uptime = 0.0
    public var requests = 0
    public var heldSequences = 0
    /// Counters since the gateway's start.
    public var promptTokens = 0
    public var generatedTokens = 0
    public var finished = 0
    public var failed = 0
    public var aborted = 0
    public var retries = 0
    public var migrations = 0
    public var refusedMigrations = 0
    public var engines: [Engine] = []
    public var gpus: [GPU] = []
    /// Oldest first.
    public var events: [Event] = []
    public var timeToFirstToken = HistogramCounts()
    public var interTokenLatency = HistogramCounts()

    public init() {}

    /// - Returns: `nil` if the value is nothing that `/engines` answers.
    public init?(_ value: JSONValue) {
        guard let object = value.object, let engines = object["engines"]?.array,
            let gateway = object["gateway"]?.object
        else { return nil }
        version = object.text("version")
        pid = object.count("pid")
        uptime = object["uptime_seconds"]?.number ?? 0
        requests = gateway.count("requests")
        heldSequences = gateway.count("held_sequences")
        promptTokens = gateway.count("prompt_tokens")
        generatedTokens = gateway.count("generated_tokens")
        finished = gateway.count("finished")
        failed = gateway.count("failed")
        aborted = gateway.count("aborted")
        retries = gateway.count("retries")
        migrations = gateway.count("migrations")
        refusedMigrations = gateway.count("refused_migrations")
        self.engines = engines.compactMap(\.object).map(Engine.init)
        gpus = (object["gpus"]?.array ?? []).compactMap(\.object).map(GPU.init)
        events = (object["events"]?.array ?? []).compactMap(\.object).map(Event.init)
        let latency = object["latency"]?.object
        timeToFirstToken = HistogramCounts(latency?["time_to_first_token_seconds"]?.object)
        interTokenLatency = HistogramCounts(latency?["inter_token_latency_seconds"]?.object)
    }

    /// Names of all models, each once, in the engines' order.
    public var models: [String] {
        var models: [String] = []
        for engine in engines where !models.contains(engine.model) { models.append(engine.model) }
        return models
    }
}

extension EnginesSnapshot.Engine {
    init(_ object: JSONObject) {
        index = object.count("index")
        model = object.text("model")
        state = object.text("state")
        isServing = object["serving"]?.bool ?? false
        pid = object.count("pid")
        restarts = object.count("restarts")
        reason = object.text("reason")
        device = object.text("device")
        running = object.optionalCount("running")
        waiting = object.optionalCount("waiting")
        maximumSequences = object.optionalCount("max_sequences")
        usedBlocks = object.optionalCount("kv_blocks_used")
        totalBlocks = object.optionalCount("kv_blocks_total")
        steps = object.count("steps")
        promptTokens = object.count("prompt_tokens")
        cachedPromptTokens = object.count("cached_prompt_tokens")
        generatedTokens = object.count("generated_tokens")
        outstandingRequests = object.count("outstanding_requests")
    }
}

extension EnginesSnapshot.GPU {
    init(_ object: JSONObject) {
        gpu = object.text("gpu")
        name = object.text("name")
        isSimulated = object["simulated"]?.bool ?? false
        note = object.text("note")
        clockLimits = (object["clock_limits"]?.array ?? []).compactMap(\.string)
        let last = object["last_fault"]?.object
        fault = last?.optionalCount("xid")
        faultText = last?.text("text") ?? ""
        for (key, value) in object.entries where key != "time" {
            guard let number = value.number, number.isFinite else { continue }
            values[key] = number
        }
    }
}

extension EnginesSnapshot.Event {
    init(_ object: JSONObject) {
        id = object.count("id")
        uptime = object["uptime_seconds"]?.number ?? 0
        kind = object.text("kind")
        model = object.text("model")
        engine = object.count("engine")
        reason = object.text("reason")
        continued = object.count("continued")
        retried = object.count("retried")
        refused = object.count("refused")
    }
}

extension JSONObject {
    func text(_ name: String) -> String { self[name]?.string ?? "" }
    func count(_ name: String) -> Int { optionalCount(name) ?? 0 }

    /// Bounded, so that sums of what somebody made up cannot overflow.
    func optionalCount(_ name: String) -> Int? {
        self[name]?.integer.map { Int(min(max($0, 0), 1 << 53)) }
    }
}
