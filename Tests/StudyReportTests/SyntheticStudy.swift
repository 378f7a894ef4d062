// Tandem — Apache-2.0

import LanguageModel
import Study

@testable import StudyReport

/// Results whose numbers a test chooses.
enum SyntheticStudy {
    static let arms = [
        StudyArm(id: "one", title: "one engine", engines: 1, sharing: .alone, isAsynchronous: false),
        StudyArm(id: "ahead", title: "one engine, asynchronous", engines: 1, sharing: .alone, isAsynchronous: true),
        StudyArm(id: "mps", title: "two engines, MPS", engines: 2, sharing: .mps, isAsynchronous: false),
    ]

    static let hosts = [
        StudyDefinition.Host(name: "none", secondsPerStep: 0, secondsPerSequence: 0, source: "no host"),
        StudyDefinition.Host(name: "assumed", secondsPerStep: 1e-3, secondsPerSequence: 1e-6, source: "assumed"),
    ]

    static func definition(
        _ figure: String = "F1", phase: StudyDefinition.Phase = .decode,
        models: [String] = ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b"],
        contexts: [Int] = [128, 512, 2048, 8192], ablations: [Ablation] = [.full],
        conventions: [StudyDefinition.Convention] = [.total, .perEngine], hosts: [StudyDefinition.Host] = hosts,
        title: String = "Decode"
    ) -> StudyDefinition {
        StudyDefinition(
            figure: figure, title: title, question: "What is gained?", phase: phase, models: models, contexts: contexts,
            batches: [phase == .prefill ? 256 : 1024], conventions: conventions, ablations: ablations, hosts: hosts,
            arms: arms, repetitions: 3, device: "simulated:h100")
    }

    static func header(
        _ definition: StudyDefinition, kind: StudyHeader.Kind = .simulated, device: String = "simulated:h100",
        title: String = "NVIDIA H100"
    ) -> StudyHeader {
        StudyHeader(
            kind: kind, device: device, deviceTitle: title, machine: "a machine", date: "2026-11-26T21:09:00Z",
            version: "0.1", revision: "abc", versions: ["driver": "580"], parameters: ["interference": "5 %"],
            definition: definition)
    }

    /// A result of batches: arms of two engines gain what `gain` says; null for a failure.
    static func batches(
        _ definition: StudyDefinition, header: StudyHeader? = nil, gain: (StudyCell) -> Double?
    ) -> StudyResult {
        var measurements: [StudyMeasurement] = []
        let hosts = definition.hosts.isEmpty ? [nil] : definition.hosts.map { Optional($0.name) }
        for repetition in 0..<definition.repetitions {
            for model in definition.models {
                for context in definition.contexts {
                    for convention in definition.conventions {
                        for host in hosts {
                            for ablation in definition.ablations {
                                for arm in definition.arms {
                                    let cell = StudyCell(
                                        figure: definition.figure, model: model, phase: definition.phase,
                                        context: context, batch: definition.batches[0], convention: convention,
                                        ablation: ablation, host: host, arm: arm.id)
                                    measurements.append(
                                        measurement(
                                            cell, repetition,
                                            rate: arm.engines == 1 ? 1000 : gain(cell).map { 1000 * (1 + $0) }))
                                }
                            }
                        }
                    }
                }
            }
        }
        return StudyResult(header: header ?? self.header(definition), measurements: measurements)
    }

    private static func measurement(_ cell: StudyCell, _ repetition: Int, rate: Double?) -> StudyMeasurement {
        guard let rate else {
            return StudyMeasurement(
                cell: cell, repetition: repetition, seed: 1, failure: "two copies of the weights do not fit")
        }
        var measurement = StudyMeasurement(cell: cell, repetition: repetition, seed: 1)
        // Repetitions differ by a thousandth, all arms alike.
        let rateNow = rate * (1 + 0.001 * Double(repetition))
        if cell.phase == .prefill {
            measurement.promptTokensPerSecond = rateNow
        } else {
            measurement.generatedTokensPerSecond = rateNow
        }
        measurement.stepTime = .init(attention: 0.5e-3, feedForward: 0.5e-3, rest: 0, host: 0)
        return measurement
    }

