// Tandem — Apache-2.0

import EngineLink
import JSON
import NIOCore
import Synchronization
import Telemetry

/// The answer of `/engines`: every engine, what the gateway has in hand, and what happened lately. Its members are
/// documented in docs/monitoring.md; members may be added, none changes its meaning.
struct EnginesDocument {
    var census: EngineCensus
    var instruments: GatewayInstruments
    var configuration: GatewayConfiguration
    /// Sent to viewers of the dashboard, which also shows where requests are.
    var showsPlacements = false

    func bytes() -> [UInt8] {
        let now = configuration.clock()
        var writer = JSONWriter()
        writer.beginObject()
        writer.member("version", configuration.version)
        writer.member("pid", configuration.pid)
        writer.member("time", configuration.secondsSince1970())
        writer.member("uptime_seconds", Self.milliseconds(instruments.events.uptime))
        writer.member("event_loops", census.eventLoops)
        writeGateway(to: &writer)
        writeTotals(to: &writer)
        writer.key("engines")
        writer.beginArray()
        for model in census.models {
            for engine in model.engines { write(engine, at: now, to: &writer) }
        }
        writer.endArray()
        if let devices = configuration.devices {
            writer.key("gpus")
            writer.beginArray()
            for view in devices.views { view.write(to: &writer) }
            writer.endArray()
        }
        writeLatency(to: &writer)
        writer.key("events")
        writer.beginArray()
        for event in instruments.events.latest { write(event, to: &writer) }
        writer.endArray()
        if showsPlacements { writePlacements(to: &writer) }
        writer.endObject()
        return writer.bytes
    }

    /// What this gateway counts, of all models.
    private func writeGateway(to writer: inout JSONWriter) {
        let metrics = instruments.models
        let requests = metrics.flatMap(\.allRequests)
        writer.key("gateway")
        writer.beginObject()
        writer.member("requests", metrics.reduce(0) { $0 + $1.requestsInHand.load(ordering: .relaxed) })
        writer.member("sequences", census.models.reduce(0) { $0 + $1.unfinished })
        writer.member("held_sequences", census.models.reduce(0) { $0 + $1.held })
        writer.member("prompt_tokens", requests.reduce(0) { $0 &+ $1.promptTokens.value })
        writer.member("generated_tokens", requests.reduce(0) { $0 &+ $1.generationTokens.value })
        writer.member("finished", requests.reduce(0) { $0 &+ $1.finished })
        writer.member("failed", requests.reduce(0) { $0 &+ $1.success("error").value })
        writer.member("aborted", requests.reduce(0) { $0 &+ $1.success("abort").value })
        writer.member("retries", metrics.reduce(0) { $0 &+ $1.retries.value })
        writer.member("migrations", metrics.reduce(0) { $0 &+ $1.migrations.continued })
        writer.member("refused_migrations", metrics.reduce(0) { $0 &+ $1.migrations.refused })
        writer.endObject()
    }

    private func writeTotals(to writer: inout JSONWriter) {
        let engines = census.models.flatMap(\.engines)
        let statistics = engines.compactMap(\.statistics)
        writer.key("totals")
        writer.beginObject()
        writer.member("engines", engines.count)
        writer.member("serving", engines.count { $0.isServing })
        writer.member("restarts", engines.reduce(0) { $0 + Int($1.restarts) })
        writer.member("running", statistics.reduce(0) { $0 + Int($1.runningSequences) })
        writer.member("waiting", statistics.reduce(0) { $0 + Int($1.waitingSequences) })
        writer.member("kv_blocks_used", statistics.reduce(0) { $0 + Int($1.usedBlocks) })
        writer.member("kv_blocks_total", statistics.reduce(0) { $0 + Int($1.totalBlocks) })
        writer.member("steps", statistics.reduce(0) { $0 &+ $1.steps })
        writer.member("prompt_tokens", statistics.reduce(0) { $0 &+ $1.promptTokens })
        writer.member("cached_prompt_tokens", statistics.reduce(0) { $0 &+ $1.cachedPromptTokens })
        writer.member("generated_tokens", statistics.reduce(0) { $0 &+ $1.generatedTokens })
        writer.member("outstanding_requests", engines.reduce(0) { $0 + $1.outstandingRequests })
        writer.member("outstanding_tokens", engines.reduce(0) { $0 + $1.outstandingTokens })
        writer.endObject()
    }

