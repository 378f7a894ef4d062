// Tandem — Apache-2.0

import CUDAKernels
import InferenceEngine
import Requests

/// Where a batch's numbers lie in the one stretch of memory that is copied to the device for it, in bytes.
///
/// What every token has comes first, so that its places depend on the number of tokens alone: graphs read it there.
struct BatchRegions: Equatable {
    private(set) var tokens = 0
    private(set) var positions = 0
    private(set) var slots = 0
    private(set) var decodeTokens = 0
    private(set) var decodeSlots = 0
    private(set) var decodePositions = 0

    private(set) var tileRows = 0
    private(set) var tileStarts = 0
    private(set) var chunkTokens = 0
    private(set) var chunkCounts = 0
    private(set) var chunkSlots = 0
    private(set) var chunkPositions = 0
    private(set) var tableRuns = 0
    private(set) var tableIDs = 0
    private(set) var copies = 0
    private(set) var headTokens = 0
    /// Rows of logits, within their part, of the batch's scored heads.
    private(set) var scoredRows = 0
    private(set) var pairs = 0
    private(set) var tops = 0
    private(set) var samples = 0
    private(set) var adjustments = 0
    private(set) var banned = 0
    private(set) var biases = 0
    private(set) var counts = 0
    private(set) var pooledTokens = 0
    private(set) var byteCount = 0

    init(_ batch: StepBatch) {
        // Tokens and decoded rows with as many places as tokens: see above.
        let count = batch.tokens.count
        for place in [
            \BatchRegions.tokens, \.positions, \.slots, \.decodeTokens, \.decodeSlots, \.decodePositions,
        ] as [WritableKeyPath<BatchRegions, Int>] {
            self[keyPath: place] = take(count * 4)
        }
        tileRows = take(batch.tileRows.count * 4)
        tileStarts = take(batch.tileStarts.count * 4)
        chunkTokens = take(batch.chunkTokens.count * 4)
        chunkCounts = take(batch.chunkCounts.count * 4)
        chunkSlots = take(batch.chunkSlots.count * 4)
        chunkPositions = take(batch.chunkPositions.count * 4)
        tableRuns = take(batch.tableRuns.count * 12)
        tableIDs = take(batch.tableIDs.count * 4)
        copies = take(batch.copies.count * 4)
        headTokens = take(batch.headTokens.count * 4)
        scoredRows = take(batch.scored.count * 4)
        pairs = take(batch.pairs.count * 12)
        tops = take(batch.tops.count * 12)
        samples = take(batch.samples.count * MemoryLayout<SampleRow>.stride)
        adjustments = take(batch.adjustments.count * MemoryLayout<AdjustRow>.stride)
        banned = take(batch.banned.count * 4)
        biases = take(batch.biases.count * MemoryLayout<TokenBiasEntry>.stride)
        counts = take(batch.counts.count * MemoryLayout<TokenCountEntry>.stride)
        pooledTokens = take(batch.pooledTokens.count * 4)
    }

    private mutating func take(_ bytes: Int) -> Int {
        defer { byteCount = roundedUp(byteCount + bytes, to: 16) }
        return byteCount
    }
}

/// Where the device puts a batch's outputs, in bytes, in the one stretch of memory that is copied back.
struct OutputRegions: Equatable {
    private(set) var sampled = 0
    private(set) var pairValues = 0
    private(set) var pairRanks = 0
    private(set) var topTokens = 0
    private(set) var topValues = 0
    private(set) var topFound = 0
    private(set) var pooled = 0
    private(set) var byteCount = 0

    init(_ batch: StepBatch, hiddenSize: Int) {
        sampled = take(batch.samples.count * 4)
        pairValues = take(batch.pairs.count * 4)
        pairRanks = take(batch.pairs.count * 4)
        topTokens = take(batch.tops.count * BatchOutputs.topRoom * 4)
        topValues = take(batch.tops.count * BatchOutputs.topRoom * 4)
        topFound = take(batch.tops.count * 4)
        pooled = take(batch.pooledTokens.count * hiddenSize * 4)
    }

