// Tandem — Apache-2.0

import GPUModel
import Glibc
import JSON
import LanguageModel
import Testing

/// Measurements that the repository holds.
enum Measured {
    private static let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()

    private static func text(_ path: String) throws -> String {
        let file = try #require(fopen(root + "/" + path, "r"), "\(path) is missing")
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A kernel of the published sample.
    struct Sample {
        var gpu: String
        var kind: String
        var sizes: [Double]
        var seconds: Double
    }

    /// Rows of NVIDIA's tables that the fit of the parameters left out.
    static func published() throws -> [Sample] {
        try text("Tests/Fixtures/gpu-model/kernels.tsv").split(separator: "\n").filter { !$0.hasPrefix("#") }.map {
            let fields = $0.split(separator: "\t")
            try #require(fields.count == 4)
            return Sample(
                gpu: String(fields[0].split(separator: "_")[0]), kind: String(fields[1]),
                sizes: fields[2].split(separator: " ").compactMap { Double($0) },
                seconds: try #require(Double(fields[3])) * 1e-6)
        }
    }

    /// Rows of the H100 probe of 2026-11-26.
    static func probe(_ name: String) throws -> [JSONObject] {
        try text("Results/gpu-probe/h100-2026-11-26/\(name).jsonl").split(separator: "\n").map {
            try #require(try JSONParser.parse(Array($0.utf8)).object)
        }
    }

    /// A loop of the H100 probe, alone and with a second one beside it.
    struct Cell {
        var arm: String
        var model: String
        var isDecode: Bool
        var context: Double
        var batch: Double
        var ablation: Ablation
        var pause: Double
        var one: Double
        var each: [Double]
        var twoStreams: Double?
    }

    static func cells(arm: String) throws -> [Cell] {
        try probe("sharing").compactMap { row in
            guard row["arm"]?.string == arm, let one = row["one_per_s"]?.number, let model = row["model"]?.string,
                let context = row["context"]?.number, let batch = row["batch"]?.number
            else { return nil }
            return Cell(
                arm: arm, model: "qwen2.5-" + model, isDecode: row["kind"]?.string == "decode", context: context,
                batch: batch, ablation: Ablation(rawValue: row["ablate"]?.string ?? "full") ?? .full,
                pause: (row["stall_us"]?.number ?? 0) * 1e-6, one: one,
                each: row["each_per_s"]?.array?.compactMap(\.number) ?? [],
                twoStreams: row["two_streams_per_s"]?.number)
        }
    }
}

extension Measured.Cell {
    /// Launch of a graph to its result seen on the host: measured, driver.jsonl (`round_trip`, `launch_to_synced_us`).
    static let roundTrip = 9e-6

    /// The step as PyTorch ran it.
    func profile(_ device: DeviceParameters) throws -> StepProfile {
        var description = try #require(BuiltInModel.named(model)).description
        description.ablation = ablation
        let shape =
            isDecode
            ? StepShape(decoding: batch, context: context) : StepShape(prompts: batch, promptLength: context)
        return StepModel(model: description, device: device, fusion: .eager).profile(shape)
    }

    /// Seconds that the GPU took for a step alone.
    var deviceSeconds: Double { 1 / one - hostSeconds }

    var hostSeconds: Double { pause + Self.roundTrip }

    func isSameLoop(as other: Self) -> Bool {
        model == other.model && isDecode == other.isDecode && context == other.context && batch == other.batch
            && ablation == other.ablation && pause == other.pause
    }
}

extension DeviceParameters {
    /// Seconds of a kernel of the published sample.
    func seconds(_ sample: Measured.Sample) -> Double {
        let sizes = sample.sizes
        return switch sample.kind {
        case "product": matrixProduct("", .rest, rows: sizes[0], columns: sizes[1], inner: sizes[2]).seconds
        case "decode":
            attentionToCache(
                sequences: sizes[0], context: sizes[1], queryHeads: Int(sizes[2]), keyValueHeads: Int(sizes[3]),
                headDimension: Int(sizes[4])
            ).seconds
        default:
            attentionInPrompts(
                prompts: sizes[0], length: sizes[1], window: nil, queryHeads: Int(sizes[2]),
                headDimension: Int(sizes[4])
            ).seconds
        }
    }
}

func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

func middle(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
