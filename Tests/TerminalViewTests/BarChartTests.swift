// Tandem — Apache-2.0

import Testing

@testable import TerminalView

@Suite struct BarChartTests {
    private let chart = BarChart(rows: [
        .init(label: "one", value: 50, note: "50"), .init(label: "three", value: 100, note: "100  +100 %"),
        .init(label: "none", value: 0, note: "0"), .init(label: "less", value: -3, note: "-3"),
    ])

    @Test func plain() {
        let lines = chart.lines(columns: 40, indent: 2, glyphs: .ascii).map(\.text)
        #expect(
            lines == [
                "  one    #########           50", "  three  ##################  100  +100 %",
                "  none                       0", "  less                       -3",
            ])
    }

    @Test func blocks() {
        let lines = chart.lines(columns: 40, indent: 2, glyphs: .unicode)
        #expect(lines[1].text == "  three  ██████████████████  100  +100 %")
        #expect(lines[0].coloured.contains("\u{1B}[36m█████████\u{1B}[0m"))
    }

    @Test func narrow() {
        for columns in [0, 1, 10, 20] {
            #expect(chart.lines(columns: columns, glyphs: .ascii).allSatisfy { $0.width <= columns })
        }
        #expect(BarChart(rows: []).lines(columns: 80, glyphs: .ascii).isEmpty)
    }
}