    private func write(_ engine: EngineReport, at now: NIODeadline, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("index", engine.index)
        writer.member("model", engine.model)
        writer.member("address", engine.address)
        writer.member("state", "\(engine.state)")
        writer.member("serving", engine.isServing)
        writer.member("pid", engine.pid)
        writer.member("restarts", engine.restarts)
        writer.member("reason", engine.reason)
        writer.member("device", engine.hello?.device)
        writer.member("max_sequences", engine.hello?.maximumSequences)
        writer.member("block_size", engine.hello?.blockSize)
        let statistics = engine.statistics
        writer.member("running", statistics?.runningSequences)
        writer.member("waiting", statistics?.waitingSequences)
        writer.member("kv_blocks_used", statistics?.usedBlocks)
        writer.member("kv_blocks_total", statistics?.totalBlocks ?? engine.hello?.keyValueBlocks)
        writer.member("steps", statistics?.steps)
        writer.member("prompt_tokens", statistics?.promptTokens)
        writer.member("cached_prompt_tokens", statistics?.cachedPromptTokens)
        writer.member("generated_tokens", statistics?.generatedTokens)
        writer.member("preemptions", statistics?.preemptions)
        writer.member("draft_tokens", statistics?.draftedTokens)
        writer.member("accepted_draft_tokens", statistics?.acceptedTokens)
        writer.member("outstanding_requests", engine.outstandingRequests)
        writer.member("outstanding_tokens", engine.outstandingTokens)
        writer.member(
            "heard_seconds_ago",
            engine.heard.map { Self.milliseconds(max(0, Double((now - $0).nanoseconds) / 1e9)) })
        writer.endObject()
    }

    /// Histograms since the gateway's start, of all models together: the difference of two answers is a window.
    private func writeLatency(to writer: inout JSONWriter) {
        writer.key("latency")
        writer.beginObject()
        for (name, path) in [
            ("time_to_first_token_seconds", \RequestMetrics.timeToFirstToken),
            ("inter_token_latency_seconds", \RequestMetrics.interTokenLatency),
        ] {
            let histograms = instruments.models.flatMap(\.allRequests).map { $0[keyPath: path] }
            guard let bounds = histograms.first?.bounds else { continue }
            let snapshots = histograms.map { $0.snapshot() }
            writer.key(name)
            writer.beginObject()
            writer.key("bounds")
            writer.beginArray()
            for bound in bounds { writer.number(bound) }
            writer.endArray()
            writer.key("counts")
            writer.beginArray()
            for index in 0...bounds.count { writer.integer(snapshots.reduce(0) { $0 &+ $1.counts[index] }) }
            writer.endArray()
            writer.member("sum", snapshots.reduce(0) { $0 + $1.sum })
            writer.endObject()
        }
        writer.endObject()
    }

    private func write(_ event: GatewayEvent, to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("id", event.id)
        writer.member("time", event.time)
        writer.member("uptime_seconds", Self.milliseconds(event.uptime))
        writer.member("kind", event.kind.rawValue)
        writer.member("model", event.model)
        writer.member("engine", event.engine)
        writer.member("reason", event.reason)
        if event.kind == .moved {
            writer.member("continued", event.moved.continued)
            writer.member("retried", event.moved.retried)
            writer.member("refused", event.moved.refused)
        }
        writer.endObject()
    }

    private func writePlacements(to writer: inout JSONWriter) {
        writer.key("requests")
        writer.beginArray()
        for placement in census.placements {
            writer.beginObject()
            writer.member("id", placement.request)
            writer.member("model", placement.model)
            writer.member("engine", placement.engine)
            writer.member("attempts", placement.attempts)
            writer.endObject()
        }
        writer.endArray()
    }

    private static func milliseconds(_ seconds: Double) -> Double { (seconds * 1000).rounded() / 1000 }
}

extension JSONWriter {
    /// Writes a member; null for `nil`.
    mutating func member(_ name: String, _ value: String?) {
        key(name)
        if let value { string(value) } else { null() }
    }

    /// Writes a member; null for `nil`.
    mutating func member(_ name: String, _ value: (some FixedWidthInteger)?) {
        key(name)
        if let value { integer(value) } else { null() }
    }

    /// Writes a member; null for `nil`.
    mutating func member(_ name: String, _ value: Double?) {
        key(name)
        if let value { number(value) } else { null() }
    }

    /// Writes a member.
    mutating func member(_ name: String, _ value: Bool) {
        key(name)
        bool(value)
    }
}
