// Tandem — Apache-2.0

public import GPUModel
internal import Glibc
public import JSON
public import LanguageModel

/// Measurements that the repository holds.
public enum Measured {
    /// A file that is missing or is not what it was.
    public struct Problem: Error, CustomStringConvertible {
        public var description: String

        public init(description: String) { self.description = description }
    }

    private static let root = #filePath.split(separator: "/").dropLast(4).map { "/" + $0 }.joined()

    private static func lines(_ path: String) throws -> [Substring] {
        guard let file = fopen(root + "/" + path, "r") else { throw Problem(description: "\(path) is missing") }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix("#") }
    }

    /// A kernel of the published sample.
    public struct Sample: Sendable {
        public var gpu: String
        /// `product`, `decode` or `prefill`.
        public var kind: String
        public var sizes: [Double]
        public var seconds: Double

        /// Seconds that the roofline says.
        public func seconds(on device: DeviceParameters) -> Double {
            switch kind {
            case "product": device.matrixProduct("", .rest, rows: sizes[0], columns: sizes[1], inner: sizes[2]).seconds
            case "decode":
                device.attentionToCache(
                    sequences: sizes[0], context: sizes[1], queryHeads: Int(sizes[2]), keyValueHeads: Int(sizes[3]),
                    headDimension: Int(sizes[4])
                ).seconds
            default:
                device.attentionInPrompts(
                    prompts: sizes[0], length: sizes[1], window: nil, queryHeads: Int(sizes[2]),
                    headDimension: Int(sizes[4])
                ).seconds
            }
        }
    }

    /// Rows of NVIDIA's tables that the fit of the parameters left out.
    public static func published() throws -> [Sample] {
        try lines("Tests/Fixtures/gpu-model/kernels.tsv").map { line in
            let fields = line.split(separator: "\t")
            guard fields.count == 4, let time = Double(fields[3]) else { throw Problem(description: "\(line)") }
            return Sample(
                gpu: String(fields[0].split(separator: "_")[0]), kind: String(fields[1]),
                sizes: fields[2].split(separator: " ").compactMap { Double($0) }, seconds: time * 1e-6)
        }
    }

    /// A server that was measured from outside.
    public struct Served: Sendable {
        public var promptTokens: Int
        public var outputTokens: Int
        public var batch: Int
        /// Seconds for each token after the first.
        public var secondsPerToken: Double
    }

    /// Llama-3.1-8B on an H100 by TensorRT-LLM, as published.
    public static func served() throws -> [Served] {
        try lines("Tests/Fixtures/gpu-model/end-to-end.tsv").map { line in
            let fields = line.split(separator: "\t").compactMap { Double($0) }
            guard fields.count == 5 else { throw Problem(description: "\(line)") }
            return Served(
                promptTokens: Int(fields[0]), outputTokens: Int(fields[1]), batch: Int(fields[2]),
                secondsPerToken: fields[4] * 1e-3)
        }
    }

    /// Rows of the H100 probe of 2026-11-26.
    public static func probe(_ name: String) throws -> [JSONObject] {
        try lines("Results/gpu-probe/h100-2026-11-26/\(name).jsonl").map {
            guard let row = try JSONParser.parse(Array($0.utf8)).object else { throw Problem(description: "\($0)") }
            return row
        }
    }

    /// A loop of the H100 probe, alone and with others beside it.
    public struct Cell: Sendable {
        public var arm: String
        /// Gains compare figures of one run.
        public var run: Int
        public var model: String
        public var isDecode: Bool
        public var context: Double
        public var batch: Double
        public var ablation: Ablation
        /// Seconds of the host after each step, beside the round trip.
        public var pause: Double
        /// Steps a second alone.
        public var one: Double
        /// Steps a second of each of several processes at once.
        public var each: [Double]
        /// Steps a second of two graphs in one process together.
        public var twoStreams: Double?
    }

    public static func cells(arm: String) throws -> [Cell] {
        try probe("sharing").compactMap { row in
            guard row["arm"]?.string == arm, let one = row["one_per_s"]?.number, let model = row["model"]?.string,
                let context = row["context"]?.number, let batch = row["batch"]?.number
            else { return nil }
            return Cell(
                arm: arm, run: Int(row["run"]?.integer ?? 0), model: "qwen2.5-" + model,
                isDecode: row["kind"]?.string == "decode", context: context,
                batch: batch, ablation: Ablation(rawValue: row["ablate"]?.string ?? "full") ?? .full,
                pause: (row["stall_us"]?.number ?? 0) * 1e-6, one: one,
                each: row["each_per_s"]?.array?.compactMap(\.number) ?? [],
                twoStreams: row["two_streams_per_s"]?.number)
        }
    }

    /// What the probe measured of single kernels: cuBLASLt's products, PyTorch's attention, our norms and activations.
    public static func kernels() throws -> [ProbeMeasurement] {
        let rows = try probe("kernels")
        return try products() + attentions(rows, "torch_sdpa_us") + transfers(rows)
    }

    public static func products() throws -> [ProbeMeasurement] {
        try probe("gemm").compactMap { row in
            guard let m = row["m"]?.number, let n = row["n"]?.number, let k = row["k"]?.number,
                let time = row["graph_us"]?.number
            else { return nil }
            return .product(rows: m, columns: n, inner: k, seconds: time * 1e-6)
        }
    }

    /// - Parameter key: which kernel's time: `best_us` for ours, `torch_sdpa_us` for PyTorch's.
    public static func attentions(_ rows: [JSONObject], _ key: String) -> [ProbeMeasurement] {
        rows.compactMap { row in
            guard row["check"]?.string == "decode", let batch = row["batch"]?.number, let context = row["ctx"]?.number,
                let query = row["q"]?.integer, let keyValue = row["kv"]?.integer, let head = row["hd"]?.integer,
                let time = row[key]?.number
            else { return nil }
            return .decodeAttention(
                sequences: batch, context: context, queryHeads: Int(query), keyValueHeads: Int(keyValue),
                headDimension: Int(head), seconds: time * 1e-6)
        }
    }

    private static func transfers(_ rows: [JSONObject]) -> [ProbeMeasurement] {
        rows.compactMap { row in
            guard row["check"]?.string == "right", let time = row["us_in_graph"]?.number,
                let rate = row["gb_per_s"]?.number
            else { return nil }
            return .transfer(bytes: rate * time * 1e3, seconds: time * 1e-6)
        }
    }
}

extension Measured.Cell {
    /// Launch of a graph to its result seen on the host: measured, driver.jsonl (`round_trip`, `launch_to_synced_us`).
    public static let roundTrip = 9e-6

    /// The step as PyTorch ran it.
    public func profile(_ device: DeviceParameters) throws -> StepProfile {
        guard var description = BuiltInModel.named(model)?.description else {
            throw Measured.Problem(description: model)
        }
        description.ablation = ablation
        let shape =
            isDecode
            ? StepShape(decoding: batch, context: context) : StepShape(prompts: batch, promptLength: context)
        return StepModel(model: description, device: device, fusion: .eager).profile(shape)
    }

    /// Seconds that the GPU took for a step alone.
    public var deviceSeconds: Double { 1 / one - hostSeconds }

    public var hostSeconds: Double { pause + Self.roundTrip }

    public func isSameLoop(as other: Self) -> Bool {
        model == other.model && isDecode == other.isDecode && context == other.context && batch == other.batch
            && ablation == other.ablation && pause == other.pause
    }
}
