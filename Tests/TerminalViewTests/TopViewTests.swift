// Tandem — Apache-2.0

import Testing

@testable import TerminalView

@Suite struct TopViewTests {
    private func model(state: String = "ready", events: String = death) throws -> TopModel {
        var model = TopModel(endpoint: "http://127.0.0.1:8000")
        for second in 0...12 {
            let generated = second * (second < 6 ? 50 : 100)
            model.received(
                try snapshot(
                    uptime: 50 + Double(second), generated: generated, state: state, events: events,
                    counts: [second, second, 0]),
                at: Double(second))
        }
        return model
    }

    private func text(_ view: TopView, _ model: TopModel) -> String {
        view.lines(of: model, at: 12).map { line in
            var text = line.text
            while text.last == " " { text.removeLast() }
            return text
        }.joined(separator: "\n")
    }

    @Test func wide() throws {
        let view = TopView(columns: 110, rows: 18)
        let shown = try text(view, model(state: "restarting"))
        #expect(
            shown == """
                Tandem 1.2.3  http://127.0.0.1:8000  toy
                1 of 2 engines serve   up 1 min 2 s

                requests 5 in hand  0 queued   12 done  0 failed  1 left  3 moved  2 retried
                tok/s out  100                    ▂▂▂▂▂█▃▃▃▃▃▃         tok/s in   200                    ▂▂▂▂▂█▃▃▃▃▃▃
                ttft     p50 10 ms    p99 98 ms                        itl      p50 10 ms    p99 98 ms

                 #  STATE           PID  RUN        WAIT  KV           TOK/S  SHARE  STEPS/S  PREFIX  RESTARTS  LAST END
                 0  ready           100  ██░░░   3     0  ████░  75%     100   100%      100     25%         0
                 1  restarting        –  –             –  –                0     0%        0       –         4  was killed by…

                EVENTS
                      4 s ago  engine 1 serves
                     12 s ago  of engine 1's sequences 2 went on elsewhere, 1 began again elsewhere
                     12 s ago  engine 1 was killed by SIGKILL


                q quit   p pause   h help
                """)
    }

    @Test func theSizeOfOldTerminals() throws {
        let view = TopView(columns: 80, rows: 24)
        let shown = try text(view, model())
        #expect(
            shown == """
                Tandem 1.2.3  http://127.0.0.1:8000  toy
                2 of 2 engines serve   up 1 min 2 s

                requests 5 in hand  0 queued   12 done  0 failed  1 left  3 moved  2 retried
                tok/s out  100     ▂▂▂▂▂█▃▃▃▃▃▃         tok/s in   200     ▂▂▂▂▂█▃▃▃▃▃▃
                ttft     p50 10 ms    p99 98 ms         itl      p50 10 ms    p99 98 ms

                 #  STATE           PID  RUN        WAIT  KV           TOK/S  SHARE  RESTARTS
                 0  ready           100  ██░░░   3     0  ████░  75%     100   100%         0
                 1  ready             –  –             –  –                0     0%         4

                EVENTS
                      4 s ago  engine 1 serves
                     12 s ago  of engine 1's sequences 2 went on elsewhere, 1 began again elsew…
                     12 s ago  engine 1 was killed by SIGKILL








                q quit   p pause   h help
                """)
    }

    @Test func asciiOnly() throws {
        let view = TopView(columns: 80, rows: 24, glyphs: .ascii, isLive: false)
        let shown = try text(view, model(state: "failed"))
        #expect(
            shown == """
                Tandem 1.2.3  http://127.0.0.1:8000  toy
                1 of 2 engines serve   up 1 min 2 s

                requests 5 in hand  0 queued   12 done  0 failed  1 left  3 moved  2 retried
                tok/s out  100     .....#::::::         tok/s in   200     .....#::::::
                ttft     p50 10 ms    p99 98 ms         itl      p50 10 ms    p99 98 ms

                 #  STATE           PID  RUN        WAIT  KV           TOK/S  SHARE  RESTARTS
                 0  ready           100  ##...   3     0  ####.  75%     100   100%         0
                 1  failed            -  -             -  -                0     0%         4

                EVENTS
                      4 s ago  engine 1 serves
                     12 s ago  of engine 1's sequences 2 went on elsewhere, 1 began again elsew~
                     12 s ago  engine 1 was killed by SIGKILL
                """)
        #expect(shown.utf8.allSatisfy { $0 == 0x0A || (0x20...0x7E).contains($0) })
    }

    /// No size makes it trap, and nothing is wider or higher than the terminal.
    @Test func everySizeIsKept() throws {
        let events = (0..<40).map {
            #"{"id": \#($0), "uptime_seconds": \#($0), "kind": "engine_ready", "engine": 0, "model": "toy"}"#
        }.joined(separator: ",")
        for model in [try model(), try model(events: events), TopModel(endpoint: "e")] {
            for columns in [1, 2, 3, 5, 8, 13, 20, 21, 34, 40, 55, 75, 76, 80, 89, 120, 200, 400] {
                for rows in [1, 2, 3, 4, 5, 8, 10, 12, 13, 24, 50] {
                    let lines = TopView(columns: columns, rows: rows).lines(of: model, at: 20)
                    #expect(lines.count == rows)
                    #expect(lines.allSatisfy { $0.width <= columns && $0.text.count == $0.width })
                }
            }
        }
    }

    @Test func manyEnginesLeaveRoomForEvents() throws {
        var answer = try snapshot(uptime: 60, events: death)
        answer.engines = (0..<40).map { index in
            var engine = answer.engines[0]
            engine.index = index
            return engine
        }
        var model = TopModel(endpoint: "e")
        model.received(answer, at: 0)
        let text = text(TopView(columns: 80, rows: 24), model)
        #expect(text.contains("more") && text.contains("EVENTS") && text.contains("engine 1 serves"))
    }

    @Test func severalModelsAreTold() throws {
        var answer = try snapshot(uptime: 60, events: death)
        answer.engines[1].model = "coder"
        var model = TopModel(endpoint: "e")
        model.received(answer, at: 0)
        let text = text(TopView(columns: 120, rows: 24), model)
        #expect(text.contains("toy, coder") && text.contains("MODEL"))
        #expect(text.contains("engine 1 of toy was killed by SIGKILL"))
    }

    @Test func aServerThatIsGoneIsSaid() throws {
        var model = try model()
        model.failed("Connection refused", at: 12)
        model.failed("Connection refused", at: 13)
        var text = TopView(columns: 80, rows: 24).lines(of: model, at: 20).map(\.text)
        #expect(text[1].hasPrefix("does not answer for 8 s"))
        #expect(text[2].hasPrefix("Connection refused; trying again"))
        // What was known is still there.
        #expect(text.contains { $0.hasPrefix("requests 5 in hand") })
        model.received(try snapshot(uptime: 63), at: 14)
        text = TopView(columns: 80, rows: 24).lines(of: model, at: 20).map(\.text)
        #expect(text[1].hasPrefix("2 of 2 engines serve"))
    }

    @Test func keysShowInTheLastLine() throws {
        var model = try model()
        let view = TopView(columns: 80, rows: 24)
        #expect(view.lines(of: model, at: 12).last?.text.hasPrefix("q quit   p pause   h help") == true)
        model.isPaused = true
        #expect(view.lines(of: model, at: 12).last?.text.hasSuffix("paused") == true)
        model.showsHelp = true
        #expect(text(view, model).contains("prompt tokens found in the prefix cache"))
    }

    @Test func foreignTextCommandsNoTerminal() throws {
        var answer = try snapshot(uptime: 60, events: death)
        answer.engines[1].reason = "\u{1B}[2J\n\u{7}宽🙂ok"
        answer.engines[0].model = "\u{9B}1m"
        answer.version = "\r\n1"
        var model = TopModel(endpoint: "e")
        model.received(answer, at: 0)
        let lines = TopView(columns: 200, rows: 24).lines(of: model, at: 0)
        let known = TerminalGlyphs.unicode
        for scalar in lines.map(\.text).joined().unicodeScalars {
            let isOurs = (known.spark + [known.full, known.empty, "▌", "–"]).contains(Character(scalar))
            #expect(isOurs || (0x20...0x7E).contains(scalar.value), "\(scalar.value)")
        }
        #expect(lines.contains { $0.text.contains("?[2J????ok") })
    }

    @Test func coloursWrapTextAndChangeNoWidth() throws {
        let line = StyledLine("a", .bad)
        #expect(line.coloured == "\u{1B}[1;31ma\u{1B}[0m" && line.text == "a" && line.width == 1)
        let view = TopView(columns: 80, rows: 24)
        for line in view.lines(of: try model(), at: 12) {
            var plain = line.coloured
            for code in ["1", "2", "32", "33", "1;31", "36", "0"] {
                plain = plain.split(separator: "\u{1B}[\(code)m", omittingEmptySubsequences: false).joined()
            }
            #expect(plain == line.text)
        }
    }
}

