// Tandem — Apache-2.0

import Grammar
import Testing

@Suite("Grammar errors")
struct GrammarErrorTests {
    @Test("An error says where and why")
    func description() {
        let error = GrammarError(kind: .malformed, place: "#/properties/age", reason: "`type` must be a string")
        #expect(error.description == "#/properties/age: `type` must be a string")
    }
}
