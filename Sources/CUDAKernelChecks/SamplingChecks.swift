// Tandem — Apache-2.0

import CUDAKernels
import Glibc

/// Choice of tokens.
extension KernelChecks {
    static let samplingChecks: [KernelCheck] =
        [greedyCheck, maskCheck, tieCheck]
        + [
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 0.7)),
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 1, topK: 20)),
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 1, topK: 1)),
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 1.3, topP: 0.9)),
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 1, topP: 1e-6)),
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 1.1, minP: 0.05)),
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 0.9, topK: 50, topP: 0.8, minP: 0.02)),
            (101, SampleRow(row: 0, slot: 0, position: 0, temperature: 2, topK: 200, topP: 0.999)),
            // More tokens pass than are collected.
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 20, topP: 0.9)),
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 9, topK: 4000, topP: 0.95, minP: 0.01)),
            (5003, SampleRow(row: 0, slot: 0, position: 0, temperature: 1, topK: 5000, minP: 1e-7)),
            (151_936, SampleRow(row: 0, slot: 0, position: 0, temperature: 1, topP: 0.95)),
            (262_208, SampleRow(row: 0, slot: 0, position: 0, temperature: 1.5)),
            // Far from 1 both ways: the largest logit alone, and nearly all alike.
            (1000, SampleRow(row: 0, slot: 0, position: 0, temperature: 1e-4)),
            (1000, SampleRow(row: 0, slot: 0, position: 0, temperature: 1e4)),
        ].map { vocabulary, sampling in
            var name = "sample_rows of \(vocabulary), temperature \(sampling.temperature)"
            if sampling.topK > 0 { name += ", top-k \(sampling.topK)" }
            if sampling.topP < 1 { name += ", top-p \(sampling.topP)" }
            if sampling.minP > 0 { name += ", min-p \(sampling.minP)" }
            return KernelCheck(name, [.sampleRows]) { run in
                try checkDraws(run, vocabulary: vocabulary, sampling: sampling)
            }
        }

    /// As `CounterRandom.uniform`.
    static func uniform(seed: UInt64, choice: UInt32, position: Int32) -> Double {
        var word = CheckRandom.mix(seed &+ 0x9E37_79B9_7F4A_7C15)
        word = CheckRandom.mix(word ^ (UInt64(choice) &* 0xD6E8_FEB8_6659_FD93))
        word = CheckRandom.mix(word ^ (UInt64(bitPattern: Int64(position)) &* 0xA076_1D64_78BD_642F))
        return Double(word >> 11) * 0x1p-53
    }

    private static func sample(
        _ run: CheckRun, logits: [Float], stride: Int, vocabulary: Int, rows: [SampleRow], masks: [UInt32]?,
        slots: Int
    ) throws -> (sampled: [Int32], lastTokens: [Int32]) {
        let sampled = try run.poisoned(Int32.self, count: rows.count)
        let lastTokens = try run.array(Array(repeating: Int32(-7), count: slots))
        try run.launch(
            .sampleRows(
                LogitRows(base: try run.array(logits).pointer, stride: stride, vocabulary: vocabulary),
                rows: try run.array(rows).pointer, masks: try masks.map { try run.array($0).pointer },
                sampled: sampled.pointer, lastTokens: lastTokens.pointer, count: rows.count))
        return (try run.read(sampled), try run.read(lastTokens))
    }

    // MARK: - The largest

    private static let greedyCheck = KernelCheck("sample_rows, greedy", [.sampleRows]) { run in
        let (vocabulary, stride) = (5003, 5008)
        var random = CheckRandom(seed: 12)
        var rows: [[Float]] = []
        var expected: [Int32] = []
        func row(_ values: [Float], _ token: Int32) {
            rows.append(values)
            expected.append(token)
        }
        for place in [0, 1, 4095, 4096, 5002] {
            var values = random.normals(vocabulary)
            values[place] = 50
            row(values, Int32(place))
        }
        // The lower of equal ones, also where signs of zero differ.
        var ties = random.normals(vocabulary)
        for place in [4100, 77, 76 + 1024, 4999] { ties[place] = 60 }
        row(ties, 77)
        row((0..<vocabulary).map { $0 == 9 ? -0.0 : $0 == 500 ? 0.0 : -1 }, 9)
        row(Array(repeating: -.infinity, count: vocabulary), 0)
        row((0..<vocabulary).map { $0 == 3 ? .nan : $0 == 4001 ? -5 : -10 }, 4001)
        row((0..<vocabulary).map { $0 == 3000 ? .infinity : 1 }, 3000)
        row((0..<vocabulary).map { -1e30 * Float($0 + 1) }, 0)
        var requests = rows.indices.map { SampleRow(row: Int32($0), slot: Int32($0), position: 3) }
        // What cannot be drawn from is decided by the largest.
        requests[7].temperature = 1
        requests[9].temperature = 0.5
        requests[0].temperature = .nan
        requests[1].temperature = 1e-6
        requests[2].flags = SampleRow.isDraft
        requests.append(.padding)
        let (sampled, last) = try sample(
            run, logits: rows.flatMap { $0 + Array(repeating: Float.nan, count: stride - vocabulary) }, stride: stride,
            vocabulary: vocabulary, rows: requests, masks: nil, slots: rows.count)
        try run.expectEqual(sampled, expected + [-1], "sampled")
        expected[2] = -7
        try run.expectEqual(last, expected, "last tokens")
    }

    // MARK: - Masks

    private static let maskCheck = KernelCheck("sample_rows, masks", [.sampleRows]) { run in
        let (vocabulary, stride) = (1003, 1008)
        let words = (vocabulary + 31) / 32
        var random = CheckRandom(seed: 13)
        let logits = random.normals(stride, scale: 3)
        var masks: [UInt32] = [0xFFFF_FFFF]
        var requests: [SampleRow] = []
        var permitted: [Set<Int>] = []
        let choices: [[Int]] = [[0], [1002], [31], [32], [], Array(0..<vocabulary), [5, 900, 901], Array(500..<533)]
        for choice in choices {
            for temperature in [Float(0), 1, 8] {
                var request = SampleRow(
                    seed: UInt64(requests.count), row: 0, slot: Int32(requests.count), position: 4,
                    temperature: temperature,
                    maskOffset: Int32(masks.count))
                if temperature == 8 { (request.topK, request.topP) = (2, 0.9) }
                requests.append(request)
                permitted.append(Set(choice))
            }
            var mask = Array(repeating: UInt32(0), count: words)
            for token in choice { mask[token / 32] |= 1 << UInt32(token % 32) }
            masks += mask
        }
        let (sampled, _) = try sample(
            run, logits: logits, stride: stride, vocabulary: vocabulary, rows: requests, masks: masks,
            slots: requests.count)
        for (index, token) in sampled.enumerated() {
            if permitted[index].isEmpty {
                try run.require(token == 0, "row \(index): \(token) where nothing is permitted")
                continue
            }
            try run.require(permitted[index].contains(Int(token)), "row \(index): \(token) is not permitted")
            if requests[index].temperature == 0 {
                let best = permitted[index].sorted().max { logits[$0] < logits[$1] }
                try run.require(Int(token) == best, "row \(index): \(token), not \(best ?? -1)")
            }
        }
    }

    // MARK: - Equal probabilities

    private static let tieCheck = KernelCheck("sample_rows, equal probabilities", [.sampleRows]) { run in
        let (vocabulary, rowStride) = (3001, 3008)
        // 100 tokens of logit 1, all others 0; those of the first kind lie at 7, 37, 67...
        let logits = (0..<rowStride).map { ($0 - 7) % 30 == 0 && $0 < 3001 ? Float(1) : 0 }
        let likely = (0..<100).map { 7 + 30 * $0 }
        var requests: [SampleRow] = []
        // A slot for each: which of several rows writes the last token of one is chance.
        for seed in 0..<40 {
            requests.append(
                SampleRow(
                    seed: UInt64(seed), row: 0, slot: Int32(requests.count), position: 1, temperature: 1, topK: 10))
            requests.append(
                SampleRow(
                    seed: UInt64(seed), row: 0, slot: Int32(requests.count), position: 2, temperature: 1, topK: 105))
            // 100 e of 100 e + 2901, of which half are kept: a twentieth or so.
            requests.append(
                SampleRow(
                    seed: UInt64(seed), row: 0, slot: Int32(requests.count), position: 3, temperature: 1, topP: 0.04))
        }
        let (sampled, _) = try sample(
            run, logits: logits, stride: rowStride, vocabulary: vocabulary, rows: requests, masks: nil,
            slots: requests.count)
        let total = 100 * exp(1.0) + 2901
        let rest = (0..<vocabulary).filter { !likely.contains($0) }
        let kept = [
            Set(likely.prefix(10)), Set(likely + rest.prefix(5)),
            Set(likely.prefix(Int((0.04 * total / exp(1.0)).rounded(.up)))),
        ]
        for (index, token) in sampled.enumerated() {
            try run.require(kept[index % 3].contains(Int(token)), "row \(index): \(token) is not among those kept")
        }
        for kind in 0..<3 {
            let found = Set(stride(from: kind, to: sampled.count, by: 3).map { sampled[$0] })
            try run.require(found.count > 5, "kind \(kind): only \(found.count) different tokens in 40 draws")
        }
    }

    // MARK: - Draws

    private static func checkDraws(_ run: CheckRun, vocabulary: Int, sampling: SampleRow) throws {
        var random = CheckRandom(seed: 14)
        let stride = (vocabulary + 7) / 8 * 8
        let draws = vocabulary > 100_000 ? 4 : 24
        let rowCount = 2
        var logits = random.normals(rowCount * stride, scale: 2.5)
        for row in 0..<rowCount {
            for place in vocabulary..<stride { logits[row * stride + place] = 1e9 }
            // What is no number takes no part.
            for place in [3, 40, vocabulary - 1] { logits[row * stride + place] = .nan }
        }
        let requests = (0..<draws).map { draw in
            var request = sampling
            request.seed = random.word()
            request.choice = UInt32(draw % 3)
            request.position = Int32(17 * draw)
            request.row = Int32(draw % rowCount)
            request.slot = Int32(draw)
            return request
        }
        let (sampled, last) = try sample(
            run, logits: logits, stride: stride, vocabulary: vocabulary, rows: requests, masks: nil, slots: draws)
        try run.expectEqual(last, sampled, "last tokens")
        for row in 0..<rowCount {
            let reference = DrawReference(
                logits: Array(logits[row * stride..<row * stride + vocabulary]), sampling: sampling)
            for (index, request) in requests.enumerated() where Int(request.row) == row {
                let number = uniform(seed: request.seed, choice: request.choice, position: request.position)
                try run.require(
                    reference.permits(Int(sampled[index]), uniform: number),
                    "draw \(index) is \(sampled[index]), not \(reference.token(uniform: number)) or near it")
            }
        }
    }
}

