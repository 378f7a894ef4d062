// Tandem — Apache-2.0

import TestSupport
import Testing

@testable import Gateway

@Suite struct StopMatcherTests {
    /// Feeds pieces; returns all that was sent, and which stop string ended it.
    private func run(_ pieces: [String], stops: [String], includes: Bool = false) -> (String, Int?) {
        var matcher = StopMatcher(stops: stops, includesStop: includes)
        var sent = ""
        for piece in pieces {
            let match = matcher.append(piece)
            sent += match.text
            if let stop = match.stop { return (sent, stop) }
        }
        return (sent + matcher.finish(), nil)
    }

    @Test func cutsBeforeTheStopString() {
        #expect(run(["one two three"], stops: [" two"]) == ("one", 0))
        #expect(run(["one two three"], stops: [" two"], includes: true) == ("one two", 0))
        #expect(run(["nothing"], stops: ["x"]) == ("nothing", nil))
    }

    @Test func findsItAcrossPieces() {
        #expect(run(["a", "b", "S", "T", "O", "P", "c"], stops: ["STOP"]) == ("ab", 0))
        #expect(run(["aST", "OST", "OPc"], stops: ["STOP"]) == ("aSTO", 0))
    }

    @Test func neverSendsThePartOfAStopString() {
        var matcher = StopMatcher(stops: ["\n\n", "END"], includesStop: false)
        #expect(matcher.append("text\n") == StopMatcher.Match(text: "text", stop: nil))
        #expect(matcher.append("EN") == StopMatcher.Match(text: "\n", stop: nil))
        #expect(matcher.append("T") == StopMatcher.Match(text: "ENT", stop: nil))
        #expect(matcher.append("\n\nrest") == StopMatcher.Match(text: "", stop: 0))
    }

    @Test func theFirstToEndWinsAndThenTheLongest() {
        #expect(run(["abcd"], stops: ["bcd", "c"]) == ("ab", 1))
        #expect(run(["abcd"], stops: ["c", "abc"]) == ("", 1))
    }

    @Test func charactersStayWhole() {
        #expect(run(["é", "è!"], stops: ["è"]) == ("é", 0))
        // U+00E9 and U+00E8 share their first byte.
        var matcher = StopMatcher(stops: ["è"], includesStop: false)
        #expect(matcher.append("é").text == "é")
    }

    /// Against a search of the whole text.
    @Test func agreesWithASearchOfTheWholeText() {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<2000 {
            func word(_ lengths: ClosedRange<Int>) -> String {
                String(
                    (0..<Int.random(in: lengths, using: &generator)).map { _ in
                        "ab".randomElement(using: &generator) ?? "a"
                    })
            }
            let stops = (0..<Int.random(in: 1...3, using: &generator)).map { _ in word(1...4) }
            let pieces = (0..<Int.random(in: 1...8, using: &generator)).map { _ in word(1...3) }
            let text = pieces.joined()
            var expected: (end: Int, length: Int, stop: Int)?
            for (index, stop) in stops.enumerated() {
                for end in stride(from: stop.count, through: text.count, by: 1)
                where text.prefix(end).hasSuffix(stop) {
                    let better =
                        expected.map { end < $0.end || (end == $0.end && stop.count > $0.length) } ?? true
                    if better { expected = (end, stop.count, index) }
                    break
                }
            }
            let (sent, stop) = run(pieces, stops: stops)
            #expect(sent == expected.map { String(text.prefix($0.end - $0.length)) } ?? text)
            #expect(stop.map { stops[$0] } == expected.map { stops[$0.stop] })
        }
    }

    @Test func whatMayNotEndIsNoMatch() {
        var matcher = StopMatcher(stops: ["aa"], includesStop: false)
        #expect(matcher.append("aaa", mayEnd: false) == StopMatcher.Match(text: "aa", stop: nil))
        #expect(matcher.append("a") == StopMatcher.Match(text: "", stop: 0))
        var other = StopMatcher(stops: ["ab"], includesStop: true)
        #expect(other.append("xab", mayEnd: false) == StopMatcher.Match(text: "xab", stop: nil))
        #expect(other.append("b") == StopMatcher.Match(text: "b", stop: nil))
        #expect(other.finish() == "")
    }
}
