// Tandem — Apache-2.0

import Foundation
import JSON
import TestSupport
import Testing

@testable import Gateway

/// Against what SGLang's detectors find in the same texts; see the README beside the fixtures.
@Suite struct ToolCallReferenceTests {
    @Test func callsAreThoseThatSGLangFinds() throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Fixtures/templates/calls.json")
        let cases = try #require(try JSONParser.parse(Array(try Data(contentsOf: path)))["cases"].array)
        #expect(cases.count > 50)
        var random = SeededGenerator(seed: 23)
        for reference in cases {
            let format = try #require(reference["format"].string.flatMap(ToolCallFormat.init))
            let text = try #require(reference["text"].string)
            for round in 0..<10 {
                var pieces = [text]
                if round > 0 {
                    pieces = text.map { String($0) }
                    for index in (1..<pieces.count).reversed() where Int.random(in: 0..<3, using: &random) > 0 {
                        pieces[index - 1] += pieces.remove(at: index)
                    }
                }
                let parsed = ToolCallParserTests.parse(pieces, format)
                let calls = try parsed.calls.map { call in
                    (name: call[0], arguments: try JSONParser.parse(Array(call[1].utf8)))
                }
                let expected = try #require(reference["calls"].array)
                #expect(calls.map(\.name) == expected.map { $0["name"].string ?? "" }, "\(text)")
                #expect(calls.map(\.arguments) == expected.map { $0["arguments"] }, "\(text)")
                // White space before calls is dropped here.
                let content = parsed.content.trimmingCharacters(in: .whitespacesAndNewlines)
                #expect(
                    content == reference["content"].string?.trimmingCharacters(in: .whitespacesAndNewlines), "\(text)")
            }
        }
    }
}
