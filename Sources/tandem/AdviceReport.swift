// Tandem — Apache-2.0

import GPUModel
import JSON
import LanguageModel
import TerminalView

/// Advice as it is shown.
struct AdviceReport {
    var request: AdviceRequest
    var advice: Advice

    // MARK: For people

    func lines(columns: Int, glyphs: TerminalGlyphs) -> [StyledLine] {
        let workload = request.workload
        var lines = [StyledLine(request.model.name, .strong)]
        lines[0].add(" on \(request.device.title): \(workload.promptTokens) tokens in, \(workload.outputTokens) out, ")
        lines[0].add("\(workload.concurrency) at once" + (workload.latency.map { ", within \(Self.time($0))" } ?? ""))
        lines += Self.wrapped("A prediction of a model; nothing was measured.", columns: columns, style: .faint)
        lines.append(StyledLine())
        lines.append(verdict)
        for reason in advice.reasons { lines += Self.wrapped(reason, columns: columns, indent: 2) }
        lines.append(StyledLine())
        lines += facts(columns: columns)
        if advice.engines > 1 {
            lines.append(StyledLine())
            lines.append(StyledLine("Where the gain comes from", .strong))
            lines += decomposition
        }
        lines.append(StyledLine())
        lines.append(StyledLine("Tokens a second", .strong))
        lines += chart.lines(columns: columns, indent: 2, glyphs: glyphs)
        if advice.byEngines.count > 1 {
            lines.append(StyledLine())
            lines.append(
                StyledLine(
                    "Tokens a second by engines" + (request.isAsynchronous ? ", each a step ahead" : ""), .strong))
            lines += chartByEngines.lines(columns: columns, indent: 2, glyphs: glyphs)
        }
        lines.append(StyledLine())
        lines.append(StyledLine("Mind", .strong))
        for caution in advice.cautions { lines += Self.wrapped(caution, columns: columns, indent: 4, first: "  - ") }
        lines.append(StyledLine())
        for source in request.device.sources { lines += Self.wrapped(source, columns: columns, style: .faint) }
        return lines
    }

    private var verdict: StyledLine {
        let style: TextStyle =
            switch advice.verdict {
            case .yes: .good
            case .no: .bad
            case .fixEngineFirst: .warning
            }
        var line = StyledLine("Verdict: ", .strong)
        line.add(advice.verdict.rawValue, style)
        return line
    }

    private func facts(columns: Int) -> [StyledLine] {
        var rows: [(String, String)] = []
        if advice.engines > 1 {
            rows.append(
                (
                    "gain",
                    "\(Self.signed(advice.gain)), expected between \(Self.signed(advice.interval.lowerBound)) and "
                        + Self.signed(advice.interval.upperBound)
                ))
        }
        rows.append(
            (
                "engines",
                (advice.bestEngines == advice.engines ? "" : "1; what follows is of ")
                    + "\(advice.engines), each with \(Self.count(advice.shared.sequencesPerEngine)) sequences at once"
            ))
        rows.append(
            (
                "cache",
                "\(Self.gigabytes(advice.cacheBytesPerEngine)) of keys and values for each engine: "
                    + "\(Self.thousands(advice.cacheTokensPerEngine)) tokens"
                    + (advice.shared.isLimitedByCache ? "; fewer sequences fit than are asked for" : "")
            ))
        if advice.engines > 1 {
            let percent = advice.threadPercentage
            rows.append(
                (
                    "threads",
                    "\(percent) % of the SMs for each: "
                        + (percent < 100 ? "--mps-thread-percentage \(percent)" : "no limit")
                ))
        }
        rows.append(
            (
                "one step",
                "\(Self.time(advice.baseline.deviceSeconds)) GPU, \(Self.time(advice.baseline.hostSeconds)) host with one "
                    + "engine"
            ))
        rows.append(
            (
                "latency",
                "\(Self.time(advice.baseline.latency)) with one engine"
                    + (advice.engines > 1 ? ", \(Self.time(advice.shared.latency)) with \(advice.engines)" : "")
            ))
        if let alternative = advice.alternative {
            rows.append(
                ("instead", "asynchronous scheduling of one engine: \(Self.signed(advice.gain(of: alternative)))"))
        }
        if let larger = advice.largerBatch {
            rows.append(
                (
                    "instead",
                    "\(Self.count(larger.sequencesPerEngine)) sequences at once in one engine: "
                        + Self.signed(advice.gain(of: larger))
                ))
        }
        return rows.flatMap { name, text in
            Self.wrapped(text, columns: columns, indent: 12, first: "  " + Self.padded(name, 10))
        }
    }

