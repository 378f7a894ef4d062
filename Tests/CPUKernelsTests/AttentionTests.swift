// Tandem — Apache-2.0
import CPUKernels
import Foundation
import Testing

/// One sequence in a scattered block table, with queries for some of its positions.
struct Sequence {
    let headDimension: Int
    let bf16: Bool
    let keys: [[Float]]
    let values: [[Float]]
    /// Blocks of the pool that hold no token of the sequence, and unused slots of its last one, hold `stale`.
    let keyPool: Memory
    let valuePool: Memory
    let blockBytes: Int
    var table: [Int32]

    init(_ set: InstructionSet, tokens: Int, headDimension: Int, bf16: Bool, seed: UInt64, stale: Float = 0) {
        self.headDimension = headDimension
        self.bf16 = bf16
        var numbers = Numbers(seed)
        keys = (0..<tokens).map { _ in numbers.floats(headDimension, 2) }
        values = (0..<tokens).map { _ in numbers.floats(headDimension) }
        blockBytes = bf16 ? tandem_kv_block_bytes_bf16(headDimension) : tandem_kv_block_bytes_f32(headDimension)
        let blocks = (tokens + 15) / 16
        table = (0..<blocks).map { Int32(($0 * 5 + 3) % (blocks * 5)) }
        // Strides leave room for another KV head.
        keyPool = Memory(bytes: blocks * 5 * blockBytes * 2)
        valuePool = Memory(bytes: blocks * 5 * blockBytes * 2)
        let store = bf16 ? set.kernels.kv_store_bf16 : set.kernels.kv_store_f32
        let junk = [Float](repeating: stale, count: headDimension)
        for block in 0..<blocks * 5 {
            for slot in 0..<16 {
                let at = block * blockBytes * 2
                store(junk, junk, headDimension, slot, keyPool.base + at, valuePool.base + at)
            }
        }
        for token in 0..<tokens {
            let at = Int(table[token / 16]) * blockBytes * 2
            store(keys[token], values[token], headDimension, token % 16, keyPool.base + at, valuePool.base + at)
        }
    }

    struct Row {
        var query: [Float]
        var context: Int
        var windowStart = 0
    }

    func attend(_ set: InstructionSet, _ rows: [Row]) -> [[Float]] {
        let memory = Memory(rows.flatMap(\.query))
        // The output replaces the query.
        let descriptors = rows.indices.map {
            tandem_attention_row(
                query: memory.floats($0 * headDimension), out: memory.floats($0 * headDimension),
                context: Int32(rows[$0].context), window_start: Int32(rows[$0].windowStart))
        }
        table.withUnsafeBufferPointer { table in
            var call = tandem_attention(
                block_table: table.baseAddress!, keys: keyPool.base, values: valuePool.base,
                key_block_stride: blockBytes * 2, value_block_stride: blockBytes * 2, head_dim: headDimension,
                scale: 1 / Float(headDimension).squareRoot())
            (bf16 ? set.kernels.attention_bf16 : set.kernels.attention_f32)(&call, descriptors, descriptors.count)
        }
        return rows.indices.map { memory.array(headDimension, from: $0 * headDimension) }
    }

    /// Softmax attention in double over the query as rounded and the keys and values as stored.
    func reference(_ row: Row) -> [Double] {
        func stored(_ value: Float) -> Double { Double(bf16 ? roundedToBFloat16(value) : value) }
        let visible = row.windowStart..<row.context
        let scale = 1 / Float(headDimension).squareRoot()
        // bf16 queries are binary logarithms.
        let binary: Float = 1.44269504088896341
        let query = row.query.map { bf16 ? stored($0 * (scale * binary)) / Double(binary) : Double($0 * scale) }
        let scores = visible.map { key in
            zip(query, keys[key]).reduce(0) { $0 + $1.0 * stored($1.1) }
        }
        let largest = scores.max()!
        let weights = scores.map { exp($0 - largest) }
        let total = weights.reduce(0, +)
        return (0..<headDimension).map { d in
            zip(visible, weights).reduce(0) { $0 + $1.1 * stored(values[$1.0][d]) } / total
        }
    }
}

@Suite struct AttentionTests {
    /// Probabilities are rounded to bf16, or not at all.
    static func tolerance(bf16: Bool) -> Double { bf16 ? 0x1p-8 : 3e-6 }

