// Tandem — Apache-2.0

import CPUKernels
import LanguageModel
import Requests
import TestSupport
import Testing
import Weights

@testable import CPUExecutor

/// What is packed is what the file says.
@Suite struct PackingTests {
    /// Packs a model and gives its entries, and each packed matrix's and vector's rows as floats.
    static func unpack(
        _ model: DecoderDescription, _ file: any TensorSource, _ compute: CPUCompute
    ) throws -> [(entry: PackedLayout.Entry, rows: [[Float]])] {
        let layout = try PackedLayout(model: model, file: file, compute: compute)
        let kernels = tandem_kernels_best()
        let weights = try SharedWeights(
            descriptor: nil,
            identity: SharedWeights.Identity(
                compute: compute, model: Digest128(high: 0, low: 0), totalBytes: layout.totalBytes)
        ) { destination in
            WeightPacker(
                model: model, file: file, layout: layout, kernels: kernels, destination: destination, progress: nil
            ).run()
        }
        return layout.entries.map { entry in
            let base = weights.base + entry.offset
            let unpackRow: tandem_unpack_row
            switch entry.format {
            case .vector:
                let values = UnsafeRawBufferPointer(start: base, count: entry.columns * 4).bindMemory(to: Float.self)
                return (entry, [Array(values)])
            case .u4: unpackRow = kernels.pointee.unpack_row_u4
            case .u5: unpackRow = kernels.pointee.unpack_row_u5
            case .u8: unpackRow = kernels.pointee.unpack_row_u8
            case .bf16: unpackRow = kernels.pointee.unpack_row_bf16
            case .f32: unpackRow = kernels.pointee.unpack_row_f32
            }
            let rows = (0..<entry.rows).map { row in
                [Float](unsafeUninitializedCapacity: entry.columns) { buffer, count in
                    if let output = buffer.baseAddress { unpackRow(base, entry.columns, row, output) }
                    count = entry.columns
                }
            }
            return (entry, rows)
        }
    }

    /// The tensor's rows in packed order.
    static func rows(_ entry: PackedLayout.Entry, _ model: DecoderDescription, _ file: any TensorSource) -> [[Float]] {
        let values = file.floats(of: entry.tensor)
        let rows = (0..<entry.rows).map { Array(values[$0 * entry.columns..<($0 + 1) * entry.columns]) }
        switch entry.role {
        case .query, .key: break
        default: return rows
        }
        let order = model.ropes[0].fileRows(headDimension: model.headDimension)
        return rows.indices.map { rows[$0 / order.count * order.count + order[$0 % order.count]] }
    }

    @Test(arguments: TinyModel.Format.allCases) func everyFormatKeepsItsNumbers(_ format: TinyModel.Format) throws {
        let file = try TinyModel.holding(format).file()
        let model = try DecoderDescription(gguf: file)
        let expected: PackedFormat =
            switch format {
            case .q4_0, .q4_1, .q4_K: .u4
            case .q5_0, .q5_1, .q5_K: .u5
            default: .u8
            }
        for compute in CPUCompute.allCases {
            for (entry, ours) in try Self.unpack(model, file, compute) {
                if compute == .int8, case .down = entry.role { #expect(entry.format == expected) }
                let truth = Self.rows(entry, model, file)
                try #require(ours.count == truth.count)
                // Of the largest number of 32: half a step of what the panels round to.
                let tolerance: Float =
                    switch entry.format {
                    case .vector, .f32: 0
                    case .bf16: 1 / 256
                    // Scales and minima are rounded to f16; with a minimum of 16 scales, the error is that of both.
                    case .u4, .u5: 1 / 512
                    case .u8: format == .q8_0 ? 0 : 1 / 200
                    }
                for (own, exact) in zip(ours, truth) {
                    for start in stride(from: 0, to: exact.count, by: 32) {
                        let block = start..<min(start + 32, exact.count)
                        let most = exact[block].reduce(0) { max($0, abs($1)) }
                        let error = block.reduce(Float(0)) { max($0, abs(own[$1] - exact[$1])) }
                        #expect(error <= tolerance * most, "\(entry.tensor.name), \(compute)")
                    }
                }
            }
        }
    }

    @Test func theOffsetIsAddedToNormsAndToNothingElse() throws {
        let tiny = TinyModel(family: .gemma3)
        let file = try tiny.file()
        var model = tiny.model()
        for index in model.ropes.indices { model.ropes[index].fileLayout = .halfSplit }
        model.normOffset = 1
        for (entry, rows) in try Self.unpack(model, file, .f32) {
            let offset: Float = entry.tensor.name.contains("norm") ? 1 : 0
            #expect(rows.flatMap(\.self) == file.floats(of: entry.tensor).map { $0 + offset }, "\(entry.tensor.name)")
        }
    }

    @Test func biasesFollowTheirRows() throws {
        let tiny = TinyModel(family: .qwen2)
        let file = try tiny.file()
        let model = tiny.model()
        try #require(model.ropes[0].fileLayout == .interleaved)
        for (entry, rows) in try Self.unpack(model, file, .f32) {
            let values = file.floats(of: entry.tensor)
            let half = model.headDimension / 2
            switch entry.role {
            case .queryBias, .keyBias:
                #expect(rows[0][1] == values[2] && rows[0][half] == values[1] && rows[0][2 * half] == values[2 * half])
            case .valueBias: #expect(rows[0] == values)
            default: break
            }
        }
    }
}
