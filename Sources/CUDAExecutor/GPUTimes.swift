// Tandem — Apache-2.0

public import CUDADriver
import CUDAKernels
import InferenceEngine
public import LanguageModel

/// Times of single kernels and products on a GPU, by its own clock.
public final class GPUTimes {
    /// One measurement.
    public struct Row: Sendable {
        /// Such as `attention_decode`.
        public var name: String
        /// What was computed, such as `batch` and `context`.
        public var sizes: [(key: String, value: Int)]
        /// Seconds of one launch: the median of several runs of several launches.
        public var seconds: Double
        /// Bytes that have to be read and written at least; 0 if bytes are not the limit.
        public var bytes: Double
        /// Multiplications and additions; 0 if they are not the limit.
        public var operations: Double
        /// Relative error against another way to compute the same; nil if it was not compared.
        public var error: Double?

        public var gigabytesPerSecond: Double { seconds > 0 ? bytes / seconds / 1e9 : 0 }
        public var teraflops: Double { seconds > 0 ? operations / seconds / 1e12 : 0 }
    }

    let session: GPUSession
    let library: MatrixLibrary?
    private let repetitions: Int

    /// - Parameter repetitions: launches of one run; fewer where time matters more than precision.
    public init(_ session: GPUSession, environment: [String: String], repetitions: Int = 20) throws(CUDAError) {
        self.session = session
        self.repetitions = max(1, repetitions)
        do throws(CUDAError) {
            library = try MatrixLibrary(session.context, environment: environment)
        } catch {
            guard error.kind == .missing else { throw error }
            library = nil
        }
    }

    /// Seconds of one call of `body`: the median of five runs.
    func time(_ body: () throws(CUDAError) -> Void) throws(CUDAError) -> Double {
        let begin = try CUDAEvent(session.context, measuresTime: true)
        let end = try CUDAEvent(session.context, measuresTime: true)
        try body()
        var times: [Double] = []
        for _ in 0..<5 {
            try session.stream.record(begin)
            for _ in 0..<repetitions { try body() }
            try session.stream.record(end)
            try end.synchronize()
            times.append(try end.seconds(since: begin) / Double(repetitions))
        }
        return times.sorted()[2]
    }

    func memory(_ byteCount: Int) throws(CUDAError) -> DeviceMemory {
        let memory = try DeviceMemory(session.context, byteCount: byteCount, purpose: "a measurement")
        try session.launch(
            .fillRandom(DevicePointer<BFloat16>(address: memory.address), count: byteCount / 2, seed: 3, scale: 1))
        return memory
    }

    /// The ceiling of everything that moves bytes.
    public func copy(bytes: Int) throws(CUDAError) -> Row {
        let source = try memory(bytes)
        let destination = try memory(bytes)
        let seconds = try time { () throws(CUDAError) in
            try session.stream.copy(from: source.address, to: destination.address, byteCount: bytes)
        }
        return Row(
            name: "copy", sizes: [("bytes", bytes)], seconds: seconds, bytes: 2 * Double(bytes), operations: 0)
    }

    /// Attention of a batch of sequences over their caches, in each cut that is worth a try and in the chosen one.
    public func decodeAttention(
        _ model: DecoderDescription, batch: Int, context: Int
    ) throws -> [Row] {
        let bench = try AttentionBench(session, model, sequences: batch, tokens: context, chunk: 1)
        let chosen = DecodeCut.chosen(
            rows: batch, heads: bench.heads, context: context.nextPowerOfTwo,
            multiprocessors: session.device.multiprocessors)
        var list: [Row] = []
        for (name, cut) in [("attention_decode", chosen)]
            + [1, 2, 4].map({ ("attention_decode_w\($0)", DecodeCut(warps: $0, splits: 1)) })
        {
            let seconds = try time { () throws(CUDAError) in try bench.decode(cut) }
            list.append(
                Row(
                    name: name,
                    sizes: [
                        ("batch", batch), ("context", context), ("head", bench.heads.dimension.rawValue),
                        ("query_heads", bench.heads.queryHeads), ("key_heads", bench.heads.keyHeads),
                        ("warps", cut.warps), ("splits", cut.splits),
                    ], seconds: seconds, bytes: bench.bytes, operations: 0))
        }
        let seconds = try time { () throws(CUDAError) in try bench.rotate() }
        // Queries and keys are read and written, values too.
        let bytes = 2 * Double(batch) * Double(bench.heads.stride) * 2
        list.append(
            Row(
                name: "rotate_and_store", sizes: [("batch", batch), ("context", context)], seconds: seconds,
                bytes: bytes, operations: 0))
        return list
    }

