// Tandem — Apache-2.0

/// What stands before the measurements of a file: where they are from.
public struct StudyHeader: Sendable, Equatable {
    public enum Kind: String, Sendable, Equatable, CaseIterable {
        case measured
        case simulated
    }

    public var kind: Kind
    /// As it was asked for: `simulated:h100`, `cpu`, `cuda:0`.
    public var device: String
    /// For people: `NVIDIA H100 SXM 80 GB`, `AMD EPYC 9R14, 2 cores`.
    public var deviceTitle: String
    /// The machine that measured or simulated: system, processor, cores, memory.
    public var machine: String
    /// When it began, in UTC: `2026-11-26T21:09:00Z`.
    public var date: String
    /// Of Tandem.
    public var version: String
    /// Of the source, if it is known.
    public var revision: String?
    /// Versions of what else took part: driver, external engines.
    public var versions: [String: String]
    /// Parameters and where they are from, as `name: value`.
    public var parameters: [String: String]
    public var definition: StudyDefinition

    public init(
        kind: Kind, device: String, deviceTitle: String, machine: String, date: String, version: String,
        revision: String? = nil, versions: [String: String] = [:], parameters: [String: String] = [:],
        definition: StudyDefinition
    ) {
        self.kind = kind
        self.device = device
        self.deviceTitle = deviceTitle
        self.machine = machine
        self.date = date
        self.version = version
        self.revision = revision
        self.versions = versions
        self.parameters = parameters
        self.definition = definition
    }
}

/// A count of table T1: what a part of a model takes in a phase, from its description.
public struct StudyCount: Sendable, Equatable {
    public var model: String
    public var context: Int
    /// `MLP`, `attention`, `projections`.
    public var part: String
    /// `prefill`, `decode`.
    public var phase: String
    public var operations: Double
    public var bytes: Double
    /// With which power of the context each grows from here to twice the context.
    public var operationsGrowth: Double
    public var bytesGrowth: Double

    /// Whether both stand in the same place of the table.
    public func isOfCell(of other: StudyCount) -> Bool {
        model == other.model && context == other.context && part == other.part && phase == other.phase
    }

    public init(
        model: String, context: Int, part: String, phase: String, operations: Double, bytes: Double,
        operationsGrowth: Double, bytesGrowth: Double
    ) {
        self.model = model
        self.context = context
        self.part = part
        self.phase = phase
        self.operations = operations
        self.bytes = bytes
        self.operationsGrowth = operationsGrowth
        self.bytesGrowth = bytesGrowth
    }
}

/// A figure's file: a header, and what followed.
public struct StudyResult: Sendable, Equatable {
    public var header: StudyHeader
    public var measurements: [StudyMeasurement]
    public var counts: [StudyCount]

    public init(header: StudyHeader, measurements: [StudyMeasurement] = [], counts: [StudyCount] = []) {
        self.header = header
        self.measurements = measurements
        self.counts = counts
    }
}
