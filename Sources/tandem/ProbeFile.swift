// Tandem — Apache-2.0

import ArgumentParser
import GPUModel
import Glibc
import JSON
import LanguageModel

/// What a probe measured of a GPU: lines of JSON in a file, or in the `.jsonl` files of a directory, as they lie under
/// `Results/gpu-probe`. Rows that say nothing of costs are passed over.
struct ProbeFile {
    var measurements: [ProbeMeasurement] = []
    /// The GPU's name, if the probe noted it.
    var deviceName: String?

    /// Rows that say how long loops took without MPS and with it, by run and loop: runs differ.
    private var loops: [String: (kernels: Double, without: Double?, under: Double?)] = [:]

    /// - Throws: `ValidationError` naming file and line.
    init(path: String) throws {
        for file in try Self.files(path) {
            let bytes = try BoundedFile.bytes(file, flag: "--probe", kind: "probe file")
            for (index, line) in bytes.split(separator: UInt8(ascii: "\n")).enumerated()
            where line.contains(where: { $0 > 0x20 }) {
                do {
                    guard let row = try JSONParser.parse(Array(line)).object else {
                        throw ValidationError("no JSON object")
                    }
                    take(row)
                } catch {
                    throw ValidationError(
                        "--probe: \(file), line \(index + 1): \(error); a probe file holds one JSON object a line")
                }
            }
        }
        for loop in loops.values {
            guard let without = loop.without, let under = loop.under else { continue }
            measurements.append(.stepUnderMPS(kernels: loop.kernels, seconds: under, secondsWithout: without))
        }
    }

    private mutating func take(_ row: JSONObject) {
        func number(_ key: String) -> Double? { row[key]?.number }
        func count(_ key: String) -> Int? { row[key]?.integer.flatMap { Int(exactly: $0) } }
        if let m = number("m"), let n = number("n"), let k = number("k"), let time = number("graph_us") {
            measurements.append(.product(rows: m, columns: n, inner: k, seconds: time * 1e-6))
            return
        }
        if row["arm"]?.string != nil {
            takeLoop(row)
            return
        }
        switch row["check"]?.string {
        case "decode":
            guard let batch = number("batch"), let context = number("ctx"), let query = count("q"),
                let keyValue = count("kv"), let head = count("hd"), let time = number("best_us") ?? number("us")
            else { return }
            measurements.append(
                .decodeAttention(
                    sequences: batch, context: context, queryHeads: query, keyValueHeads: keyValue, headDimension: head,
                    seconds: time * 1e-6))
        case "prefill":
            guard let prompts = number("seqs"), let length = number("tokens"), let query = count("q"),
                let head = count("hd"), let time = number("us")
            else { return }
            measurements.append(
                .prefillAttention(
                    prompts: prompts, length: length, queryHeads: query, headDimension: head, seconds: time * 1e-6))
        case "right":
            guard let time = number("us_in_graph"), let rate = number("gb_per_s") else { return }
            measurements.append(.transfer(bytes: rate * time * 1e3, seconds: time * 1e-6))
        case "slice":
            guard let run = number("run_us_median"), let pause = number("pause_us_median"), run > 0 else { return }
            measurements.append(.timeSlice(runSeconds: run * 1e-6, pauseSeconds: pause * 1e-6))
        case "attrs":
            deviceName = deviceName ?? row["name"]?.string
            if let multiprocessors = count("sms") { measurements.append(.multiprocessors(multiprocessors)) }
            if let memory = number("total_mib") { measurements.append(.memory(bytes: memory * 1_048_576)) }
        default: break
        }
    }

    /// A loop of decode steps without pause, of a Qwen2.5 as PyTorch runs it.
    private mutating func takeLoop(_ row: JSONObject) {
        guard let arm = row["arm"]?.string, let name = row["model"]?.string, row["kind"]?.string == "decode",
            row["ablate"]?.string == "full", row["stall_us"]?.number == 0, let batch = row["batch"]?.number,
            let context = row["context"]?.number, let rate = row["one_per_s"]?.number, rate > 0,
            let model = BuiltInModel.named("qwen2.5-" + name), let device = DeviceParameters.published.first
        else { return }
        let key = "\(row["run"]?.integer ?? 0) \(name) \(batch) \(context)"
        let kernels = StepModel(model: model.description, device: device, fusion: .eager)
            .profile(StepShape(decoding: batch, context: context)).kernelCount
        var loop = loops[key] ?? (Double(kernels), nil, nil)
        if arm == "no MPS" { loop.without = loop.without ?? 1 / rate }
        if arm == "MPS" { loop.under = loop.under ?? 1 / rate }
        loops[key] = loop
    }

    // MARK: Files

    private static func files(_ path: String) throws -> [String] {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw ValidationError("--probe: \(path): \(String(cString: strerror(errno)))")
        }
        guard status.st_mode & S_IFMT == S_IFDIR else { return [path] }
        guard let stream = opendir(path) else {
            throw ValidationError("--probe: \(path): \(String(cString: strerror(errno)))")
        }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) { name in
                    name.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        let files = names.filter { $0.hasSuffix(".jsonl") }.sorted().map { path + "/" + $0 }
        guard !files.isEmpty else {
            throw ValidationError("--probe: \(path): no .jsonl file in it; give a probe's file or directory")
        }
        return files
    }
}
