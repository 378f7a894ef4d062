// Tandem — Apache-2.0

import LanguageModel
import Testing

@Suite struct KeyValueGroupTests {
    /// A decoder whose layers have these windows.
    private func model(_ windows: [Int?]) -> DecoderDescription {
        DecoderDescription(
            architecture: "test", name: "test", vocabularySize: 100, hiddenSize: 64, intermediateSize: 64,
            queryHeads: 4, keyValueHeads: 2, headDimension: 16, contextLength: 32768, normEpsilon: 1e-6,
            tiedHead: true, ropes: [RotaryDescription(base: 1e4, dimensions: 16, fileLayout: .halfSplit)],
            layers: windows.map { LayerDescription(window: $0, attentionScale: 0.25) })
    }

    @Test func groupsHaveEquallyManyLayersOfOneWindow() {
        // As Gemma 3 270M: every sixth of 18 layers sees everything.
        let gemma = model((1...18).map { $0 % 6 == 0 ? nil : 512 }).kvGroups
        #expect(gemma.map(\.window) == [512, 512, 512, 512, 512, nil])
        #expect(gemma.map(\.layers.count) == [3, 3, 3, 3, 3, 3])
        #expect(gemma[0].layers == [0, 1, 2] && gemma[1].layers == [3, 4, 6] && gemma[5].layers == [5, 11, 17])
        #expect(gemma.flatMap(\.layers).sorted() == Array(0..<18))

        #expect(model([nil, nil, nil]).kvGroups == [KeyValueGroup(layers: [0, 1, 2], window: nil)])
        #expect(model([64, 64]).kvGroups == [KeyValueGroup(layers: [0, 1], window: 64)])
        #expect(
            model([64, nil, 64, 32, 64, nil, 64, 32]).kvGroups.map(\.layers) == [[0, 2], [4, 6], [1, 5], [3, 7]])
        #expect(model([nil, 8, 8]).kvGroups.map(\.layers) == [[0], [1], [2]])
        #expect(model([]).kvGroups.isEmpty)
    }

    /// The formula against counting: a step may start anywhere.
    @Test(arguments: [1, 2, 5, 16, 17, 40], [1, 7, 16, 33]) func blocksOfASequence(window: Int, step: Int) {
        let group = KeyValueGroup(layers: [0], window: window)
        let full = KeyValueGroup(layers: [0], window: nil)
        for blockSize in [1, 4, 16] {
            for tokens in [1, 2, 15, 16, 17, 50, 100, 200] {
                let all = (tokens + blockSize - 1) / blockSize
                #expect(full.blocks(forSequenceOf: tokens, tokensPerStep: step, blockSize: blockSize) == all)
                let most = (0..<tokens).map { start in
                    let last = min(tokens, start + step) - 1
                    return last / blockSize - max(0, start - window + 1) / blockSize + 1
                }.max()
                let blocks = group.blocks(forSequenceOf: tokens, tokensPerStep: step, blockSize: blockSize)
                #expect(blocks >= most ?? 0)
                // A long sequence meets the worst place.
                if tokens == 200 { #expect(blocks == most) }
            }
        }
        #expect(group.blocks(forSequenceOf: .max, tokensPerStep: step, blockSize: 16) < 8)
    }

    @Test func bytesOfASequence() {
        let tokenLayer = 2 * 2 * 16 * 2
        let plain = model([nil, nil, nil])
        #expect(plain.kvBytes(forSequenceOf: 160, tokensPerStep: 64, elementBytes: 2) == 160 * 3 * tokenLayer)
        #expect(
            plain.kvBytes(forSequenceOf: 161, tokensPerStep: 64, elementBytes: 2)
                == 176 * plain.kvBytesPerToken(elementBytes: 2))
        let gemma = model((1...18).map { $0 % 6 == 0 ? nil : 512 })
        // Short sequences: as without windows.
        #expect(
            gemma.kvBytes(forSequenceOf: 512, tokensPerStep: 256, elementBytes: 2)
                == 512 * gemma.kvBytesPerToken(elementBytes: 2))
        // Long ones: 511 + 256 tokens of 15 layers, which touch 49 blocks at most, beside 3 full layers.
        #expect(
            gemma.kvBytes(forSequenceOf: 32768, tokensPerStep: 256, elementBytes: 2)
                == (32768 * 3 + 49 * 16 * 15) * tokenLayer)
    }
}
