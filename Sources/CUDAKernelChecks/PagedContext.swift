// Tandem — Apache-2.0

import CUDAKernels
import Glibc

/// Sequences in a paged cache of one layer: blocks in random places, and not a number wherever nothing may be read.
struct PagedContext {
    let dimension: HeadDimension
    let keyHeads: Int
    /// Tokens of each slot.
    let lengths: [Int]
    let tableStride: Int
    /// Tokens before this are out of every row's window, by slot.
    let firstSeen: [Int]
    private(set) var keys: [BFloat16]
    private(set) var values: [BFloat16]
    private(set) var tables: [Int32]

    init(dimension: HeadDimension, keyHeads: Int, lengths: [Int], firstSeen: [Int]? = nil, random: inout CheckRandom) {
        self.dimension = dimension
        self.keyHeads = keyHeads
        self.lengths = lengths
        self.firstSeen = firstSeen ?? lengths.map { _ in 0 }
        tableStride = ((lengths.max() ?? 0) + 15) / 16 + 1
        let blockCount = tableStride * lengths.count + 2
        let size = keyHeads * 16 * dimension.rawValue
        let poison = BFloat16(bits: 0xFFFF)
        keys = Array(repeating: poison, count: blockCount * size)
        values = keys
        let order = random.shuffled(blockCount)
        // Block order[last] is never written: entries that must not be followed name it.
        tables = Array(repeating: order[blockCount - 1], count: tableStride * lengths.count)
        var next = 0
        for (slot, length) in lengths.enumerated() {
            for entry in self.firstSeen[slot] / 16..<(length + 15) / 16 {
                tables[slot * tableStride + entry] = order[next]
                next += 1
            }
            for token in self.firstSeen[slot] / 16 * 16..<length {
                for head in 0..<keyHeads {
                    let place = place(slot: slot, token: token, head: head)
                    for element in 0..<dimension.rawValue {
                        keys[place + element] = BFloat16(random.normal())
                        values[place + element] = BFloat16(random.normal())
                    }
                }
            }
        }
    }

    /// Index of a token's first element.
    func place(slot: Int, token: Int, head: Int) -> Int {
        let block = Int(tables[slot * tableStride + token / 16])
        return ((block * keyHeads + head) * 16 + token % 16) * dimension.rawValue
    }

    /// Attention of one query head in double precision.
    func attention(
        query: ArraySlice<BFloat16>, slot: Int, head: Int, position: Int, scale: Float, window: Int
    ) -> [Double] {
        let size = dimension.rawValue
        let first = window > 0 ? max(0, position + 1 - window) : 0
        let queries = query.map { Double($0.float) }
        var weights: [Double] = []
        for token in first...position {
            let start = place(slot: slot, token: token, head: head)
            var product = 0.0
            for element in 0..<size { product += queries[element] * Double(keys[start + element].float) }
            weights.append(product * Double(scale))
        }
        let largest = weights.max() ?? 0
        for index in weights.indices { weights[index] = exp(weights[index] - largest) }
        let sum = weights.reduce(0, +)
        var output = Array(repeating: 0.0, count: size)
        for token in first...position {
            let start = place(slot: slot, token: token, head: head)
            for element in 0..<size {
                output[element] += weights[token - first] / sum * Double(values[start + element].float)
            }
        }
        return output
    }
}
