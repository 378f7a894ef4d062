// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Requests
import Routing
import Synchronization
import Telemetry

/// The gateway's metrics, under vLLM's names, so that existing dashboards and load generators read them, and its own
/// under `tandem_`.
final class GatewayMetrics: Sendable {
    private let registry: MetricRegistry
    private let model: MetricLabel
    let modelName: String
    let events: GatewayEvents
    /// Submissions of a sequence beyond its first, while it had sent nothing.
    let retries: MetricCounter
    /// Sequences that lost several engines in a row without a token, those of them that then got one, and those that were
    /// given up; see ``Suspicion``.
    let suspected: MetricCounter
    let suspectsCleared: MetricCounter
    let suspectsRefused: MetricCounter
    let trialTurn: TrialTurn
    /// Seconds from the loss of a sequence's engine to the next token from another.
    let migrationPause: MetricHistogram
    private let continuations = Atomic<UInt64>(0)
    private let refusals = Atomic<UInt64>(0)
    private let rejections: MetricCounter
    /// Requests that were cancelled because their clients did not read.
    let slowClients: MetricCounter
    private let decisions: [RoutingDecision.Reason: MetricCounter]
    private let prefixTokens: MetricCounter
    /// Of requests for the model, or for models that no name is left for.
    let requests: RequestMetrics
    /// Of those for the other models that are behind one name here, by theirs.
    private let named = Mutex<[String: RequestMetrics]>([:])
    private let reportsPhases: Bool
    let hostTimes: HostTimes
    /// Requests that were admitted and not answered to their end.
    let requestsInHand = Atomic<Int>(0)
    /// What event loops have to know of each other.
    let load = SharedLoad()
    private let unfinished: MetricGauge
    private let held: MetricGauge
    private let balance = Mutex((window: BalanceWindow(), ratio: Double?.none))
    /// Engines whose series there are, by index, and the model that they are shown for.
    private let shown = Mutex<[Int: String]>([:])
    private let clock: @Sendable () -> NIODeadline
    private let configuredEngines: MetricGauge
    private let servingEngines: MetricGauge

    /// - Parameters:
    ///   - registry: where they are shown; several models share one.
    ///   - reportsPhases: whether engines say when they begin with a sequence.
    init(
        modelName: String, registry: MetricRegistry = MetricRegistry(), events: GatewayEvents = GatewayEvents(),
        trialTurn: TrialTurn = TrialTurn(), reportsPhases: Bool = true,
        clock: @escaping @Sendable () -> NIODeadline = { .now() }
    ) {
        self.reportsPhases = reportsPhases
        self.modelName = modelName
        self.trialTurn = trialTurn
        self.events = events
        self.clock = clock
        let model = MetricLabel("model_name", modelName)
        self.model = model
        self.registry = registry
        func histogram(_ name: String, _ help: String, _ buckets: [Double]) -> MetricHistogram {
            registry.histogram(name, help: help, labels: [model], buckets: buckets)
        }
        retries = registry.counter(
            "tandem_router_retries_total",
            help: "Submissions of a sequence beyond its first, while it had sent nothing.", labels: [model])
        func suspects(_ outcome: String) -> MetricCounter {
            registry.counter(
                "tandem_router_suspects_total",
                help: "Sequences that lost several engines in a row without a token, and what became of them.",
                labels: [model, MetricLabel("outcome", outcome)])
        }
        suspected = suspects("suspected")
        suspectsCleared = suspects("cleared")
        suspectsRefused = suspects("refused")
        for cause in MigrationCause.allCases {
            _ = Self.migrations("continued", cause.rawValue, [model], in: registry)
        }
        // A series that begins with its first event hides that event from rates.
        for reason in reportsPhases ? [Self.suspect] : Obstacle.allCases.map(\.rawValue) {
            _ = Self.migrations("refused", reason, [model], in: registry)
        }
        migrationPause = histogram(
            "tandem_router_migration_pause_seconds", "From the loss of a sequence's engine to its next token.",
            MetricBuckets.timeToFirstToken)
        rejections = registry.counter(
            "vllm:admission_rejections_total", help: "Requests refused with 429 by reason.",
            labels: [model, MetricLabel("reason", "max_num_queued_reqs")])
        held = registry.gauge(
            "tandem_router_held_sequences", help: "Sequences that wait because no engine serves.", labels: [model])
        slowClients = registry.counter(
            "tandem_slow_clients_total", help: "Requests cancelled because the client did not read.", labels: [model])
        var decisions: [RoutingDecision.Reason: MetricCounter] = [:]
        for reason in RoutingDecision.Reason.allCases {
            decisions[reason] = registry.counter(
                "tandem_router_decisions_total", help: "Submissions of sequences, by what their engine was chosen for.",
                labels: [model, MetricLabel("reason", reason.rawValue)])
        }
        self.decisions = decisions
        prefixTokens = registry.counter(
            "tandem_router_prefix_tokens_total",
            help: "Prompt tokens that chosen engines were expected to have cached.", labels: [model])
        requests = RequestMetrics(modelName: modelName, registry: registry, reportsPhases: reportsPhases)
        hostTimes = HostTimes(clock: clock)
        hostTimes.register(in: registry, labels: [model])
        configuredEngines = registry.gauge(
            "tandem_engines", help: "Engines that should serve.", labels: [model])
        servingEngines = registry.gauge(
            "tandem_engines_serving", help: "Engines that serve; fewer than tandem_engines is degraded.",
            labels: [model])
        unfinished = registry.gauge(
            "tandem_gateway_unfinished_sequences", help: "Sequences admitted and not ended.", labels: [model])
        ProcessMetrics.register(in: registry)
        registry.read(
            "tandem_engine_balance_ratio",
            help: "Tokens of the busiest engine over the mean of all, about a minute; 1 is even.", kind: .gauge,
            labels: [model]
        ) { [weak self] in self?.balance.withLock { $0.ratio } }
    }