    @Test(
        arguments: InstructionSet.available,
        [(64, true), (64, false), (16, true), (48, false), (128, true), (256, false)])
    func equalsSoftmaxInDouble(set: InstructionSet, shape: (Int, Bool)) {
        let tokens = 150
        let sequence = Sequence(set, tokens: tokens, headDimension: shape.0, bf16: shape.1, seed: 1)
        var numbers = Numbers(2)
        let rows = [1, 2, 15, 16, 17, 63, 64, 65, 100, 128, 129, 150].map {
            Sequence.Row(query: numbers.floats(shape.0, 2), context: $0)
        }
        for (row, out) in zip(rows, sequence.attend(set, rows)) {
            #expect(
                relativeError(out, sequence.reference(row)) < Self.tolerance(bf16: shape.1), "context \(row.context)")
        }
    }

    @Test(arguments: InstructionSet.available, [true, false])
    func honoursTheWindow(set: InstructionSet, bf16: Bool) {
        var sequence = Sequence(set, tokens: 300, headDimension: 64, bf16: bf16, seed: 3)
        // Blocks behind every row's window are gone from the table.
        for block in 0..<6 { sequence.table[block] = .min }
        var numbers = Numbers(4)
        let rows = [(100, 96), (130, 100), (200, 190), (201, 137), (300, 299), (300, 97)].map {
            Sequence.Row(query: numbers.floats(64, 2), context: $0.0, windowStart: $0.1)
        }
        for (row, out) in zip(rows, sequence.attend(set, rows)) {
            #expect(
                relativeError(out, sequence.reference(row)) < Self.tolerance(bf16: bf16),
                "\(row.windowStart)..<\(row.context)")
        }
    }

    /// A row alone and among any others: the same bits.
    @Test(arguments: InstructionSet.available, [true, false])
    func aRowsBitsDoNotDependOnTheOthers(set: InstructionSet, bf16: Bool) {
        let sequence = Sequence(set, tokens: 260, headDimension: 80, bf16: bf16, seed: 5)
        var numbers = Numbers(6)
        let rows = (0..<23).map { i in
            let context = 1 + Int(numbers.bits() % 260)
            return Sequence.Row(
                query: numbers.floats(80, 2), context: context, windowStart: i % 3 == 0 ? context * 2 / 3 : 0)
        }
        let alone = rows.map { bits(sequence.attend(set, [$0])[0]) }
        #expect(sequence.attend(set, rows).map(bits) == alone)
        for size in 2...7 {
            let some = Array(rows[size..<2 * size])
            #expect(sequence.attend(set, some).map(bits) == Array(alone[size..<2 * size]), "\(size) rows")
        }
    }

    /// What lies in slots and blocks that a row does not see: the same bits.
    @Test(arguments: InstructionSet.available, [true, false])
    func staleSlotsDoNotShow(set: InstructionSet, bf16: Bool) {
        let clean = Sequence(set, tokens: 70, headDimension: 64, bf16: bf16, seed: 7)
        let dirty = Sequence(set, tokens: 70, headDimension: 64, bf16: bf16, seed: 7, stale: -.infinity)
        let broken = Sequence(set, tokens: 70, headDimension: 64, bf16: bf16, seed: 7, stale: .nan)
        var numbers = Numbers(8)
        let rows = [1, 3, 64, 69, 70].map { Sequence.Row(query: numbers.floats(64, 2), context: $0) }
        let expected = clean.attend(set, rows).map(bits)
        #expect(dirty.attend(set, rows).map(bits) == expected)
        #expect(broken.attend(set, rows).map(bits) == expected)
    }

    @Test(arguments: InstructionSet.available, [true, false])
    func oneVisibleKeyReturnsItsValue(set: InstructionSet, bf16: Bool) {
        let sequence = Sequence(set, tokens: 40, headDimension: 32, bf16: bf16, seed: 9)
        let query = [Float](repeating: 30, count: 32)
        let out = sequence.attend(
            set, [.init(query: query, context: 34, windowStart: 33), .init(query: query, context: 1)])
        let stored = sequence.values.map { $0.map { bf16 ? roundedToBFloat16($0) : $0 } }
        #expect(out[0] == stored[33])
        #expect(out[1] == stored[0])
    }

    @Test(arguments: InstructionSet.available)
    func storesInTheDocumentedPlaces(set: InstructionSet) {
        let (dimension, slot) = (32, 5)
        var numbers = Numbers(10)
        var key = numbers.floats(dimension)
        let value = numbers.floats(dimension)
        key[0] = .infinity
        key[1] = .nan
        let keys16 = Memory(bytes: tandem_kv_block_bytes_bf16(dimension))
        let values16 = Memory(bytes: tandem_kv_block_bytes_bf16(dimension))
        let keys32 = Memory(bytes: tandem_kv_block_bytes_f32(dimension))
        let values32 = Memory(bytes: tandem_kv_block_bytes_f32(dimension))
        set.kernels.kv_store_bf16(key, value, dimension, slot, keys16.base, values16.base)
        set.kernels.kv_store_f32(key, value, dimension, slot, keys32.base, values32.base)
        // Pairs of components of a token; pairs of tokens of a component.
        let keyPlaces = (0..<dimension).map { 32 * ($0 / 2) + 2 * slot + $0 % 2 }
        let valuePlaces = (0..<dimension).map { 2 * (slot / 2 * dimension + $0) + slot % 2 }
        let k16 = keys16.raw.bindMemory(to: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
        let v16 = values16.raw.bindMemory(to: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
        #expect(k16[keyPlaces[0]] > 3e38 && k16[keyPlaces[0]].isFinite && k16[keyPlaces[1]].isFinite)
        #expect(keys32.floats()[slot] > 3e38 && keys32.floats()[slot].isFinite && keys32.floats()[16 + slot].isFinite)
        for d in 0..<dimension {
            if d > 1 {
                #expect(k16[keyPlaces[d]] == roundedToBFloat16(key[d]))
                #expect(keys32.floats()[16 * d + slot] == key[d])
            }
            #expect(v16[valuePlaces[d]] == roundedToBFloat16(value[d]))
            #expect(values32.floats()[slot * dimension + d] == value[d])
        }
        // Nothing else was touched.
        #expect(k16.indices.allSatisfy { keyPlaces.contains($0) || k16[$0] == 0 })
        #expect(v16.indices.allSatisfy { valuePlaces.contains($0) || v16[$0] == 0 })
    }
}
