// Tandem — Apache-2.0

import Configuration
import GPUModel
import LanguageModel
import Supervision
import VirtualDevice

/// The memory of a simulated GPU, divided among engines before any of them starts.
struct ServeSimulatedMemory {
    let device: DeviceParameters
    /// KV cache of each engine, model by model.
    private(set) var keyValueBytes: [UInt64] = []
    /// The plan for people.
    private(set) var table = ""

    private struct Part {
        var model: ServeModel
        /// Whose bytes are counted.
        var description: DecoderDescription
        var weights: UInt64
        /// Of the longest sequence.
        var sequence: UInt64
        var engines: UInt64 { UInt64(model.settings.engines) }
    }

    private static let blockTokens = 16

    /// - Throws: `ConfigurationError` that names the setting which does not fit.
    init(_ models: [ServeModel], gpu: String, _ settings: ServeConfiguration) throws {
        device = try SimulatedGPU.device(named: gpu)
        let timed = try settings.simulatedModel.map { try SimulatedGPU.model(named: $0) }
        let parts = models.map { model in
            let description = timed ?? model.file.description
            let memory = MemoryModel(model: description, device: device)
            return Part(
                model: model, description: description, weights: UInt64(memory.weightBytes),
                sequence: UInt64(
                    description.kvBytes(
                        forSequenceOf: model.file.contextLength, tokensPerStep: model.settings.maximumBatchedTokens,
                        elementBytes: 2, blockSize: Self.blockTokens)))
        }
        let engines = parts.reduce(0) { $0 + $1.model.settings.engines }
        let most = DeviceState.Settings.usualMostClients
        guard engines <= most else {
            throw ConfigurationError(
                source: "--engines",
                reason: "\(engines) are more than the \(most) clients that a simulated GPU takes, as an MPS server")
        }
        let usable = UInt64(0.95 * device.memoryBytes)
        let context = UInt64(device.sharing.processBytes)
        let fixed = parts.reduce(UInt64(0)) { $0 + $1.engines * ($1.weights + context) }
        guard fixed < usable else { throw Self.doesNotFit(parts, device, fixed) }
        for part in parts {
            try KeyValueWish(
                engines: part.model.settings.engines, requested: part.model.settings.keyValueBytes,
                sequenceBytes: part.sequence, contextLength: part.model.file.contextLength
            ).check()
        }
        let requested = parts.reduce(UInt64(0)) {
            MemoryPlan.sum($0, MemoryPlan.product($1.model.settings.keyValueBytes ?? 0, $1.model.settings.engines))
        }
        guard requested <= usable - fixed else {
            throw ConfigurationError(
                source: "--kv-cache-memory",
                reason: "the engines would take \(Self.text(requested)) for keys and values, and of the "
                    + "\(Self.text(usable)) of the simulated \(device.name) \(Self.text(usable - fixed)) are left beside "
                    + "weights and contexts; lower it, or --engines")
        }
        let open = parts.filter { $0.model.settings.keyValueBytes == nil }.reduce(UInt64(0)) { $0 + $1.engines }
        let share = (usable - fixed - requested) / max(1, open)
        keyValueBytes = parts.map { $0.model.settings.keyValueBytes ?? share / (1 << 20) * (1 << 20) }
        for (part, bytes) in zip(parts, keyValueBytes) where bytes < part.sequence {
            throw SupervisionError.notEnoughMemory(
                neededBytes: part.sequence, availableBytes: bytes, contextLength: part.model.file.contextLength)
        }
        table = Self.table(parts, keyValueBytes, device, context: context, usable: usable)
    }

    private static func doesNotFit(
        _ parts: [Part], _ device: DeviceParameters, _ fixed: UInt64
    ) -> ConfigurationError {
        let engines = parts.reduce(UInt64(0)) { $0 + $1.engines }
        let weights = parts.map { "\(text($0.weights)) for \($0.description.name)" }.joined(separator: ", ")
        return ConfigurationError(
            source: "--engines",
            reason:
                "\(engines) engines need \(text(fixed)) on the simulated \(device.name) before they hold a single key: "
                + "a context and the weights each (\(weights), 16 bits), and it has "
                + "\(text(UInt64(device.memoryBytes))), of which a twentieth is kept free; lower --engines, or take a "
                + "smaller model")
    }

    private static func table(
        _ parts: [Part], _ caches: [UInt64], _ device: DeviceParameters, context: UInt64, usable: UInt64
    ) -> String {
        let engines = parts.reduce(0) { $0 + Int($1.engines) }
        var rows: [[String]] = [["", "an engine", "in sum", ""]]
        var sum: UInt64 = 0
        func row(_ name: String, _ each: UInt64, _ count: UInt64, _ note: String) {
            sum += each * count
            rows.append([name, text(each), text(each * count), note])
        }
        for (part, cache) in zip(parts, caches) {
            let name = parts.count == 1 ? "" : "\(part.model.names[0]): "
            row("\(name)weights", part.weights, part.engines, "\(part.description.name) in 16 bits, a copy an engine")
            let tokens = Int(cache) / max(1, part.description.kvBytesPerToken(elementBytes: 2))
            row("\(name)KV cache", cache, part.engines, "\(tokens) tokens an engine")
        }
        row("contexts", context, UInt64(engines), "with graphs and workspaces, an assumption")
        let all = text(UInt64(device.memoryBytes))
        rows.append(["total", "", text(sum), "of \(text(usable)); the rest of \(all) is kept free"])
        let widths = (0..<3).map { column in rows.map { $0[column].count }.max() ?? 0 }
        func spaces(_ count: Int) -> String { String(repeating: " ", count: max(0, count)) }
        let lines = rows.map { row in
            var line = "  " + row[0] + spaces(widths[0] - row[0].count)
            for column in 1...2 { line += spaces(2 + widths[column] - row[column].count) + row[column] }
            return row[3].isEmpty ? line : line + "  " + row[3]
        }
        return "Memory of the simulated \(device.title) for \(engines) \(engines == 1 ? "engine" : "engines"):\n\n"
            + lines.joined(separator: "\n") + "\n\n"
    }

    private static func text(_ bytes: UInt64) -> String { MemoryPlan.text(bytes) }
}
