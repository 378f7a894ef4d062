// Tandem — Apache-2.0

import Synchronization

/// A name and a value that tell the series of one metric apart.
public struct MetricLabel: Sendable, Hashable {
    public var name: String
    public var value: String

    public init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

/// All metrics of a process.
///
/// Look-ups lock, so handles are made once and kept; a handle's operations are relaxed atomics. The same name and labels
/// give the same handle. A name has one type: a handle that is asked for under another one works, is not exposed, and
/// its name is listed in ``conflicts``.
public final class MetricRegistry: Sendable {
    enum Series {
        case counter(MetricCounter)
        case sum(MetricSum)
        case gauge(MetricGauge)
        case histogram(MetricHistogram)
        /// Read when the metrics are.
        case read(kind: MetricKind, @Sendable () -> Double?)

        var kind: MetricKind {
            switch self {
            case .counter, .sum: .counter
            case .gauge: .gauge
            case .histogram: .histogram
            case .read(let kind, _): kind
            }
        }
    }

    struct Family {
        var help: String
        var kind: MetricKind
        /// By the labels as they are exposed.
        var series: [String: Series] = [:]
    }

    struct State {
        var families: [String: Family] = [:]
        var conflicts: Set<String> = []
    }

    let state = Mutex(State())

    public init() {}

    /// Names that were asked for as two types.
    public var conflicts: [String] {
        state.withLock { $0.conflicts.sorted() }
    }

    /// A counter of whole things; its name should end in `_total`.
    public func counter(_ name: String, help: String, labels: [MetricLabel] = []) -> MetricCounter {
        find(name, help, labels, kind: .counter) {
            guard case .counter(let counter) = $0 else { return nil }
            return counter
        } make: {
            let counter = MetricCounter()
            return (counter, .counter(counter))
        }
    }

    /// A counter of amounts, of seconds for example; its name should end in `_total`.
    public func sum(_ name: String, help: String, labels: [MetricLabel] = []) -> MetricSum {
        find(name, help, labels, kind: .counter) {
            guard case .sum(let sum) = $0 else { return nil }
            return sum
        } make: {
            let sum = MetricSum()
            return (sum, .sum(sum))
        }
    }

    public func gauge(_ name: String, help: String, labels: [MetricLabel] = []) -> MetricGauge {
        find(name, help, labels, kind: .gauge) {
            guard case .gauge(let gauge) = $0 else { return nil }
            return gauge
        } make: {
            let gauge = MetricGauge()
            return (gauge, .gauge(gauge))
        }
    }

    /// - Parameter buckets: upper bounds, see ``MetricBuckets``; the first caller's hold.
    public func histogram(
        _ name: String,
        help: String,
        labels: [MetricLabel] = [],
        buckets: [Double]
    ) -> MetricHistogram {
        find(name, help, labels, kind: .histogram) {
            guard case .histogram(let histogram) = $0 else { return nil }
            return histogram
        } make: {
            let histogram = MetricHistogram(bounds: buckets)
            return (histogram, .histogram(histogram))
        }
    }

    /// A value that is read whenever the metrics are; `nil` leaves the series out. Replaces an earlier one.
    public func read(
        _ name: String,
        help: String,
        kind: MetricKind,
        labels: [MetricLabel] = [],
        _ value: @escaping @Sendable () -> Double?
    ) {
        let name = MetricNames.metric(name)
        let key = MetricNames.exposed(labels)
        state.withLock { state in
            let family = state.families[name, default: Family(help: help, kind: kind)]
            guard family.kind == kind, kind != .histogram else {
                state.conflicts.insert(name)
                return
            }
            state.families[name] = family
            state.families[name]?.series[key] = .read(kind: kind, value)
        }
    }

    /// Takes series away, for example those of an engine that is gone.
    public func remove(_ name: String, labels: [MetricLabel] = []) {
        let name = MetricNames.metric(name)
        let key = MetricNames.exposed(labels)
        state.withLock { state in
            state.families[name]?.series[key] = nil
            if state.families[name]?.series.isEmpty == true { state.families[name] = nil }
        }
    }

    /// Takes all series away that have these labels, whatever others they have, for example those of an engine that is
    /// gone.
    public func removeAll(having labels: [MetricLabel]) {
        state.withLock { state in
            for (name, family) in state.families {
                var family = family
                family.series = family.series.filter { !MetricNames.exposed($0.key, has: labels) }
                state.families[name] = family.series.isEmpty ? nil : family
            }
        }
    }

    private func find<Handle: Sendable>(
        _ name: String,
        _ help: String,
        _ labels: [MetricLabel],
        kind: MetricKind,
        _ handle: (Series) -> Handle?,
        make: () -> (Handle, Series)
    ) -> Handle {
        let name = MetricNames.metric(name)
        let key = MetricNames.exposed(labels)
        return state.withLock { state in
            let family = state.families[name, default: Family(help: help, kind: kind)]
            if let series = family.series[key], let found = handle(series) { return found }
            let (made, series) = make()
            guard family.kind == kind, family.series[key] == nil else {
                state.conflicts.insert(name)
                return made
            }
            state.families[name] = family
            state.families[name]?.series[key] = series
            return made
        }
    }
}

/// Type of a metric, as Prometheus knows it.
public enum MetricKind: String, Sendable {
    case counter, gauge, histogram
}

/// Names as Prometheus accepts them.
enum MetricNames {
    /// A metric's name: what is not a letter, digit, `_` or `:` becomes `_`.
    static func metric(_ name: String) -> String {
        valid(name, colon: true)
    }

    /// Labels in order of their names, `a="x",b="y"`; of two with one name the later holds.
    static func exposed(_ labels: [MetricLabel]) -> String {
        var byName: [String: String] = [:]
        for label in labels { byName[valid(label.name, colon: false)] = label.value }
        return byName.sorted { $0.key < $1.key }
            .map { "\($0.key)=\"\(escaped($0.value))\"" }
            .joined(separator: ",")
    }

    /// Whether labels as they are exposed have others among them. A quote within a value is escaped, so that nothing else
    /// looks like a label.
    static func exposed(_ text: String, has labels: [MetricLabel]) -> Bool {
        labels.allSatisfy { ",\(text),".contains(",\(exposed([$0])),") }
    }

    static func escaped(_ value: String) -> String {
        var text = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    private static func valid(_ name: String, colon: Bool) -> String {
        var text = ""
        for scalar in name.unicodeScalars {
            let isLetter = ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || scalar == "_"
            let isDigit = ("0"..."9").contains(scalar)
            if isLetter || (isDigit && !text.isEmpty) || (colon && scalar == ":") {
                text.unicodeScalars.append(scalar)
            } else {
                text += isDigit ? "_\(scalar)" : "_"
            }
        }
        return text.isEmpty ? "_" : text
    }
}
