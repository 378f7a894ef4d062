// Tandem — Apache-2.0

import Requests
import Testing

@testable import CPUExecutor

@Suite struct RowSamplerTests {
    private let scratch: SamplingScratch

    init() throws {
        scratch = try SamplingScratch(vocabularySize: 1024)
    }

    /// What is kept, straight from the definition: sort, cut, cut, cut.
    static func kept(_ probabilities: [Float], _ sampling: SamplingParameters) -> Set<Int> {
        var order = probabilities.indices.sorted {
            probabilities[$0] != probabilities[$1] ? probabilities[$0] > probabilities[$1] : $0 < $1
        }.filter { probabilities[$0] > 0 }
        if sampling.topK > 0 { order = Array(order.prefix(Int(sampling.topK))) }
        if sampling.topP < 1 {
            let total = order.reduce(0.0) { $0 + Double(probabilities[$1]) }
            var sum = 0.0
            var count = 0
            while count < order.count, sum < Double(sampling.topP) * total {
                sum += Double(probabilities[order[count]])
                count += 1
            }
            order = Array(order.prefix(max(1, count)))
        }
        return Set(order.filter { probabilities[$0] >= sampling.minP * (probabilities.max() ?? 0) })
    }

    @Test func filtersKeepWhatTheDefinitionKeeps() {
        var random = SplitMix(state: 3)
        for round in 0..<300 {
            let count = 1 + Int(random.next() % 700)
            // Few distinct values in some rounds: many ties.
            var probabilities = (0..<count).map { _ -> Float in
                let value = abs(random.nextFloat())
                return round % 3 == 0 ? (value * 4).rounded() / 64 : value * value * value / 50
            }
            if probabilities.allSatisfy({ $0 == 0 }) { probabilities[0] = 1 }
            let sampling = SamplingParameters(
                temperature: 1, topK: round % 2 == 0 ? Int32(random.next() % 90) : 0,
                topP: round % 5 < 3 ? 0.05 + 0.9 * abs(random.nextFloat()) : 1,
                minP: round % 7 < 2 ? abs(random.nextFloat()) : 0)
            let expected = Self.kept(probabilities, sampling)
            probabilities.withUnsafeBufferPointer { row in
                guard let threshold = RowSampler.threshold(row, sampling: sampling, scratch: scratch) else {
                    Issue.record("nothing kept")
                    return
                }
                let found = Set(
                    row.indices.filter {
                        row[$0] > 0
                            && (row[$0] > threshold.probability
                                || (row[$0] == threshold.probability && $0 <= threshold.token))
                    })
                #expect(found == expected, "round \(round): \(sampling)")
            }
        }
    }

    @Test func drawsFollowTheProbabilities() throws {
        let probabilities: [Float] = [0.1, 0, 0.4, 0.2, 0.3]
        var counts = [Int](repeating: 0, count: 5)
        let draws = 40000
        try probabilities.withUnsafeBufferPointer { row in
            for position in 0..<draws {
                let sampling = SamplingParameters(temperature: 1, seed: 11)
                let token = RowSampler.draw(row, sampling: sampling, position: position, scratch: scratch)
                counts[try #require(token)] += 1
            }
        }
        #expect(counts[1] == 0)
        for (count, probability) in zip(counts, probabilities) {
            // Five standard deviations.
            let expected = Double(draws) * Double(probability)
            #expect(abs(Double(count) - expected) <= 5 * (expected * (1 - Double(probability))).squareRoot())
        }
    }

    @Test func edges() {
        func draw(_ row: [Float], _ uniform: Double) -> Int? {
            row.withUnsafeBufferPointer {
                RowSampler.draw($0, threshold: .init(probability: 0, token: .max), uniform: uniform)
            }
        }
        #expect(draw([0.5, 0.5], 0) == 0)
        #expect(draw([0.5, 0.5], 0.499) == 0)
        #expect(draw([0.5, 0.5], 0.5) == 1)
        #expect(draw([0.5, 0.5, 0], 1) == 1)
        #expect(draw([0, 0], 0.3) == nil)
        let long = [Float](repeating: 1, count: 1000)
        #expect(draw(long, 0.7305) == 730)
        #expect(draw(long, 0.9999999) == 999)
    }

    @Test func brokenNumbersNeverTrap() {
        for row: [Float] in [[.nan, .nan], [.infinity, 1], [], [0], [.nan, 0.5], [-1, 0.2]] {
            row.withUnsafeBufferPointer {
                let sampling = SamplingParameters(temperature: 1, topK: 1, topP: 0.5, minP: 0.5)
                if let token = RowSampler.draw($0, sampling: sampling, position: 1, scratch: scratch) {
                    #expect(row[token] > 0)
                }
            }
        }
        #expect(RowSampler.isGreedy(SamplingParameters(temperature: .nan)))
        #expect(RowSampler.isGreedy(SamplingParameters(temperature: 1e-30)))
        #expect(!RowSampler.isGreedy(SamplingParameters(temperature: 0.01)))
    }
}