    /// Why a sequence that ends engines is refused.
    static let suspect = "suspect"

    /// A sequence that had sent tokens goes on elsewhere.
    func migrated(reason: String) {
        continuations.add(1, ordering: .relaxed)
        Self.migrations("continued", reason, [model], in: registry).add()
    }

    /// A sequence that had sent tokens could not go on elsewhere.
    func migrationRefused(reason: String) {
        refusals.add(1, ordering: .relaxed)
        Self.migrations("refused", reason, [model], in: registry).add()
    }

    /// How many went on elsewhere, and how many could not.
    var migrations: (continued: UInt64, refused: UInt64) {
        (continuations.load(ordering: .relaxed), refusals.load(ordering: .relaxed))
    }

    private static func migrations(
        _ outcome: String, _ reason: String, _ labels: [MetricLabel], in registry: MetricRegistry
    ) -> MetricCounter {
        registry.counter(
            "tandem_router_migrations_total",
            help: "Sequences that lost their engine after they had sent tokens, by outcome and reason.",
            labels: labels + [MetricLabel("outcome", outcome), MetricLabel("reason", reason)])
    }

    /// Names of models that get series of their own.
    static let mostNames = 64

    /// Where requests for one of the models are counted that are behind one name here: under the model's own, or, if
    /// there are too many, under that name.
    func requests(of name: String?) -> RequestMetrics {
        guard let name, name != modelName else { return requests }
        return named.withLock { named in
            if let found = named[name] { return found }
            guard named.count < Self.mostNames else { return requests }
            let made = RequestMetrics(modelName: name, registry: registry, reportsPhases: reportsPhases)
            named[name] = made
            return made
        }
    }

    /// Of requests for any of the models.
    var allRequests: [RequestMetrics] { named.withLock { [requests] + $0.values } }

    /// A request was refused because too many wait.
    func rejected() { rejections.add() }

    /// A sequence was given to an engine.
    func routed(_ decision: RoutingDecision) {
        decisions[decision.reason]?.add()
        if decision.cachedTokens > 0 { prefixTokens.add(UInt64(decision.cachedTokens)) }
    }

    /// Links that were given up because the engine was silent. Asked for first when an engine appears.
    func silences(engine: Int) -> MetricCounter {
        registry.counter(
            "tandem_engine_silences_total", help: "Links given up because nothing was heard of the engine.",
            labels: [model, MetricLabel("engine", String(engine))])
    }

    /// A request was answered with an error before it was admitted.
    func refused(status: Int) { requests.refused(status: status) }

    /// The model that an engine is shown for: of external ones the first that it has.
    private func name(of engine: EngineReport) -> String {
        guard engine.isExternal, !engine.model.isEmpty else { return modelName }
        return requests(of: engine.model).modelName
    }

