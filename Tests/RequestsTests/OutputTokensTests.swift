// Tandem — Apache-2.0

import Requests
import Testing

@Suite struct OutputTokensTests {
    @Test(arguments: 0..<6) func holdsWhatItIsGiven(count: Int) {
        let tokens = (0..<count).map { TokenID($0 * 7) }
        var appended = OutputTokens()
        for token in tokens { appended.append(token) }
        #expect(Array(appended) == tokens)
        #expect(appended == OutputTokens(tokens))
        #expect(appended.count == count)
        #expect(appended.isEmpty == (count == 0))
        #expect(appended.last == tokens.last)
        #expect(appended.reversed().map(\.self) == tokens.reversed())
    }

    @Test func copiesAreIndependent() {
        let two: OutputTokens = [1, 2]
        var three = two
        three.append(3)
        #expect(Array(two) == [1, 2])
        #expect(three == [1, 2, 3])
        #expect(two != three)
    }
}
