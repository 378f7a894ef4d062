// Tandem — Apache-2.0

import Requests
import Testing

@Suite struct StableHashTests {
    @Test func equalInputsAgreeAndNeighboursDiffer() {
        func digest(_ tokens: [TokenID], seed: UInt64 = 0) -> Digest128 {
            var hash = StableHash(seed: seed)
            hash.combine(tokens)
            return hash.digest()
        }
        #expect(digest([1, 2, 3]) == digest([1, 2, 3]))
        #expect(digest([1, 2, 3]) != digest([1, 3, 2]))
        #expect(digest([1, 2]) != digest([1, 2, 0]))
        #expect(digest([1, 2, 3]) != digest([1, 2, 3], seed: 1))
        var seen = Set<Digest128>()
        for first in TokenID(0)..<64 {
            for second in TokenID(0)..<64 { seen.insert(digest([first, second])) }
        }
        #expect(seen.count == 64 * 64)
    }

    @Test func byteFieldsDoNotRunTogether() {
        var first = StableHash()
        first.combine(bytes: Array("ab".utf8))
        first.combine(bytes: Array("c".utf8))
        var second = StableHash()
        second.combine(bytes: Array("a".utf8))
        second.combine(bytes: Array("bc".utf8))
        #expect(first.digest() != second.digest())
    }

    @Test(arguments: 0..<20) func buffersHashAsTheirBytes(count: Int) {
        let bytes = (0..<count).map { UInt8($0 * 37 & 0xFF) }
        var first = StableHash()
        first.combine(bytes: bytes)
        var second = StableHash()
        bytes.withUnsafeBytes { second.combine(buffer: $0) }
        #expect(first.digest() == second.digest())
    }

    @Test func digestPrintsAllDigits() {
        #expect(Digest128(high: 1, low: 0xFF).description == "000000000000000100000000000000ff")
    }

    @Test func blockHashesChain() {
        let model = Digest128(high: 1, low: 2)
        let root = BlockHash.root(model: model, salt: "", seed: 7)
        #expect(root != BlockHash.root(model: model, salt: "x", seed: 7))
        #expect(root.next(tokens: [1, 2]).next(tokens: [3]) != root.next(tokens: [1]).next(tokens: [2, 3]))
        #expect(root.next(tokens: [1, 2]) == root.next(tokens: [1, 2]))
    }
}

@Suite struct CounterRandomTests {
    @Test func keyedByAllThreeAndUniform() {
        func draw(_ seed: UInt64, _ choice: UInt32, _ position: Int) -> Double {
            CounterRandom.uniform(seed: seed, choiceIndex: choice, position: position)
        }
        #expect(draw(1, 0, 5) == draw(1, 0, 5))
        #expect(Set([draw(1, 0, 5), draw(2, 0, 5), draw(1, 1, 5), draw(1, 0, 6)]).count == 4)
        var buckets = [Int](repeating: 0, count: 10)
        for position in 0..<10_000 { buckets[Int(draw(42, 0, position) * 10)] += 1 }
        #expect(buckets.allSatisfy { (850...1150).contains($0) })
    }
}