    /// Takes what the engines last said of themselves.
    func setEngines(_ engines: [EngineReport], unfinished count: Int, held heldCount: Int = 0) {
        unfinished.set(Double(count))
        held.set(Double(heldCount))
        let now = Double(clock().uptimeNanoseconds) / 1e9
        balance.withLock { balance in
            let tokens = engines.map { ($0.index, $0.statistics?.generatedTokens ?? 0) }
            balance.ratio = balance.window.add(Dictionary(tokens) { $1 }, at: now)
        }
        let shownNow = Dictionary(engines.map { ($0.index, name(of: $0)) }) { $1 }
        let gone = shown.withLock { shown in
            defer { shown = shownNow }
            return shown.filter { shownNow[$0.key] != $0.value }
        }
        for (index, name) in gone {
            registry.removeAll(having: [MetricLabel("model_name", name), MetricLabel("engine", String(index))])
        }
        configuredEngines.set(Double(engines.count))
        servingEngines.set(Double(engines.count { $0.isServing }))
        for engine in engines {
            if reportsPhases { _ = silences(engine: Int(engine.index)) }
            let labels = [
                MetricLabel("model_name", shownNow[engine.index] ?? modelName),
                MetricLabel("engine", String(engine.index)),
            ]
            func gauge(_ name: String, _ help: String, _ value: Double) {
                registry.gauge(name, help: help, labels: labels).set(value)
            }
            func counter(_ name: String, _ help: String, _ value: UInt64) {
                registry.counter(name, help: help, labels: labels).set(value)
            }
            gauge("tandem_engine_serving", "1 if the engine serves.", engine.isServing ? 1 : 0)
            for state in RosterEntry.State.allCases {
                registry.gauge(
                    "tandem_engine_state", help: "1 for the state that the engine is in.",
                    labels: labels + [MetricLabel("state", "\(state)")]
                ).set(engine.state == state ? 1 : 0)
            }
            for state in ["closed", "half_open", "open"] {
                registry.gauge(
                    "tandem_router_breaker_state", help: "1 for the state of the engine's circuit breaker.",
                    labels: labels + [MetricLabel("state", state)]
                ).set(engine.breaker.name == state ? 1 : 0)
            }
            counter(
                "tandem_engine_restarts_total", "How often the engine was started again.",
                UInt64(engine.restarts))
            let statistics = engine.statistics ?? EngineStatistics()
            // Others tell nobody: what this gateway has in hand there is the next best.
            let running = engine.isExternal ? engine.outstandingRequests : Int(statistics.runningSequences)
            gauge("vllm:num_requests_running", "Sequences the engine computes.", Double(running))
            gauge(
                "vllm:num_requests_waiting", "Sequences that wait in the engine.",
                Double(statistics.waitingSequences))
            registry.gauge(
                "vllm:num_requests_waiting_by_reason", help: "Sequences that wait in the engine, by reason.",
                labels: labels + [MetricLabel("reason", "capacity")]
            ).set(Double(statistics.waitingSequences))
            gauge(
                "tandem_router_outstanding_tokens", "Tokens that the gateway still expects of the engine.",
                Double(engine.outstandingTokens))
            if !engine.isExternal {
                gauge(
                    "vllm:kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.",
                    statistics.totalBlocks == 0 ? 0 : Double(statistics.usedBlocks) / Double(statistics.totalBlocks))
            }
            if let hello = engine.hello {
                registry.gauge(
                    "vllm:cache_config_info", help: "KV cache layout as labels.",
                    labels: labels + [
                        MetricLabel("block_size", String(hello.blockSize)),
                        MetricLabel("num_gpu_blocks", String(hello.keyValueBlocks)),
                    ]
                ).set(1)
            }
            guard engine.statistics != nil else { continue }
            counter("vllm:num_preemptions_total", "Sequences that gave their KV blocks up.", statistics.preemptions)
            counter(
                "vllm:spec_decode_num_draft_tokens_total", "Tokens that were guessed ahead.", statistics.draftedTokens)
            counter(
                "vllm:spec_decode_num_accepted_tokens_total", "Guessed tokens that were right.",
                statistics.acceptedTokens)
            counter("tandem_engine_steps_total", "Steps since the engine started.", statistics.steps)
            registry.histogram(
                "vllm:iteration_tokens_total", help: "Tokens that a step computed.", labels: labels,
                buckets: StepSizes.bounds.map(Double.init)
            ).set(statistics.stepSizes.counts, sum: Double(statistics.stepSizes.tokens))
            counter(
                "tandem_engine_prompt_tokens_total", "Prompt tokens the engine was given.", statistics.promptTokens)
            counter(
                "tandem_engine_generated_tokens_total", "Tokens the engine generated.", statistics.generatedTokens)
            counter(
                "vllm:prompt_tokens_cached_total", "Prompt tokens found in the prefix cache.",
                statistics.cachedPromptTokens)
            counter(
                "vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
                statistics.promptTokens)
            counter(
                "vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.",
                statistics.cachedPromptTokens)
            setTimes(statistics.times, labels: labels)
        }
    }

    private func setTimes(_ times: EngineTimes, labels: [MetricLabel]) {
        func seconds(_ name: String, _ help: String, _ nanoseconds: UInt64, _ label: MetricLabel? = nil) {
            registry.sum(name, help: help, labels: labels + (label.map { [$0] } ?? []))
                .set(Double(nanoseconds) / 1e9)
        }
        for (phase, nanoseconds) in [
            ("schedule", times.schedule), ("prepare", times.prepare), ("sample", times.sample),
            ("report", times.report), ("stall", times.stall),
        ] {
            seconds(
                "tandem_engine_host_seconds_total", "Work of the engine's step thread by phase.", nanoseconds,
                MetricLabel("phase", phase))
        }
        seconds(
            "tandem_engine_device_seconds_total", "Time in which the engine had a step in flight.", times.device)
        seconds(
            "tandem_engine_gap_seconds_total", "Time in which the engine had work but no step in flight.", times.gap)
        seconds("tandem_engine_idle_seconds_total", "Time in which the engine had nothing to do.", times.idle)
        for (component, nanoseconds) in [
            ("attention", times.attention), ("mlp", times.mlp), ("rest", times.rest),
        ] {
            seconds(
                "tandem_engine_component_seconds_total", "Time inside the engine's steps by part of the model.",
                nanoseconds, MetricLabel("component", component))
        }
    }

    static var contentType: String { MetricRegistry.contentType }
}
