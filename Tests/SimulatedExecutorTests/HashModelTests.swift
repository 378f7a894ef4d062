// Tandem — Apache-2.0

import Glibc
import InferenceEngine
import Requests
import Testing

@testable import SimulatedExecutor

@Suite struct HashModelTests {
    private let model = HashModel(vocabularySize: 1000)

    @Test func greedyDependsOnTheHistoryAndOnNothingElse() {
        let first = HashModel.extend(HashModel.empty, by: 1)
        let second = HashModel.extend(HashModel.empty, by: 2)
        let greedy = SamplingParameters(temperature: 0, seed: 1)
        #expect(
            model.next(first, sampling: greedy, adjustments: nil, position: 1)
                == model.next(first, sampling: SamplingParameters(seed: 2), adjustments: nil, position: 1))
        #expect(
            model.next(first, sampling: greedy, adjustments: nil, position: 1)
                != model.next(second, sampling: greedy, adjustments: nil, position: 1))
        #expect(HashModel.join(1, 2) != HashModel.join(2, 1))
    }

    @Test func ranksHaveTheirProbabilities() {
        let digest = HashModel.extend(HashModel.empty, by: 7)
        var counts = [Int](repeating: 0, count: HashModel.ranks + 1)
        for seed in 0..<4096 {
            counts[
                model.rank(digest, sampling: SamplingParameters(temperature: 1, seed: UInt64(seed)), position: 3)
            ] += 1
        }
        #expect((1900...2200).contains(counts[0]))
        #expect((900...1150).contains(counts[1]))
        let sum = (0..<1000).reduce(0.0) {
            $0 + exp2(Double(model.logProbability(of: Int32($1), digest)) / 0.693_147_180_559_945_3)
        }
        #expect(abs(sum - 1) < 1e-4)
    }

    @Test func topKAndTopPBoundTheRanks() {
        let digest = HashModel.extend(HashModel.empty, by: 7)
        for seed in 0..<200 {
            var sampling = SamplingParameters(temperature: 1, topK: 2, seed: UInt64(seed))
            #expect(model.rank(digest, sampling: sampling, position: 3) < 2)
            sampling = SamplingParameters(temperature: 1, topP: 0.4, seed: UInt64(seed))
            #expect(model.rank(digest, sampling: sampling, position: 3) == 0)
        }
    }

    @Test func masksAndStopsAreKept() {
        var mask = [UInt32](repeating: 0, count: 32)
        mask[3] = 1 << 5
        mask[30] = 0b11 << 30
        for seed in 0..<100 {
            let digest = HashModel.extend(HashModel.empty, by: Int32(seed))
            let sampling = SamplingParameters(temperature: 1, seed: UInt64(seed))
            let token = model.next(digest, sampling: sampling, position: 1, mask: mask[...])
            #expect([101, 990, 991].contains(token))
        }
        #expect(model.next(1, sampling: SamplingParameters(), position: 1, mask: [0, 0][...]) == nil)
        let digest = HashModel.extend(HashModel.empty, by: 3)
        let stop = model.first(digest)
        let adjustments = LogitAdjustments(promptCount: 4, minimumNewTokens: 2, stopTokens: [stop])
        #expect(model.next(digest, sampling: SamplingParameters(), adjustments: adjustments, position: 5) != stop)
        #expect(model.next(digest, sampling: SamplingParameters(), adjustments: adjustments, position: 6) == stop)
    }
}
