// Tandem — Apache-2.0

import JSON
import Requests
import TestSupport
import Testing

@testable import Gateway

/// What holds of a response's items however the text comes.
@Suite struct ResponsesItemTests {
    /// Pieces as a parser of calls makes them: more of a call only while it is the last thing that came.
    private static func pieces(using random: inout SeededGenerator) -> [ChoicePiece] {
        var pieces: [ChoicePiece] = []
        var calls = 0
        var isInCall = false
        for _ in 0..<Int.random(in: 0...12, using: &random) {
            var piece = ChoicePiece()
            if Bool.random(using: &random) {
                piece.logProbabilities = LogProbabilityText(
                    entries: [.known(MemoryEngine.position(97, top: 0))], textOffset: 0)
            }
            if isInCall, Bool.random(using: &random) {
                piece.calls.append(ToolCallDelta(index: calls - 1, id: nil, name: nil, arguments: "1"))
            }
            if Int.random(in: 0..<3, using: &random) == 0 {
                piece.text = "t"
                isInCall = false
            }
            for _ in 0..<max(0, Int.random(in: -3...2, using: &random)) {
                piece.calls.append(
                    ToolCallDelta(index: calls, id: "id\(calls)", name: "f", arguments: calls % 2 == 0 ? "1" : ""))
                calls += 1
                isInCall = true
            }
            pieces.append(piece)
        }
        pieces.append(ChoicePiece(finish: ChoiceFinish(reason: Bool.random(using: &random) ? "stop" : "length")))
        return pieces
    }

    @Test func itemsOpenGrowAndCloseInTurn() {
        var random = SeededGenerator(seed: 11)
        for _ in 0..<2000 {
            let pieces = Self.pieces(using: &random)
            var answer = ResponsesAnswer()
            var open: Int?
            var closed = 0
            var shown: [String] = []
            var entries: [Int] = []
            for piece in pieces {
                for event in answer.add(piece) {
                    switch event {
                    case .opened(let index):
                        #expect(open == nil && index == closed)
                        open = index
                        shown.append("")
                        entries.append(0)
                    case .text(let index, let text, let logProbabilities):
                        #expect(index == open)
                        shown[index] += text
                        entries[index] += logProbabilities.entries.count
                    case .arguments(let index, let text):
                        #expect(index == open && !text.isEmpty)
                        shown[index] += text
                    case .closed(let index):
                        #expect(index == open)
                        open = nil
                        closed += 1
                    }
                }
            }
            #expect(open == nil && closed == answer.items.count && closed > 0)
            for (index, item) in answer.items.enumerated() {
                switch item.content {
                case .message(let text, let logProbabilities):
                    #expect(text == shown[index] && logProbabilities.entries.count == entries[index])
                    #expect(item.status == (answer.isCut && index == closed - 1 ? .incomplete : .completed))
                case .call(_, _, let arguments):
                    #expect(arguments == shown[index])
                    #expect(item.status == (arguments.isEmpty ? .incomplete : .completed))
                }
            }
            let texts = pieces.map(\.text).joined()
            let messages = answer.items.map { item in
                if case .message(let text, _) = item.content { text } else { "" }
            }
            #expect(messages.joined() == texts)
            let calls = pieces.flatMap(\.calls)
            let names = answer.items.compactMap { item in
                if case .call(let id, _, _) = item.content { id } else { nil }
            }
            #expect(names == calls.compactMap(\.id))
        }
    }

    @Test func afterTheEndNothingCounts() {
        var answer = ResponsesAnswer()
        let end = ChoicePiece(finish: ChoiceFinish(reason: "stop"))
        #expect(answer.add(end).count == 2)
        #expect(answer.add(end).isEmpty)
        #expect(answer.items.count == 1)
    }

    /// A client's id may hold anything that a header may.
    @Test func idsAreEscaped() async throws {
        try await MemoryBench.run([MemoryEngine(text: "a")]) { bench in
            let answer = try await bench.client.post(
                "/v1/responses", #"{"input":"a"}"#, headers: "X-Request-Id: a\"b\\\r\n")
            #expect(answer.json["id"].string == #"resp_a"b\"#)
            #expect(answer.json["output"][0]["id"].string == #"msg_a"b\_0"#)
        }
    }
}