    /// Attention of whole prompts, by each kernel that the GPU has for it: the same chunks, one form after the other.
    public func prefillAttention(_ model: DecoderDescription, prompts: Int, tokens: Int) throws -> [Row] {
        var rows: [Row] = []
        for (form, name) in [
            (PrefillForm.wide, "attention_prefill"), (.narrow, "attention_prefill_narrow"),
            (.warpgroups, "attention_prefill_wgmma"),
        ] {
            let tiling = PrefillTiling(HeadDimension(rawValue: try DeviceShape(model).paddedHead) ?? .d64, form)
            let isAnother = form == .wide || tiling.kernel != .attentionPrefill256
            if isAnother && session.has(tiling.kernel) {
                rows.append(try prefillAttention(model, prompts: prompts, tokens: tokens, form, name: name))
            }
        }
        return rows
    }

    private func prefillAttention(
        _ model: DecoderDescription, prompts: Int, tokens: Int, _ form: PrefillForm, name: String
    ) throws -> Row {
        let bench = try AttentionBench(
            session, model, sequences: prompts, tokens: tokens, chunk: tokens, form: form)
        let seconds = try time { () throws(CUDAError) in try bench.prefill() }
        let pairs = Double(prompts) * Double(tokens) * Double(tokens + 1) / 2
        return Row(
            name: name,
            sizes: [
                ("prompts", prompts), ("tokens", tokens), ("head", bench.heads.dimension.rawValue),
                ("query_heads", bench.heads.queryHeads), ("key_heads", bench.heads.keyHeads),
            ], seconds: seconds, bytes: 0,
            operations: 4 * pairs * Double(bench.heads.queryHeads * bench.heads.dimension.rawValue))
    }

    /// The kernels between the products of a layer, and those after the head.
    public func rowKernels(_ model: DecoderDescription, rows: Int) throws -> [Row] {
        let shape = try DeviceShape(model)
        let (hidden, width) = (shape.hiddenSize, shape.intermediateSize)
        let residual = try memory(rows * hidden * 4)
        let x = try memory(rows * hidden * 2)
        let y = try memory(rows * hidden * 2)
        let weight = try memory(hidden * 4)
        let gateUp = try memory(rows * width * 4)
        let gated = try memory(rows * width * 2)
        let logitRows = min(rows, 1024)
        let logits = try memory(logitRows * shape.vocabularyStride * 4)
        try session.launch(
            .fillRandom(
                DevicePointer<Float>(address: residual.address), count: rows * hidden, seed: 1, centre: 0, scale: 1))
        try session.launch(
            .fillRandom(DevicePointer<Float>(address: weight.address), count: hidden, seed: 1, centre: 1, scale: 0.1))
        try session.launch(
            .fillRandom(
                DevicePointer<Float>(address: logits.address), count: logitRows * shape.vocabularyStride, seed: 1,
                centre: 0, scale: 8))
        let count = Double(rows)
        var list: [Row] = []
        func measure(_ name: String, _ rows: Int, bytes: Double, _ launch: KernelLaunch) throws {
            let seconds = try time { () throws(CUDAError) in try session.launch(launch) }
            list.append(
                Row(name: name, sizes: [("rows", rows)], seconds: seconds, bytes: bytes, operations: 0))
        }
        try measure(
            "add_rms_norm", rows, bytes: count * Double(hidden) * 12,
            .addNorm(
                residual: DevicePointer(address: residual.address), x: DevicePointer(address: x.address),
                postWeight: nil, weight: DevicePointer(address: weight.address), y: DevicePointer(address: y.address),
                hidden: hidden, epsilon: 1e-6, count: rows))
        try measure(
            "gated_silu", rows, bytes: count * Double(width) * 6,
            .gate(
                .silu, gateUp: DevicePointer(address: gateUp.address), y: DevicePointer(address: gated.address),
                intermediate: width, count: rows))
        try measureSampling(logits.address, logitRows, shape, measure)
        return list
    }