    private var decomposition: [StyledLine] {
        parts.filter { abs($0.value) >= 0.0005 || $0.key != "latency" }.map { part in
            var line = StyledLine("  " + Self.padded(part.text, 28))
            line.add(
                Self.padded(left: Self.signedPoints(part.value), 6),
                part.value > 0.005 ? .good : part.value < -0.005 ? .bad : .plain)
            return line
        } + [
            StyledLine("  " + Self.padded("together", 28) + Self.padded(left: Self.signedPoints(advice.gain), 6) + " %")
        ]
    }

    private var parts: [(key: String, text: String, value: Double)] {
        let parts = advice.decomposition
        return [
            ("host_idle_recovered", "idle host time recovered", parts.hostIdleRecovered),
            ("tails_filled", "gaps and tails filled", parts.tailsFilled),
            ("overlap", "kernels side by side", parts.overlap),
            ("interference", "interference, cost of MPS", parts.interference),
            ("batch_split", "batch split", parts.batchSplit),
            ("capacity", "less room for the cache", parts.capacity),
            ("latency", "more within the latency", parts.latency),
        ]
    }

    private var chart: BarChart {
        BarChart(
            rows: advice.arms.map { arm in
                let gain = advice.gain(of: arm)
                return BarChart.Row(
                    label: name(arm), value: arm.tokensPerSecond,
                    note: Self.thousands(Int(arm.tokensPerSecond))
                        + (arm == advice.baseline ? "" : "  " + Self.signed(gain)),
                    style: arm == advice.baseline ? .plain : gain > 0.005 ? .good : gain < -0.005 ? .bad : .accent)
            })
    }

    private var chartByEngines: BarChart {
        BarChart(
            rows: advice.byEngines.map {
                BarChart.Row(
                    label: "\($0.engines)" + ($0.engines == advice.engines ? " <" : ""), value: $0.tokensPerSecond,
                    note: Self.thousands(Int($0.tokensPerSecond)))
            })
    }

    private func name(_ arm: Prediction) -> String {
        let ahead = request.isAsynchronous ? ", a step ahead" : ""
        return switch arm.arm {
        case .one: "1 engine, each step awaited"
        case .oneAsynchronous: "1 engine, a step ahead"
        case .timeSliced: "\(arm.engines) without MPS" + ahead
        case .inProcess: "\(arm.engines) in one process" + ahead
        case .mps: "\(arm.engines) under MPS"
        case .mpsAsynchronous: "\(arm.engines) under MPS, a step ahead"
        }
    }

    // MARK: For programs

