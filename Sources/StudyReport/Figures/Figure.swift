// Tandem — Apache-2.0

/// A figure as a value: what it shows, not how it looks. ``svg(width:style:)`` draws it, ``vegaLite()`` hands it on.
public struct Figure: Sendable, Equatable {
    /// What is drawn.
    public enum Content: Sendable, Equatable {
        /// Lines, or points that stand alone.
        case lines(LineChart)
        case bars(BarChart)
        case heatMap(HeatMap)
    }

    /// The name of its files: letters, digits and hyphens.
    public var identifier: String
    public var title: String
    /// What is on the axes and under which conditions, in a sentence.
    public var caption: String
    /// Where the numbers come from; several, if a figure puts them side by side.
    public var provenances: [Provenance]
    public var content: Content

    public init(identifier: String, title: String, caption: String, provenances: [Provenance], content: Content) {
        self.identifier = identifier
        self.title = title
        self.caption = caption
        self.provenances = provenances
        self.content = content
    }
}

/// Where numbers come from.
public struct Provenance: Sendable, Equatable, Hashable {
    public enum Kind: String, Sendable, Equatable, Hashable, CaseIterable {
        case measured
        case simulated
        /// Counted from a model's description, without a device.
        case derived
    }

    public var kind: Kind
    /// The device that was measured or simulated; empty if there is none.
    public var device: String
    /// The day, as `2026-11-26`.
    public var date: String

    public init(kind: Kind, device: String, date: String) {
        self.kind = kind
        self.device = device
        self.date = date
    }

    /// `SIMULATED`, and so on.
    public var mark: String { kind.rawValue.uppercased() }

    /// The device and the day.
    public var place: String { [device, date].filter { !$0.isEmpty }.joined(separator: ", ") }
}

/// One chart or several with the same axes.
public struct LineChart: Sendable, Equatable {
    /// How intervals are drawn.
    public enum Spread: Sendable, Equatable {
        case bars
        case band
    }

    public struct Panel: Sendable, Equatable {
        /// Empty for none.
        public var title: String
        public var series: [Series]

        public init(title: String = "", series: [Series]) {
            self.title = title
            self.series = series
        }
    }

    /// A line across the chart with its name.
    public struct Reference: Sendable, Equatable {
        public enum Position: Sendable, Equatable {
            case horizontal(Double)
            case vertical(Double)
            /// Where both coordinates are equal.
            case diagonal
        }

        public var position: Position
        public var label: String

        public init(_ position: Position, label: String) {
            self.position = position
            self.label = label
        }
    }

    public var x: Axis
    public var y: Axis
    public var panels: [Panel]
    public var references: [Reference]
    public var spread: Spread
    /// Whether the points of a series are joined, in their order.
    public var isJoined: Bool

    public init(
        x: Axis, y: Axis, panels: [Panel], references: [Reference] = [], spread: Spread = .bars, isJoined: Bool = true
    ) {
        self.x = x
        self.y = y
        self.panels = panels
        self.references = references
        self.spread = spread
        self.isJoined = isJoined
    }
}

/// Points of one kind.
public struct Series: Sendable, Equatable {
    public var name: String
    /// Colour and shape, 0 and up; those beyond ``Palette/count`` begin anew.
    public var slot: Int
    /// Drawn as a broken line.
    public var isBroken: Bool
    public var points: [Point]

    public init(name: String, slot: Int, isBroken: Bool = false, points: [Point]) {
        self.name = name
        self.slot = slot
        self.isBroken = isBroken
        self.points = points
    }
}

/// A value with its interval.
public struct Point: Sendable, Equatable {
    public var x: Double
    /// Null for a cell without a result: the line has a gap there.
    public var y: Double?
    public var interval: ClosedRange<Double>?
    /// Shown with the values when the pointer rests on the point.
    public var note: String

    public init(x: Double, y: Double?, interval: ClosedRange<Double>? = nil, note: String = "") {
        self.x = x
        self.y = y
        self.interval = interval
        self.note = note
    }
}

/// Groups of horizontal bars.
public struct BarChart: Sendable, Equatable {
    public struct Bar: Sendable, Equatable {
        /// Null for a cell without a result.
        public var value: Double?
        public var interval: ClosedRange<Double>?
        public var note: String

        public init(value: Double?, interval: ClosedRange<Double>? = nil, note: String = "") {
            self.value = value
            self.interval = interval
            self.note = note
        }
    }

    public struct Series: Sendable, Equatable {
        public var name: String
        public var slot: Int

        public init(name: String, slot: Int) {
            self.name = name
            self.slot = slot
        }
    }

    /// Bars beneath one name, one for each series.
    public struct Group: Sendable, Equatable {
        public var name: String
        public var bars: [Bar]

        public init(name: String, bars: [Bar]) {
            self.name = name
            self.bars = bars
        }
    }

    public struct Panel: Sendable, Equatable {
        public var title: String
        public var groups: [Group]

        public init(title: String = "", groups: [Group]) {
            self.title = title
            self.groups = groups
        }
    }

    /// The axis of the values; always linear and with zero.
    public var value: Axis
    public var series: [Series]
    public var panels: [Panel]

    public init(value: Axis, series: [Series], panels: [Panel]) {
        self.value = value
        self.series = series
        self.panels = panels
    }
}

/// Numbers in cells, coloured by how far they are from zero.
public struct HeatMap: Sendable, Equatable {
    public struct Cell: Sendable, Equatable {
        /// Null for a cell without a result.
        public var value: Double?
        /// A second, smaller line; left out where it does not fit.
        public var detail: String
        public var note: String

        public init(value: Double?, detail: String = "", note: String = "") {
            self.value = value
            self.detail = detail
            self.note = note
        }
    }

    public struct Panel: Sendable, Equatable {
        public var title: String
        /// Rows of cells, each as long as there are columns.
        public var cells: [[Cell]]

        public init(title: String = "", cells: [[Cell]]) {
            self.title = title
            self.cells = cells
        }
    }

    /// A value whose crossing is drawn as a line between cells.
    public struct Threshold: Sendable, Equatable {
        public var value: Double
        public var label: String

        public init(_ value: Double, label: String) {
            self.value = value
            self.label = label
        }
    }

    public var columnLabel: String
    public var columns: [String]
    public var rows: [String]
    public var valueLabel: String
    public var format: ValueFormat
    public var panels: [Panel]
    /// At most two; the first is drawn solid, the second broken.
    public var thresholds: [Threshold]
    /// The value at which the colour is strongest, at least; null for the largest that is shown.
    public var fullScale: Double?

    public init(
        columnLabel: String, columns: [String], rows: [String], valueLabel: String, format: ValueFormat,
        panels: [Panel], thresholds: [Threshold] = [], fullScale: Double? = nil
    ) {
        self.columnLabel = columnLabel
        self.columns = columns
        self.rows = rows
        self.valueLabel = valueLabel
        self.format = format
        self.panels = panels
        self.thresholds = thresholds
        self.fullScale = fullScale
    }
}
