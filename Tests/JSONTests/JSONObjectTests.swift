// Tandem — Apache-2.0

import JSON
import Testing

@Suite struct JSONObjectTests {
    @Test(arguments: [3, 40]) func membersAreSetReplacedAndRemoved(count: Int) {
        var object = JSONObject()
        for index in 0..<count { object["k\(index)"] = .integer(Int64(index)) }
        #expect(object.count == count)
        object["k1"] = .string("new")
        #expect(object["k1"] == .string("new"))
        #expect(object.entries.map(\.key) == (0..<count).map { "k\($0)" })
        object["k0"] = nil
        object["nothing"] = nil
        #expect(object["k0"] == nil)
        #expect(object.count == count - 1)
        #expect(object["k\(count - 1)"] == .integer(Int64(count - 1)))
        object["k0"] = .null
        #expect(object.entries.last?.key == "k0")
        #expect(object["k0"] == .null)
    }

    @Test func equalityIgnoresOrder() throws {
        let first = try JSONParser.parse(#"{"a":1,"b":[{"x":1,"y":2}]}"#.utf8)
        #expect(try first == JSONParser.parse(#"{"b":[{"y":2,"x":1}],"a":1}"#.utf8))
        #expect(try first != JSONParser.parse(#"{"b":[{"y":2,"x":2}],"a":1}"#.utf8))
        #expect(try first != JSONParser.parse(#"{"a":1}"#.utf8))
        #expect(try first != JSONParser.parse(#"{"a":1,"b":[{"x":1,"y":2}],"c":null}"#.utf8))
    }
}