    func json() -> String {
        var writer = JSONWriter()
        writer.beginObject()
        func member(_ key: String, _ value: Double) {
            writer.key(key)
            writer.number(value)
        }
        func member(_ key: String, _ value: String) {
            writer.key(key)
            writer.string(value)
        }
        func member(_ key: String, _ value: Int) {
            writer.key(key)
            writer.integer(value)
        }
        func list(_ key: String, _ values: [String]) {
            writer.key(key)
            writer.beginArray()
            for value in values { writer.string(value) }
            writer.endArray()
        }
        member("kind", "prediction")
        member("model", request.model.name)
        member("gpu", request.device.name)
        member("verdict", advice.verdict == .fixEngineFirst ? "fix_engine_first" : advice.verdict.rawValue)
        list("reasons", advice.reasons)
        list("cautions", advice.cautions)
        member("best_engines", advice.bestEngines)
        member("engines", advice.engines)
        member("gain", advice.gain)
        writer.key("gain_interval")
        writer.beginArray()
        writer.number(advice.interval.lowerBound)
        writer.number(advice.interval.upperBound)
        writer.endArray()
        member("kv_cache_bytes_per_engine", advice.cacheBytesPerEngine.rounded())
        member("kv_cache_tokens_per_engine", advice.cacheTokensPerEngine)
        member("mps_active_thread_percentage", advice.threadPercentage)
        writer.key("decomposition")
        writer.beginObject()
        for part in parts { member(part.key, part.value) }
        writer.endObject()
        writer.key("alternative")
        if let alternative = advice.alternative {
            writer.beginObject()
            member("what", "asynchronous scheduling of one engine")
            member("gain", advice.gain(of: alternative))
            writer.endObject()
        } else {
            writer.null()
        }
        writer.key("larger_batch")
        if let larger = advice.largerBatch {
            writer.beginObject()
            member("sequences", larger.sequencesPerEngine)
            member("gain", advice.gain(of: larger))
            writer.endObject()
        } else {
            writer.null()
        }
        for (key, predictions) in [("arms", advice.arms), ("by_engines", advice.byEngines)] {
            writer.key(key)
            writer.beginArray()
            for prediction in predictions {
                writer.beginObject()
                member("arm", Self.key(prediction.arm))
                member("engines", prediction.engines)
                member("tokens_per_second", prediction.tokensPerSecond)
                member("gain", advice.gain(of: prediction))
                member("requests_in_flight", prediction.concurrency)
                member("sequences_per_engine", prediction.sequencesPerEngine)
                member("latency_seconds", prediction.latency)
                member("device_seconds_per_step", prediction.deviceSeconds)
                member("host_seconds_per_step", prediction.hostSeconds)
                writer.endObject()
            }
            writer.endArray()
        }
        list("sources", request.device.sources)
        writer.endObject()
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    private static func key(_ arm: Arm) -> String {
        switch arm {
        case .one: "one"
        case .oneAsynchronous: "one_asynchronous"
        case .timeSliced: "time_sliced"
        case .mps: "mps"
        case .mpsAsynchronous: "mps_asynchronous"
        case .inProcess: "in_process"
        }
    }

    // MARK: Words and numbers

    /// Text in lines, broken at spaces.
    private static func wrapped(
        _ text: String, columns: Int, indent: Int = 0, first: String? = nil, style: TextStyle = .plain
    ) -> [StyledLine] {
        let margin = String(repeating: " ", count: indent)
        var lines: [StyledLine] = []
        var line = first ?? margin
        var isEmpty = true
        for word in text.split(separator: " ") {
            if !isEmpty, line.count + 1 + word.count > columns {
                lines.append(StyledLine(line, style))
                line = margin
                isEmpty = true
            }
            line += (isEmpty ? "" : " ") + word
            isEmpty = false
        }
        lines.append(StyledLine(line, style))
        return lines
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    private static func padded(left text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }

    private static func signedPoints(_ share: Double) -> String {
        let points = Int((share * 100).rounded())
        return points > 0 ? "+\(points)" : "\(points)"
    }

    private static func signed(_ share: Double) -> String { signedPoints(share) + " %" }

    private static func tenths(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }

    private static func count(_ value: Double) -> String { value < 9.95 ? tenths(value) : "\(Int(value.rounded()))" }

    private static func gigabytes(_ bytes: Double) -> String { tenths(bytes / 1e9) + " GB" }

    /// `12,345`.
    private static func thousands(_ value: Int) -> String {
        guard value >= 1000 else { return "\(value)" }
        return thousands(value / 1000) + "," + padded(left: "\(value % 1000)", 3).replacingSpaces()
    }

    private static func time(_ seconds: Double) -> String {
        switch seconds {
        case ..<0.001: tenths(seconds * 1e6) + " us"
        case ..<1: tenths(seconds * 1e3) + " ms"
        default: tenths(min(seconds, 1e12)) + " s"
        }
    }
}

extension String {
    fileprivate func replacingSpaces() -> String { String(map { $0 == " " ? "0" : $0 }) }
}
