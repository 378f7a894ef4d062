// Tandem — Apache-2.0

import CUDAKernels

/// Bans, biases and penalties: applied, taken back, and counted on.
extension KernelChecks {
    private struct Case {
        var banned: [Int32] = []
        var biases: [TokenBiasEntry] = []
        /// `nil` without penalties.
        var counts: [TokenCountEntry]?
        var capacity = 0
        var repetition: Float = 1
        var frequency: Float = 0
        var presence: Float = 0
        var sampled: Int32
        /// What is counted after the sampled token.
        var countsAfter: [TokenCountEntry]?
    }

    static let adjustmentChecks: [KernelCheck] = [
        KernelCheck("adjust_logits, restore_logits, note_tokens", [.adjustLogits, .restoreLogits, .noteTokens]) { run in
            try checkAdjustments(run)
        }
    ]

    private static func entry(_ token: Int32, _ generated: Int32) -> TokenCountEntry {
        TokenCountEntry(token: token, generated: generated)
    }

    private static let adjustmentCases: [Case] = [
        Case(banned: [3, 0, 1002, -1, 5000], sampled: 4),
        Case(
            biases: [TokenBiasEntry(token: 7, bias: -100), TokenBiasEntry(token: 8, bias: 2.5)], counts: [],
            capacity: 2, sampled: 9, countsAfter: [entry(9, 1)]),
        // All three on one token, and one that is not in the vocabulary.
        Case(
            banned: [5], biases: [TokenBiasEntry(token: 5, bias: 1), TokenBiasEntry(token: 6, bias: 1)],
            counts: [entry(5, 2), entry(6, 3), entry(7, 0), entry(2000, 1)], capacity: 5, repetition: 1.3,
            frequency: 0.25, presence: 0.5, sampled: 6,
            countsAfter: [entry(5, 2), entry(6, 4), entry(7, 0), entry(2000, 1)]),
        // More counts than threads, and no room for another.
        Case(
            counts: (0..<600).map { entry(Int32($0), Int32($0 % 3)) }, capacity: 600, repetition: 0.8,
            frequency: -0.5, presence: 0.1, sampled: 900, countsAfter: (0..<600).map { entry(Int32($0), Int32($0 % 3)) }
        ),
        Case(
            counts: (0..<300).map { entry(Int32($0 + 600), 0) }, capacity: 301, presence: 1.5, sampled: 5,
            countsAfter: (0..<300).map { entry(Int32($0 + 600), 0) } + [entry(5, 1)]),
        // The same tokens in all lists, far apart, so that different warps change them; one of them is chosen.
        Case(
            banned: (0..<100).map { Int32(99 - $0) },
            biases: (0..<200).map { TokenBiasEntry(token: Int32($0), bias: 1) },
            counts: (0..<200).map { entry(Int32(199 - $0), 1) }, capacity: 201, repetition: 1.5, frequency: 0.5,
            sampled: 19, countsAfter: (0..<200).map { entry(Int32(199 - $0), $0 == 180 ? 2 : 1) }),
    ]

    private static func checkAdjustments(_ run: CheckRun) throws {
        var random = CheckRandom(seed: 10)
        let (vocabulary, stride) = (1003, 1008)
        let cases = adjustmentCases
        let logits = random.normals((cases.count + 1) * stride, scale: 4)
        var rows: [AdjustRow] = [.padding]
        var banned: [Int32] = [0]
        var biases = [TokenBiasEntry(token: 0, bias: 1000)]
        var counts: [TokenCountEntry] = []
        var lengths: [Int32] = [77]
        var sampled: [Int32] = [1]
        var saved: Int32 = 3
        for (index, adjustment) in cases.enumerated() {
            // Row 0 of the logits has no adjustments, and tokens are found in reverse order.
            var row = AdjustRow(row: Int32(index + 1), sample: Int32(cases.count - index))
            row.bannedOffset = Int32(banned.count)
            row.bannedCount = Int32(adjustment.banned.count)
            row.biasOffset = Int32(biases.count)
            row.biasCount = Int32(adjustment.biases.count)
            row.savedOffset = saved
            row.repetitionPenalty = adjustment.repetition
            row.frequencyPenalty = adjustment.frequency
            row.presencePenalty = adjustment.presence
            if let list = adjustment.counts {
                row.countOffset = Int32(counts.count)
                row.countLength = Int32(lengths.count)
                row.countCapacity = Int32(adjustment.capacity)
                lengths.append(Int32(list.count))
                counts += list
                counts += Array(repeating: entry(-1, -1), count: adjustment.capacity - list.count)
            }
            banned += adjustment.banned
            biases += adjustment.biases
            saved += row.bannedCount + row.biasCount + row.countCapacity
            rows.append(row)
            sampled.insert(adjustment.sampled, at: 1)
        }
        let onDevice = try run.array(logits)
        let deviceCounts = try run.array(counts)
        let deviceLengths = try run.array(lengths)
        let lists = AdjustmentLists(
            rows: try run.array(rows).pointer, count: rows.count, banned: try run.array(banned).pointer,
            biases: try run.array(biases).pointer, counts: deviceCounts.pointer, countLengths: deviceLengths.pointer,
            saved: try run.poisoned(Float.self, count: Int(saved)).pointer)
        let logitRows = LogitRows(base: onDevice.pointer, stride: stride, vocabulary: vocabulary)
        try run.launch(.adjustLogits(logitRows, lists))
        let changed = try run.read(onDevice)
        for index in 0...cases.count {
            var expected = Array(logits[index * stride..<(index + 1) * stride])
            if index > 0 { apply(cases[index - 1], to: &expected, vocabulary: vocabulary) }
            for token in 0..<stride {
                let found = changed[index * stride + token]
                try run.require(
                    found == expected[token] || abs(found - expected[token]) <= 1e-6 * abs(expected[token]),
                    "row \(index), token \(token) is \(found), not \(expected[token])")
            }
        }
        try run.launch(.restoreLogits(logitRows, lists))
        try run.expectEqual(try run.read(onDevice), logits, "logits taken back")
        try run.launch(.noteTokens(lists, sampled: try run.array(sampled).pointer))
        let countsAfter = try run.read(deviceCounts, filler: entry(0, 0))
        let lengthsAfter = try run.read(deviceLengths)
        try run.require(lengthsAfter[0] == 77, "the length of nobody's counts changed")
        var place = 0
        var length = 1
        for adjustment in cases {
            guard let expected = adjustment.countsAfter else { continue }
            try run.require(
                lengthsAfter[length] == Int32(expected.count),
                "\(lengthsAfter[length]) tokens are counted, not \(expected.count)")
            try run.expectEqual(Array(countsAfter[place..<place + expected.count]), expected, "counts")
            place += adjustment.capacity
            length += 1
        }
    }

    private static func apply(_ adjustment: Case, to logits: inout [Float], vocabulary: Int) {
        for token in adjustment.banned where 0..<vocabulary ~= Int(token) { logits[Int(token)] = -.infinity }
        for entry in adjustment.biases where 0..<vocabulary ~= Int(entry.token) {
            logits[Int(entry.token)] += entry.bias
        }
        for entry in adjustment.counts ?? [] where 0..<vocabulary ~= Int(entry.token) {
            var logit = logits[Int(entry.token)]
            if adjustment.repetition != 1 {
                logit = logit > 0 ? logit / adjustment.repetition : logit * adjustment.repetition
            }
            if entry.generated > 0 {
                logit -= adjustment.frequency * Float(entry.generated)
                logit -= adjustment.presence
            }
            logits[Int(entry.token)] = logit
        }
    }
}
