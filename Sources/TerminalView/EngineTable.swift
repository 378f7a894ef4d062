// Tandem — Apache-2.0

/// A row an engine, with as many columns as there is room for.
struct EngineTable {
    let view: TopView

    private struct Column {
        var title: String
        var width: Int
        /// The last to go has the lowest.
        var rank: Int
        var isRight = true
        var cell: (EnginesSnapshot.Engine) -> StyledLine
    }

    /// The heading and a line an engine.
    func lines(_ model: TopModel, _ snapshot: EnginesSnapshot) -> [StyledLine] {
        var columns = self.columns(model, snapshot)
        while columns.count > 2, Self.width(columns) > view.columns,
            let last = columns.indices.max(by: { columns[$0].rank < columns[$1].rank })
        {
            columns.remove(at: last)
        }
        // Bars and the reason take what is left.
        var spare = max(0, view.columns - Self.width(columns))
        for index in columns.indices where columns[index].title == "run" || columns[index].title == "kv" {
            let more = min(spare / 3, 12)
            columns[index].width += more
            spare -= more
        }
        if let last = columns.indices.last, columns[last].title == "last end" { columns[last].width += spare }
        var heading = StyledLine()
        for (index, column) in columns.enumerated() {
            let title = column.title.uppercased()
            if column.isRight { heading.pad(to: heading.width + column.width - title.count) }
            let end = heading.width + (column.isRight ? title.count : column.width)
            heading.add(title, .faint)
            if index < columns.count - 1 { heading.pad(to: end + 2) }
        }
        return [heading]
            + snapshot.engines.map { engine in
                var line = StyledLine()
                for (index, column) in columns.enumerated() {
                    let cell = content(of: column, engine).cut(to: column.width, mark: view.glyphs.ellipsis)
                    let end = line.width + column.width
                    if column.isRight { line.pad(to: end - cell.width) }
                    line.add(cell)
                    if index < columns.count - 1 { line.pad(to: end + 2) }
                }
                return line
            }
    }

    private static func width(_ columns: [Column]) -> Int {
        columns.reduce(0) { $0 + $1.width } + 2 * max(0, columns.count - 1)
    }

    private func content(of column: Column, _ engine: EnginesSnapshot.Engine) -> StyledLine {
        switch column.title {
        case "run": runBar(engine, width: column.width)
        case "kv": cacheBar(engine, width: column.width)
        default: column.cell(engine)
        }
    }

    private func columns(_ model: TopModel, _ snapshot: EnginesSnapshot) -> [Column] {
        let total = snapshot.engines.reduce(0.0) { $0 + (model.rates(of: $1)?.generated ?? 0) }
        let dash = StyledLine(view.glyphs.dash, .faint)
        func number(_ value: Double?) -> StyledLine { value.map { StyledLine(Shown.number($0)) } ?? dash }
        var columns = [
            Column(title: "#", width: 2, rank: 0) { StyledLine("\($0.index)", .strong) },
            Column(title: "state", width: 10, rank: 1, isRight: false) { engine in
                let style: TextStyle =
                    switch engine.state {
                    case "ready": engine.isServing ? .good : .warning
                    case "failed": .bad
                    default: .warning
                    }
                let isReached = engine.isServing || engine.state != "ready"
                return StyledLine(isReached ? Shown.foreign(engine.state) : "unreached", style)
            },
            Column(title: "pid", width: 7, rank: 5) { $0.pid == 0 ? dash : StyledLine("\($0.pid)") },
            Column(title: "run", width: 8, rank: 3, isRight: false) { _ in StyledLine() },
            Column(title: "wait", width: 4, rank: 4) { engine in
                engine.waiting.map { StyledLine("\($0)", $0 > 0 ? .warning : .plain) } ?? dash
            },
            Column(title: "kv", width: 9, rank: 6, isRight: false) { _ in StyledLine() },
            Column(title: "tok/s", width: 6, rank: 2) { number(model.rates(of: $0)?.generated) },
            Column(title: "share", width: 5, rank: 7) { engine in
                guard total > 0, let rates = model.rates(of: engine) else { return dash }
                return StyledLine(Shown.percent(rates.generated / total))
            },
            Column(title: "steps/s", width: 7, rank: 10) { number(model.rates(of: $0)?.steps) },
            Column(title: "prefix", width: 6, rank: 9) { engine in
                guard engine.promptTokens > 0 else { return dash }
                return StyledLine(Shown.percent(Double(engine.cachedPromptTokens) / Double(engine.promptTokens)))
            },
            Column(title: "restarts", width: 8, rank: 8) {
                StyledLine("\($0.restarts)", $0.restarts > 0 ? .warning : .plain)
            },
            Column(title: "last end", width: 12, rank: 11, isRight: false) {
                StyledLine(Shown.foreign($0.reason), .faint)
            },
        ]
        if snapshot.models.count > 1 {
            let widest = snapshot.models.map(\.count).max() ?? 0
            columns.insert(
                Column(title: "model", width: min(20, max(5, widest)), rank: 5, isRight: false) {
                    StyledLine(Shown.foreign($0.model))
                }, at: 1)
        }
        return columns
    }

    /// A bar of what runs among what may, and the number.
    private func runBar(_ engine: EnginesSnapshot.Engine, width: Int) -> StyledLine {
        guard let running = engine.running else { return StyledLine(view.glyphs.dash, .faint) }
        let share = engine.maximumSequences.map { Double(running) / Double(max(1, $0)) } ?? 0
        return bar(share, text: "\(running)", textWidth: 3, width: width)
    }

    private func cacheBar(_ engine: EnginesSnapshot.Engine, width: Int) -> StyledLine {
        guard let used = engine.usedBlocks, let total = engine.totalBlocks, total > 0 else {
            return StyledLine(view.glyphs.dash, .faint)
        }
        let share = Double(used) / Double(total)
        return bar(share, text: Shown.percent(share), textWidth: 4, width: width)
    }

    private func bar(_ share: Double, text: String, textWidth: Int, width: Int) -> StyledLine {
        let (filled, rest) = view.glyphs.bar(share, width: max(0, width - textWidth - 1))
        var line = StyledLine(filled, share > 0.9 ? .bad : share > 0.7 ? .warning : .good)
        line.add(rest, .faint)
        line.pad(to: line.width + 1 + max(0, textWidth - text.count))
        line.add(text)
        return line
    }
}
