// Tandem — Apache-2.0

import Testing

@testable import LoadGenerator

@Suite struct AnswerTests {
    private func events(_ text: String, pieces: Int) -> [String] {
        var reader = EventStreamReader()
        var events: [String] = []
        let bytes = Array(text.utf8)
        var start = 0
        while start < bytes.count {
            let end = min(bytes.count, start + pieces)
            reader.append(bytes[start..<end])
            while let event = reader.next() { events.append(String(decoding: event, as: UTF8.self)) }
            start = end
        }
        return events
    }

    @Test(arguments: 1...30)
    func eventsComeInAnyPieces(pieces: Int) {
        let text = ": hello\n\ndata: one\n\ndata:two\r\n\r\nevent: x\nid: 3\ndata: three\ndata: more\n\n\ndata: half"
        #expect(events(text, pieces: pieces) == ["one", "two", "three\nmore"])
    }

    private func read(_ texts: [String]) -> (events: [AnswerReader.Event], reader: AnswerReader) {
        var reader = AnswerReader()
        return (texts.map { reader.read(Array($0.utf8)) }, reader)
    }

    @Test func completionsAreUnderstood() {
        let (events, reader) = read([
            #"{"id":"1","choices":[{"index":0,"text":"","finish_reason":null}]}"#,
            #"{"id":"1","choices":[{"index":0,"text":"a","finish_reason":null}]}"#,
            #"{"id":"1","choices":[{"index":0,"text":"\"b\\","finish_reason":null}]}"#,
            #"{"id":"1","choices":[{"index":0,"text":"","finish_reason":null}]}"#,
            #"{"id":"1","choices":[{"index":0,"text":"c","finish_reason":"length"}]}"#,
            #"{"id":"1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}"#,
            "[DONE]",
        ])
        #expect(events == [.other, .text, .text, .other, .text, .other, .done])
        #expect(reader.hasFinish && reader.promptTokens == 5 && reader.completionTokens == 3)
    }

    @Test func chatsAreUnderstood() {
        let (events, reader) = read([
            #"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            #"{"choices":[{"delta":{"content":"a"}}]}"#, #"{"choices":[{"delta":{"content":"bc"}}]}"#,
            #"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
            #"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
            #"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        ])
        #expect(events == [.other, .text, .text, .text, .text, .other])
        #expect(reader.hasFinish && reader.completionTokens == nil)
    }

    @Test func usageOfEveryEventIsRead() {
        let (_, reader) = read(
            [1, 2, 3].map { count in
                #"{"choices":[{"text":"a"}],"usage":{"prompt_tokens":5,"completion_tokens":\#(count)}}"#
            })
        #expect(reader.completionTokens == 3)
    }

    @Test func errorsAreHeard() {
        #expect(read([#"{"error":{"message":"no"}}"#]).events == [.error("no")])
        #expect(read([#"{"error":"plain"}"#]).events == [.error("plain")])
        #expect(read(["nonsense"]).events == [.error("an event is no JSON object")])
        // What looks like the event before must be it to the end.
        let similar = [#"{"choices":[{"text":"a"}]}"#, #"{"choices":[{"text":"a"}],"error":{"message":"no"}}"#]
        #expect(read(similar).events == [.text, .error("no")])
    }
}