@Suite struct TerminalTextTests {
    @Test func numbers() {
        let shown: [(Double, String)] = [
            (0, "0"), (0.04, "0"), (0.25, "0.3"), (9.94, "9.9"), (9.96, "10"), (999.6, "1000"), (9999, "9999"),
            (12_345, "12.3k"), (1_234_567, "1.2M"),
        ]
        for (value, text) in shown { #expect(Shown.number(value) == text) }
        let times: [(Double, String)] = [
            (0.0004, "0.4 ms"), (0.0123, "12 ms"), (0.9996, "1.0 s"), (2.34, "2.3 s"), (75, "75 s"),
        ]
        for (value, text) in times { #expect(Shown.seconds(value) == text) }
        let spans: [(Double, String)] = [
            (-3, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3 * 3600 + 60, "3 h 1 min"), (200_000, "2 d 7 h"),
        ]
        for (value, text) in spans { #expect(Shown.span(value) == text) }
    }

    @Test func sparklines() {
        #expect(TerminalGlyphs.unicode.sparkline([0, 1, 2, 7], width: 6) == "  ▁▂▃█")
        #expect(TerminalGlyphs.unicode.sparkline([5, 0, 7], width: 2) == "▁█")
        #expect(TerminalGlyphs.ascii.sparkline([0, 0], width: 2) == "__")
        #expect(TerminalGlyphs.ascii.sparkline([1], width: 0) == "")
    }

    @Test func bars() {
        func bar(_ glyphs: TerminalGlyphs, _ share: Double, _ width: Int) -> String {
            let (filled, rest) = glyphs.bar(share, width: width)
            return filled + rest
        }
        #expect(bar(.unicode, 0, 4) == "░░░░")
        #expect(bar(.unicode, 0.01, 4) == "▌░░░")
        #expect(bar(.unicode, 0.5, 4) == "██░░")
        #expect(bar(.unicode, 2, 4) == "████")
        #expect(bar(.ascii, 0.01, 4) == "#...")
        #expect(bar(.ascii, 0.4, 5) == "##...")
        #expect(bar(.unicode, 0.5, 0) == "")
    }

    @Test func theLocaleDecidesTheCharacters() {
        #expect(TerminalGlyphs.of(environment: ["LANG": "en_US.UTF-8"]) == .unicode)
        #expect(TerminalGlyphs.of(environment: ["LANG": "de_DE.utf8", "LC_ALL": ""]) == .unicode)
        #expect(TerminalGlyphs.of(environment: ["LANG": "en_US.UTF-8", "LC_ALL": "C"]) == .ascii)
        #expect(TerminalGlyphs.of(environment: [:]) == .ascii)
    }
}
