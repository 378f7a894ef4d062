// Tandem — Apache-2.0

import CUDAKernels
import Glibc

/// Statistics of rows of logits, and log-probabilities of tokens.
extension KernelChecks {
    /// Rows that are hard in some way, `stride` floats each; what is behind the vocabulary is not a number.
    private static func hardRows(vocabulary: Int, stride: Int) -> [Float] {
        var random = CheckRandom(seed: 11)
        var rows: [[Float]] = [random.normals(vocabulary, scale: 4)]
        // Many equal ones; all equal; one finite; large numbers.
        rows.append((0..<vocabulary).map { _ in Float(random.below(3)) })
        rows.append(Array(repeating: -2.5, count: vocabulary))
        rows.append((0..<vocabulary).map { $0 == vocabulary - 1 ? 3 : -.infinity })
        rows.append((0..<vocabulary).map { Float($0) * 20 - 3000 })
        return rows.flatMap { $0 + Array(repeating: Float.nan, count: stride - vocabulary) }
    }

    private static func logSumExp(_ row: ArraySlice<Float>) -> (largest: Float, total: Double) {
        let largest = row.max() ?? 0
        let sum = row.reduce(0.0) { $0 + exp(Double($1) - Double(largest)) }
        return (largest, Double(largest) + log(sum))
    }

    static let logProbabilityChecks: [KernelCheck] = [37, 1003, 49_152].map { vocabulary in
        KernelCheck(
            "log-probabilities of \(vocabulary)", [.logitStatistics, .gatherLogProbabilities, .topLogProbabilities]
        ) { run in try checkLogProbabilities(run, vocabulary: vocabulary) }
    }

    private static func checkLogProbabilities(_ run: CheckRun, vocabulary: Int) throws {
        let stride = (vocabulary + 15) / 8 * 8
        let logits = hardRows(vocabulary: vocabulary, stride: stride)
        let rowCount = logits.count / stride
        let rows = LogitRows(base: try run.array(logits).pointer, stride: stride, vocabulary: vocabulary)
        func row(_ index: Int) -> ArraySlice<Float> { logits[index * stride..<index * stride + vocabulary] }

        // In reverse order, one of them twice.
        let asked = (0..<rowCount).reversed() + [0]
        let stats = try run.poisoned(Float.self, count: 2 * asked.count)
        try run.launch(
            .logitStatistics(
                rows, rows: try run.array(asked.map(Int32.init)).pointer, stats: stats.pointer, count: asked.count))
        let foundStats = try run.read(stats)
        for (index, asked) in asked.enumerated() {
            let (largest, total) = logSumExp(row(asked))
            let tolerance = 2e-6 * max(1, abs(Double(largest)))
            try run.require(
                abs(Double(foundStats[2 * index]) - Double(largest)) <= tolerance
                    && abs(Double(foundStats[2 * index + 1]) - total) <= tolerance + 2e-6 * abs(total),
                "row \(asked) has \(foundStats[2 * index]), \(foundStats[2 * index + 1]), not \(largest), \(total)")
        }

        let sampled: [Int32] = [5, Int32(vocabulary - 1)]
        let tokens: [Int32] = [0, 17, Int32(vocabulary - 1), -1, -2]
        var pairs: [Int32] = [-1, 0, 0]
        for row in 0..<rowCount { for token in tokens { pairs += [Int32(row), Int32(rowCount - 1 - row), token] } }
        let count = pairs.count / 3
        let values = try run.poisoned(Float.self, count: count)
        let ranks = try run.poisoned(Int32.self, count: count)
        let pairPointer = try run.array(pairs).pointer
        let sampledPointer = try run.array(sampled).pointer
        try run.launch(
            .gatherLogProbabilities(
                rows, stats: stats.pointer, pairs: pairPointer, sampled: sampledPointer,
                logProbabilities: values.pointer, ranks: ranks.pointer, count: count))
        let foundValues = try run.read(values)
        let foundRanks = try run.read(ranks)
        try run.require(foundValues[0].isNaN && foundRanks[0] == -1, "padding must be left alone")
        for index in 1..<count {
            let own = row(Int(pairs[3 * index]))
            let token = pairs[3 * index + 2]
            let logit = own[own.startIndex + Int(token < 0 ? sampled[Int(-1 - token)] : token)]
            let expected = Double(logit) - logSumExp(own).total
            try run.require(
                Double(foundValues[index]) == expected
                    || abs(Double(foundValues[index]) - expected) <= 4e-6 * max(1, abs(logSumExp(own).total)),
                "log-probability \(index) is \(foundValues[index]), not \(expected)")
            let rank = own.count { $0 > logit } + 1
            try run.require(foundRanks[index] == Int32(rank), "rank \(index) is \(foundRanks[index]), not \(rank)")
        }
        let valuesAlone = try run.poisoned(Float.self, count: count)
        try run.launch(
            .gatherLogProbabilities(
                rows, stats: stats.pointer, pairs: pairPointer, sampled: sampledPointer,
                logProbabilities: valuesAlone.pointer, ranks: nil, count: count))
        try run.expectEqual(
            try run.read(valuesAlone).dropFirst().map(\.bitPattern), foundValues.dropFirst().map(\.bitPattern),
            "without ranks")
        try checkTop(run, rows, stats: stats.pointer, foundStats: foundStats, logits: logits)
    }

    private static func checkTop(
        _ run: CheckRun, _ rows: LogitRows, stats: DevicePointer<Float>, foundStats: [Float], logits: [Float]
    ) throws {
        let rowCount = logits.count / rows.stride
        let most = KernelLaunch.mostLikeliest
        var requests: [Int32] = [-1, 0, 5]
        for row in 0..<rowCount {
            for wanted in [1, 5, 20, 64] { requests += [Int32(row), Int32(rowCount - 1 - row), Int32(wanted)] }
        }
        let count = requests.count / 3
        let tokens = try run.poisoned(Int32.self, count: count * most)
        let values = try run.poisoned(Float.self, count: count * most)
        let found = try run.poisoned(Int32.self, count: count)
        try run.launch(
            .topLogProbabilities(
                rows, stats: stats, requests: try run.array(requests).pointer, tokens: tokens.pointer,
                logProbabilities: values.pointer, found: found.pointer, count: count))
        let (foundTokens, foundValues) = (try run.read(tokens), try run.read(values))
        let foundCounts = try run.read(found)
        try run.require(foundCounts[0] == -1 && foundTokens[0] == -1, "padding must be left alone")
        for index in 1..<count {
            let start = Int(requests[3 * index]) * rows.stride
            let order = (0..<rows.vocabulary).sorted { first, second in
                let (left, right) = (logits[start + first], logits[start + second])
                return left != right ? left > right : first < second
            }
            let expected = order.prefix(Int(requests[3 * index + 2])).map(Int32.init)
            try run.require(
                foundCounts[index] == Int32(expected.count),
                "request \(index): \(foundCounts[index]) tokens, not \(expected.count)")
            try run.expectEqual(
                Array(foundTokens[index * most..<index * most + expected.count]), expected, "request \(index): tokens")
            let total = foundStats[2 * Int(requests[3 * index + 1]) + 1]
            for (place, token) in expected.enumerated() {
                let value = foundValues[index * most + place]
                let own = logits[start + Int(token)] - total
                try run.require(value == own, "request \(index), place \(place): \(value), not \(own)")
            }
        }
    }
}
