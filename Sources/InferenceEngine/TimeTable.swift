// Tandem — Apache-2.0

extension StepProfile {
    /// The profile as a table of plain text, with each part's share.
    public var table: String {
        TimeTable.text(
            "in steps", [("attention", attention), ("mlp", mlp), ("rest", rest)], steps: steps)
    }
}

extension StepTimes {
    /// The step thread's work as a table of plain text, with each phase's share.
    public func table(steps: UInt64) -> String {
        TimeTable.text(
            "on the host", StepPhase.allCases.filter(\.isHostWork).map { ("\($0)", self[$0]) }, steps: steps)
    }
}

/// Times in columns.
private enum TimeTable {
    static func text(_ title: String, _ rows: [(String, UInt64)], steps: UInt64) -> String {
        let total = rows.reduce(0) { $0 &+ $1.1 }
        func line(_ cells: [String]) -> String {
            let widths = [12, 12, 12, 9]
            return zip(cells, widths).enumerated().map { index, cell in
                let space = String(repeating: " ", count: max(0, cell.1 - cell.0.count))
                return index == 0 ? cell.0 + space : space + cell.0
            }.joined() + "\n"
        }
        func row(_ name: String, _ nanoseconds: UInt64) -> String {
            let share = total == 0 ? 0 : Double(nanoseconds) / Double(total) * 100
            return line([
                name, decimal(Double(nanoseconds) / 1e6) + " ms",
                decimal(steps == 0 ? 0 : Double(nanoseconds) / Double(steps) / 1e3) + " us",
                decimal(share) + " %",
            ])
        }
        return line([title, "time", "a step", "share"]) + rows.map(row).joined() + row("sum", total)
    }

    /// A number that is not negative, to a tenth.
    private static func decimal(_ value: Double) -> String {
        guard value.isFinite, value < 1e15 else { return "-" }
        let tenths = UInt64((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
