// Tandem — Apache-2.0

import Testing

@testable import StudyReport

@Suite struct AxisTests {
    @Test(arguments: [
        (0.0, 1.0, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-0.22, 0.44, 5, [-0.4, -0.2, 0, 0.2, 0.4, 0.6]),
        (0, 13_000, 4, [0, 5000, 10_000, 15_000]),
    ])
    func linearTicks(low: Double, high: Double, most: Int, expected: [Double]) {
        let projection = Projection(Axis(label: ""), values: [low, high], from: 0, to: 100, most: most)
        #expect(projection.ticks.count == expected.count)
        for (tick, value) in zip(projection.ticks, expected) { #expect(abs(tick - value) < 1e-9 * max(1, abs(value))) }
        #expect(projection.position(projection.low) == 0)
        #expect(projection.position(projection.high) == 100)
    }

    /// A logarithmic axis puts equal ratios at equal distances, and cannot show what is not above zero.
    @Test func logarithms() throws {
        let axis = Axis(label: "", scale: .binaryLogarithmic, format: .tokens)
        let projection = Projection(
            axis, values: [128, 512, 2048, 8192], from: 10, to: 310, most: 8, endsOnTicks: false)
        let places = [128.0, 512, 2048, 8192].compactMap(projection.position)
        #expect(places.map { $0.rounded() } == [10, 110, 210, 310])
        #expect(projection.ticks == [128, 512, 2048, 8192])
        #expect(projection.position(0) == nil)
        #expect(projection.position(-1) == nil)
        let decimal = Projection(
            Axis(label: "", scale: .logarithmic), values: [1.2, 45], from: 0, to: 1, most: 6)
        #expect(decimal.ticks == [2, 5, 10, 20, 50])
    }

    /// Nothing that data can be makes an axis without ends, or with endless ticks.
    @Test(arguments: [Axis.Scale.linear, .binaryLogarithmic, .logarithmic])
    func hostileValues(scale: Axis.Scale) {
        let all: [[Double]] = [
            [], [.nan], [.infinity, -.infinity], [0], [-1, 1], [5, 5], [1e300, -1e300], [1e-300], [1e-14, 1e14],
            [.nan, 3, .infinity],
        ]
        for values in all {
            let projection = Projection(
                Axis(label: "", scale: scale), values: values, from: 0, to: 100, most: 5)
            #expect(projection.low.isFinite && projection.high.isFinite && projection.low < projection.high)
            #expect(projection.ticks.count <= 40)
            for value in values {
                if let place = projection.position(value) { #expect((0...100).contains(place)) }
            }
        }
    }

    @Test func labels() {
        let projection = Projection(Axis(label: ""), values: [0, 15_000], from: 0, to: 1, most: 6)
        #expect(
            projection.ticks.map { projection.label($0, .number) } == [
                "0", "2.5k", "5k", "7.5k", "10k", "12.5k", "15k",
            ])
        let latency = Projection(Axis(label: "", scale: .logarithmic), values: [0.5, 20], from: 0, to: 1, most: 9)
        #expect(latency.ticks.map { latency.label($0, .number) } == ["0.5", "1", "2", "5", "10", "20"])
    }
}

@Suite struct ValueFormatTests {
    @Test(arguments: [
        (0.123, "+12\u{A0}%"), (-0.123, "\u{2212}12\u{A0}%"), (0.0004, "0\u{A0}%"), (-0.0004, "0\u{A0}%"),
        (1, "+100\u{A0}%"),
    ])
    func signedPercent(value: Double, text: String) { #expect(ValueFormat.signedPercent.text(value) == text) }

    @Test(
        arguments: [
            (0, "0"), (1234.4, "1,234"), (12_345, "12.3k"), (0.0123, "0.012"), (5.678, "5.68"), (1e15, "1,000T"),
            (-3.14159, "\u{2212}3.14"), (98_765_432, "98.8M"),
        ] as [(Double, String)])
    func numbers(value: Double, text: String) { #expect(ValueFormat.number.text(value) == text) }

    @Test(
        arguments: [(128, "128"), (1000, "1,000"), (2048, "2k"), (1500, "1,500"), (1_048_576, "1,024k")]
            as [(Double, String)])
    func tokens(value: Double, text: String) { #expect(ValueFormat.tokens.text(value) == text) }

    @Test func whatIsNoNumber() {
        for format in [ValueFormat.number, .percent, .signedPercent, .tokens] {
            #expect(format.text(.nan) == "–")
            #expect(format.text(.infinity) == "–")
            #expect(!format.text(1e300).isEmpty)
            #expect(!format.text(-1e-300).isEmpty)
        }
    }
}

@Suite struct TextTests {
    @Test func wrapping() {
        let lines = TextMeasure.wrapped("Gain in tokens per second over one engine without MPS", size: 12, width: 160)
        #expect(lines.count > 1)
        #expect(lines.joined(separator: " ") == "Gain in tokens per second over one engine without MPS")
        #expect(lines.allSatisfy { TextMeasure.width($0, size: 12) <= 160 })
        let word = String(repeating: "m", count: 60)
        let pieces = TextMeasure.wrapped(word, size: 12, width: 100)
        #expect(pieces.joined() == word)
        #expect(pieces.allSatisfy { TextMeasure.width($0, size: 12) <= 100 })
    }

    @Test func escaping() {
        #expect(MarkupText.escaped("<a href=\"x\">&'\u{0}\u{1B}\n") == "&lt;a href=&quot;x&quot;&gt;&amp;&#39; ")
        #expect(MarkdownText.escaped("a|b*c_d<e>`f`[g]\n") == "a\\|b\\*c\\_d\\<e\\>\\`f\\`\\[g\\] ")
        #expect(MarkdownText.code("a`b|c") == "`` a`b\\|c ``")
    }
}