    private func measureSampling(
        _ logits: DeviceAddress, _ rows: Int, _ shape: DeviceShape,
        _ measure: (String, Int, Double, KernelLaunch) throws -> Void
    ) throws {
        let sampled = try memory(rows * 4)
        let lastTokens = try memory(rows * 4)
        let descriptions = try memory(rows * MemoryLayout<SampleRow>.stride)
        let stats = try memory(rows * 8)
        let indices = try memory(rows * 4)
        let bytes = Double(rows) * Double(shape.vocabularySize) * 4
        let logitRows = LogitRows(
            base: DevicePointer(address: logits), stride: shape.vocabularyStride, vocabulary: shape.vocabularySize)
        func put(_ elements: [SampleRow]) throws(CUDAError) {
            try session.stream.upload(
                elements.withUnsafeBytes { Array($0) }, to: descriptions.address)
        }
        for (name, temperature, topK, topP) in [
            ("sample_greedy", Float(0), Int32(0), Float(1)), ("sample_temperature", 0.8, 0, 1),
            ("sample_top_p", 0.8, 50, 0.9),
        ] {
            try put(
                (0..<rows).map {
                    SampleRow(
                        seed: UInt64($0), row: Int32($0), slot: Int32($0), position: 9, temperature: temperature,
                        topK: topK, topP: topP)
                })
            try measure(
                name, rows, bytes,
                .sampleRows(
                    logitRows, rows: DevicePointer(address: descriptions.address), masks: nil,
                    sampled: DevicePointer(address: sampled.address),
                    lastTokens: DevicePointer(address: lastTokens.address), count: rows))
        }
        try session.stream.upload((0..<Int32(rows)).map { $0 }, to: indices.address)
        try measure(
            "logit_statistics", rows, bytes,
            .logitStatistics(
                logitRows, rows: DevicePointer(address: indices.address), stats: DevicePointer(address: stats.address),
                count: rows))
    }
}

/// Memory for attention over made-up caches.
private final class AttentionBench {
    let heads: ProjectedHeads
    /// That decoding reads and writes at least.
    let bytes: Double
    private let session: GPUSession
    private let cache: PagedCache
    private let decodeRows: DecodeRows
    private let prefillRows: PrefillRows
    private let form: PrefillForm
    private let out: DevicePointer<BFloat16>
    private let partial: PartialAttention
    private let rotary: DevicePointer<Float>
    private let scale: Float
    private let memories: [DeviceMemory]