/// What may be drawn from a row, in double precision.
private struct DrawReference {
    /// Kept tokens in order of id, with the sum of probabilities before each.
    private var tokens: [Int] = []
    private var before: [Double] = []
    private var total = 0.0
    /// The first token that is not kept: sums may differ by a rounding.
    private var next: Int?

    init(logits: [Float], sampling: SampleRow) {
        let largest = logits.filter { !$0.isNaN }.max() ?? 0
        let weights = logits.map { exp((Double($0) - Double(largest)) / Double(sampling.temperature)) }
        let order = logits.indices.filter { !logits[$0].isNaN }.sorted {
            weights[$0] != weights[$1] ? weights[$0] > weights[$1] : $0 < $1
        }
        var kept = order.count
        if sampling.topK > 0 { kept = min(kept, Int(sampling.topK)) }
        if sampling.topP < 1 {
            let goal = Double(sampling.topP) * order[..<kept].reduce(0) { $0 + weights[$1] }
            var sum = 0.0
            kept =
                (order[..<kept].firstIndex { token in
                    sum += weights[token]
                    return sum >= goal
                } ?? kept - 1) + 1
        }
        if sampling.minP > 0 {
            kept = min(kept, order.firstIndex { weights[$0] < Double(sampling.minP) } ?? order.count)
        }
        next = kept < order.count ? order[kept] : nil
        for token in order[..<kept].sorted() {
            tokens.append(token)
            before.append(total)
            total += weights[token]
        }
    }

    func token(uniform: Double) -> Int {
        tokens[(before.firstIndex { $0 > uniform * total } ?? tokens.count) - 1]
    }

    /// Whether a token is the one drawn, or one that a sum off by 1e-5 would draw.
    func permits(_ token: Int, uniform: Double) -> Bool {
        if token == next { return true }
        guard let index = tokens.firstIndex(of: token) else { return false }
        let end = index + 1 < before.count ? before[index + 1] : total
        let (goal, slack) = (uniform * total, 1e-5 * total)
        return before[index] - slack <= goal && goal <= end + slack
    }
}
