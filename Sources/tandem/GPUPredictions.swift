// Tandem — Apache-2.0

import ArgumentParser
import GPUModel
import Glibc
import JSON
import LanguageModel

/// The model's times of single kernels beside measured ones; no GPU takes part.
struct GPUPredictions {
    /// Measured microseconds by kernel, model and sizes; see ``key(_:_:_:)``.
    private var measured: [String: Double] = [:]
    private let device: DeviceParameters

    private static let sizeKeys = ["rows", "outputs", "inputs", "batch", "context", "prompts", "tokens"]
    /// Measured kernels that compute what a prediction is of; the first two are the ones that an engine takes.
    private static let measuredNames = [
        "product": ["product_first", "product_fastest"],
        "attention_prefill": ["attention_prefill", "attention_prefill_wgmma"],
    ]

    /// - Parameter file: lines of JSON as `tandem gpu kernels --output` writes them; nil for predictions alone.
    /// - Throws: `GPUModelError` for a GPU that is not known, `ValidationError` naming file and line.
    init(device name: String, file: String?) throws {
        device = try DeviceParameters.named(name)
        guard let file else { return }
        let bytes = try BoundedFile.bytes(file, flag: "--measured", kind: "such file")
        for (index, line) in bytes.split(separator: UInt8(ascii: "\n")).enumerated()
        where line.contains(where: { $0 > 0x20 }) {
            let row: JSONObject
            do {
                guard let object = try JSONParser.parse(Array(line)).object else {
                    throw ValidationError("no JSON object")
                }
                row = object
            } catch {
                throw ValidationError(
                    "--measured: \(file), line \(index + 1): \(error); expected lines that "
                        + "`tandem gpu kernels --output FILE` wrote")
            }
            guard let kernel = row["kernel"]?.string, let time = row["us"]?.number, time.isFinite, time > 0 else {
                continue
            }
            let sizes = Self.sizeKeys.compactMap { key in
                row[key]?.integer.flatMap { Int(exactly: $0) }.map { (key: key, value: $0) }
            }
            measured[Self.key(kernel, row["model"]?.string ?? "", sizes)] = time
        }
        guard !measured.isEmpty else {
            throw ValidationError(
                "--measured: \(file): no measured kernel in it; expected lines that `tandem gpu kernels --output FILE` "
                    + "wrote")
        }
    }

    private static func key(_ kernel: String, _ model: String, _ sizes: [(key: String, value: Int)]) -> String {
        let sorted = sizes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        return kernel + " " + model + " " + sorted.joined(separator: ",")
    }

    /// Prints a row for each kernel and size, then how far off each kind is.
    func tell(models: [(name: String, description: DecoderDescription)], flags: GPUFlags) {
        var rows = [
            ["kernel", "sizes", "MB", "GFLOP", "floor us", "predicted us", "measured us", "measured/predicted"]
        ]
        var ratios: [(name: String, values: [Double])] = []
        for (model, description) in models {
            for prediction in KernelPrediction.all(description, on: device) {
                for name in Self.measuredNames[prediction.name] ?? [prediction.name] {
                    let time = measured[Self.key(name, model, prediction.sizes)]
                    // Without a measurement a prediction is said once.
                    guard time != nil || name == (Self.measuredNames[prediction.name]?.first ?? name) else { continue }
                    let ratio = time.map { $0 * 1e-6 / prediction.seconds }
                    if let ratio {
                        if let index = ratios.firstIndex(where: { $0.name == name }) {
                            ratios[index].values.append(ratio)
                        } else {
                            ratios.append((name, [ratio]))
                        }
                    }
                    let title = time == nil ? prediction.name : name
                    rows.append(row(prediction, name: title, model: model, time, ratio))
                    flags.add {
                        $0.field("phase", "prediction")
                        $0.field("device", device.name)
                        $0.field("kernel", title)
                        $0.field("model", model)
                        for (key, value) in prediction.sizes { $0.field(key, value) }
                        $0.field("bytes", prediction.bytes)
                        $0.field("operations", prediction.operations)
                        $0.field("floor_us", prediction.floorSeconds * 1e6)
                        $0.field("predicted_us", prediction.seconds * 1e6)
                        if let time { $0.field("measured_us", time) }
                    }
                }
            }
        }
        Process.write(
            "\(device.title): predicted by the model (published rates; \(device.sources.joined(separator: "; "))), "
                + "nothing is run\n" + TableText.table(rows), to: STDOUT_FILENO)
        guard !ratios.isEmpty else { return }
        var summary = [["kernel", "sizes", "measured/predicted: median", "least", "most"]]
        for (name, values) in ratios {
            let sorted = values.sorted()
            summary.append([
                name, "\(sorted.count)", TableText.number(sorted[sorted.count / 2], 2), TableText.number(sorted[0], 2),
                TableText.number(sorted[sorted.count - 1], 2),
            ])
        }
        Process.write("\n" + TableText.table(summary), to: STDOUT_FILENO)
    }

    private func row(
        _ prediction: KernelPrediction, name: String, model: String, _ time: Double?, _ ratio: Double?
    ) -> [String] {
        [
            model + " " + name, prediction.sizes.map { "\($0.key) \($0.value)" }.joined(separator: ", "),
            TableText.number(prediction.bytes / 1e6), TableText.number(prediction.operations / 1e9),
            TableText.number(prediction.floorSeconds * 1e6), TableText.number(prediction.seconds * 1e6),
            time.map { TableText.number($0) } ?? "", ratio.map { TableText.number($0, 2) } ?? "",
        ]
    }
}