    init(
        _ session: GPUSession, _ model: DecoderDescription, sequences: Int, tokens: Int, chunk: Int,
        form: PrefillForm = .wide
    ) throws {
        self.session = session
        let shape = try DeviceShape(model)
        guard let dimension = HeadDimension(rawValue: shape.paddedHead) else {
            throw ExecutorError(kind: .unsupported, message: "heads of \(shape.paddedHead) elements")
        }
        var memories: [DeviceMemory] = []
        func take(_ count: Int) throws(CUDAError) -> DeviceAddress {
            let memory = try DeviceMemory(session.context, byteCount: count, purpose: "a measurement")
            memories.append(memory)
            return memory.address
        }
        func numbers(_ count: Int) throws(CUDAError) -> DevicePointer<BFloat16> {
            let pointer = DevicePointer<BFloat16>(address: try take(count * 2))
            try session.launch(.fillRandom(pointer, count: count, seed: 5, scale: 1))
            return pointer
        }
        func words(_ values: [Int32]) throws(CUDAError) -> DevicePointer<Int32> {
            let address = try take(values.count * 4)
            try session.stream.upload(values, to: address)
            return DevicePointer(address: address)
        }
        let entries = (tokens + 15) / 16
        let rows = sequences * chunk
        heads = ProjectedHeads(
            rows: try numbers(rows * shape.queryKeyValueWidth), queryHeads: shape.queryHeads,
            keyHeads: shape.keyValueHeads, dimension: dimension)
        let elements = sequences * entries * 16 * shape.keyValueHeads * shape.paddedHead
        var table: [Int32] = []
        for sequence in 0..<sequences { for entry in 0..<entries { table.append(Int32(entry * sequences + sequence)) } }
        cache = PagedCache(
            keys: try numbers(elements), values: try numbers(elements), tables: try words(table), tableStride: entries)
        out = try numbers(rows * shape.queryWidth)
        let all = (0..<Int32(sequences)).map { $0 }
        decodeRows = DecodeRows(
            tokens: try words(all), slots: try words(all),
            positions: try words(Array(repeating: Int32(tokens - 1), count: sequences)), count: sequences)
        self.form = form
        var tiles = PrefillTiles()
        for row in all {
            tiles.add(
                row: row, tokens: chunk, past: tokens - chunk, group: shape.group,
                tileRows: PrefillTiling(dimension, form).tileRows)
        }
        tiles.sort()
        prefillRows = PrefillRows(
            tileRows: try words(tiles.rows), tileStarts: try words(tiles.starts), tileCount: tiles.rows.count,
            tokens: try words(all.map { $0 * Int32(chunk) }),
            counts: try words(Array(repeating: Int32(chunk), count: sequences)), slots: try words(all),
            positions: try words(Array(repeating: Int32(tokens - chunk), count: sequences)))
        let blocks = 3 * session.device.multiprocessors + DecodeCut.mostSplits
        partial = PartialAttention(
            outputs: DevicePointer(address: try take(blocks * 8 * shape.paddedHead * 4)),
            stats: DevicePointer(address: try take(blocks * 64)))
        rotary = DevicePointer(address: try take(tokens * shape.paddedHead * 4))
        try session.launch(
            .fillRandom(rotary, count: tokens * shape.paddedHead, seed: 6, centre: 0, scale: 1))
        scale = 1 / Float(shape.headDimension).squareRoot()
        bytes =
            Double(sequences) * (Double(tokens * 2 * shape.keyValueHeads) + Double(2 * shape.queryHeads))
            * Double(shape.paddedHead) * 2
        self.memories = memories
        try session.stream.synchronize()
    }

    func decode(_ cut: DecodeCut) throws(CUDAError) {
        try session.launch(
            .attentionDecode(
                heads, cache: cache, rows: decodeRows, out: out, partial: cut.splits > 1 ? partial : nil, scale: scale,
                window: 0, cut: cut))
        guard cut.splits > 1 else { return }
        try session.launch(
            .attentionCombine(heads, rows: decodeRows, out: out, partial: partial, splits: cut.splits))
    }

    /// The new tokens' way into the cache, for rows of one token.
    func rotate() throws(CUDAError) {
        try session.launch(
            .rotateAndStore(
                heads, positions: decodeRows.positions, slots: decodeRows.slots, cache: cache, rotary: rotary,
                queryNorm: nil, keyNorm: nil, epsilon: 1e-6, count: decodeRows.count))
    }

    func prefill() throws(CUDAError) {
        try session.launch(
            .attentionPrefill(
                heads, cache: cache, rows: prefillRows, out: out, scale: scale, window: 0, form: form))
    }
}