    private mutating func take(_ bytes: Int) -> Int {
        defer { byteCount = roundedUp(byteCount + bytes, to: 16) }
        return byteCount
    }

    /// The outputs in host memory of that layout.
    func outputs(at base: UnsafeRawPointer) -> BatchOutputs {
        BatchOutputs(
            sampled: (base + sampled).assumingMemoryBound(to: Int32.self),
            pairValues: (base + pairValues).assumingMemoryBound(to: Float.self),
            pairRanks: (base + pairRanks).assumingMemoryBound(to: Int32.self),
            topTokens: (base + topTokens).assumingMemoryBound(to: Int32.self),
            topValues: (base + topValues).assumingMemoryBound(to: Float.self),
            topFound: (base + topFound).assumingMemoryBound(to: Int32.self),
            pooled: (base + pooled).assumingMemoryBound(to: Float.self))
    }
}

extension StepBatch {
    /// Writes all numbers to their places.
    func encode(_ regions: BatchRegions, into bytes: UnsafeMutableRawBufferPointer) {
        func put<Element>(_ elements: [Element], at offset: Int) {
            elements.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<offset + source.count]).copyMemory(from: source)
            }
        }
        put(tokens, at: regions.tokens)
        put(positions, at: regions.positions)
        put(slots, at: regions.slots)
        put(decodeTokens, at: regions.decodeTokens)
        put(decodeSlots, at: regions.decodeSlots)
        put(decodePositions, at: regions.decodePositions)
        put(tileRows, at: regions.tileRows)
        put(tileStarts, at: regions.tileStarts)
        put(chunkTokens, at: regions.chunkTokens)
        put(chunkCounts, at: regions.chunkCounts)
        put(chunkSlots, at: regions.chunkSlots)
        put(chunkPositions, at: regions.chunkPositions)
        put(tableRuns, at: regions.tableRuns)
        put(tableIDs, at: regions.tableIDs)
        put(copies, at: regions.copies)
        put(headTokens, at: regions.headTokens)
        put(adjustments, at: regions.adjustments)
        put(banned, at: regions.banned)
        put(biases, at: regions.biases)
        put(counts, at: regions.counts)
        put(pooledTokens, at: regions.pooledTokens)
        for part in parts {
            let first = Int32(part.heads.lowerBound)
            for place in part.scored {
                bytes.storeBytes(
                    of: scored[place] - first, toByteOffset: regions.scoredRows + 4 * place, as: Int32.self)
            }
            for place in part.pairs {
                let pair = pairs[place]
                let head = heads[Int(pair.head)]
                let token = pair.token >= 0 ? pair.token : -1 - Int32(head.sample)
                put([pair.head - first, Int32(head.score), token], at: regions.pairs + 12 * place)
            }
            for place in part.tops {
                let head = heads[Int(tops[place])]
                put(
                    [tops[place] - first, Int32(head.score), Int32(head.top ?? 0)],
                    at: regions.tops + 12 * place)
            }
        }
        encodeSamples(regions, into: bytes, maskOffset: { _ in -1 })
    }

    /// Writes the samples alone, with the places of their masks.
    ///
    /// - Parameter maskOffset: of a slot, in words; below 0 if it has none.
    func encodeSamples(
        _ regions: BatchRegions, into bytes: UnsafeMutableRawBufferPointer, maskOffset: (SlotIndex) -> Int32
    ) {
        for part in parts {
            for place in part.samples {
                var row = sampleRows[place]
                row.row = samples[place] - Int32(part.heads.lowerBound)
                if heads[Int(samples[place])].isConstrained { row.maskOffset = maskOffset(row.slot) }
                bytes.storeBytes(
                    of: row, toByteOffset: regions.samples + MemoryLayout<SampleRow>.stride * place, as: SampleRow.self)
            }
        }
    }
}