    /// A sweep of loads in which arms gain what `gains` says, by arm.
    static func serving(
        _ gains: [String: Double], target: Double = 8, latencies: [Double] = [1, 4, 16]
    ) -> StudyResult {
        var definition = definition("F6", phase: .serving, models: ["gemma-3-4b"], contexts: [1000])
        definition.batches = []
        definition.outputTokens = 256
        definition.loads = [1, 2, 4]
        definition.latencyTarget = target
        definition.conventions = [.total]
        definition.hosts = []
        var measurements: [StudyMeasurement] = []
        for repetition in 0..<3 {
            for arm in definition.arms {
                for (load, latency) in zip(definition.loads, latencies) {
                    let cell = StudyCell(
                        figure: "F6", model: "gemma-3-4b", phase: .serving, context: 1000, load: load,
                        convention: .total,
                        arm: arm.id)
                    var measurement = StudyMeasurement(cell: cell, repetition: repetition, seed: 1)
                    measurement.generatedTokensPerSecond =
                        load * 100 * (1 + (gains[arm.id] ?? 0)) * (1 + 0.001 * Double(repetition))
                    measurement.endToEnd = .init(mean: latency, p50: latency, p90: latency, p99: latency)
                    measurements.append(measurement)
                }
            }
        }
        return StudyResult(header: header(definition), measurements: measurements)
    }

    static var counts: StudyResult {
        var definition = definition("T1", phase: .resources, models: ["qwen2.5-3b"], contexts: [128, 1024])
        definition.arms = []
        var counts: [StudyCount] = []
        for context in definition.contexts {
            for (part, exponents) in [("MLP", [1.0, 0, 0, 0]), ("attention", [1.95, 1, 1, 1])] {
                for (index, phase) in ["prefill", "decode"].enumerated() {
                    counts.append(
                        StudyCount(
                            model: "qwen2.5-3b", context: context, part: part, phase: phase,
                            operations: Double(context) * 1e6, bytes: Double(context) * 1e3,
                            operationsGrowth: exponents[index], bytesGrowth: exponents[2 + index]))
                }
            }
        }
        return StudyResult(header: header(definition), counts: counts)
    }
}

/// What a test knows of markup: that it is well formed, and its text.
struct MarkupCheck {
    /// What is wrong; null if nothing is.
    private(set) var problem: String?
    private(set) var names: [String: Int] = [:]
    /// Tags that end nothing in HTML.
    private static let void: Set<String> = ["meta", "img", "br", "source", "!doctype", "link"]

    init(_ markup: String) { problem = scan(markup) }

    private mutating func scan(_ markup: String) -> String? {
        var open: [String] = []
        var rest = Substring(markup)
        while let start = rest.firstIndex(of: "<") {
            let text = rest[..<start]
            if text.contains(">") { return "a > in text: \(text.suffix(40))" }
            rest = rest[rest.index(after: start)...]
            guard let end = MarkupCheck.end(of: rest) else { return "an unfinished tag: \(rest.prefix(40))" }
            let tag = rest[..<end]
            rest = rest[rest.index(after: end)...]
            let name = String(tag.drop { $0 == "/" }.prefix { !$0.isWhitespace && $0 != "/" })
            if tag.hasPrefix("/") {
                guard open.popLast() == name else { return "</\(name)> ends something else" }
            } else {
                names[name, default: 0] += 1
                if !tag.hasSuffix("/"), !MarkupCheck.void.contains(name) { open.append(name) }
            }
        }
        return open.isEmpty ? nil : "not ended: \(open)"
    }

    /// The end of a tag, which may hold `>` between quotation marks.
    private static func end(of text: Substring) -> Substring.Index? {
        var isQuoted = false
        for index in text.indices {
            if text[index] == "\"" { isQuoted.toggle() }
            if text[index] == ">", !isQuoted { return index }
        }
        return nil
    }
}
