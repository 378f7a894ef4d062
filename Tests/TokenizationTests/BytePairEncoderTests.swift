// Tandem — Apache-2.0

import Requests
import TestSupport
import Testing

@testable import Tokenization

@Suite struct BytePairEncoderTests {
    /// The definition, word for word: find the pair of lowest rank, the leftmost, merge it, start again.
    static func reference(_ word: [UInt8], _ merges: [String: Int]) -> [String] {
        var parts = word.map { ByteAlphabet.encode([$0]) }
        while true {
            var best: (rank: Int, index: Int)?
            for index in parts.indices.dropLast() {
                guard let rank = merges[parts[index] + " " + parts[index + 1]] else { continue }
                if best.map({ rank < $0.rank }) ?? true { best = (rank, index) }
            }
            guard let best else { return parts }
            parts.replaceSubrange(
                best.index...(best.index + 1), with: [parts[best.index] + parts[best.index + 1]])
        }
    }

    @Test(arguments: 0..<40)
    func randomMergesGiveWhatTheDefinitionGives(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var parts = ["a", "b", "c"]
        var merges: [String] = []
        var ranks: [String: Int] = [:]
        for _ in 0..<30 {
            guard let left = parts.randomElement(using: &random),
                let right = parts.randomElement(using: &random)
            else { continue }
            let merge = left + " " + right
            guard left.utf8.count + right.utf8.count < 20, ranks[merge] == nil else { continue }
            ranks[merge] = merges.count
            merges.append(merge)
            if !parts.contains(left + right) { parts.append(left + right) }
        }
        let tokenizer = try Tokenizer(smallDefinition(merges: merges))
        // Both paths, and the border between them.
        for length in [1, 2, 3, 7, 20, 47, 48, 49, 50, 90, 200] {
            let word = (0..<length).map { _ in UInt8(ascii: "a") + UInt8.random(in: 0..<3, using: &random)
            }
            let ids = tokenizer.encode(
                String(decoding: word, as: UTF8.self), addSpecialTokens: false, parseSpecialTokens: false)
            #expect(ids.map { tokenizer.vocabularyString($0) } == Self.reference(word, ranks))
        }
    }

    @Test func heapYieldsItsWordsInOrder() {
        var random = SeededGenerator(seed: 3)
        let words = (0..<500).map { _ in UInt64.random(in: 0..<100, using: &random) }
        var heap = MinHeap(Array(words[..<250]))
        for word in words[250...] { heap.push(word) }
        var popped: [UInt64] = []
        while let word = heap.popSmallest() { popped.append(word) }
        #expect(popped == words.sorted())
    }
}
