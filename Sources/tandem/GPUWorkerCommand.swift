// Tandem — Apache-2.0

import ArgumentParser
import CUDADriver
import CUDAExecutor
import GPUModel
import Glibc
import InferenceEngine
import JSON
import LanguageModel

/// One process that computes steps as a study tells it: a line of JSON in, a line out.
///
/// `prepare` makes executors for a cell and runs steps that do not count, `run` measures a window that begins at a given
/// time, `free` gives the memory back and has no answer. A failure is an answer; the process goes on.
struct GPUWorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker", abstract: "Compute steps as a study tells it by lines of JSON.", shouldDisplay: false)

    @OptionGroup var flags: GPUFlags

    func run() throws {
        let worker = GPUWorker(selector: try flags.selector())
        while let line = readLine() {
            var writer = JSONWriter()
            writer.beginObject()
            do {
                guard try worker.answer(line, &writer) else { continue }
            } catch {
                writer.field("failure", "\(error)")
            }
            writer.endObject()
            Process.write(writer.bytes + [UInt8(ascii: "\n")], to: STDOUT_FILENO)
        }
    }
}

/// What a worker has made. Used by one thread.
private final class GPUWorker {
    private struct Refusal: Error, CustomStringConvertible {
        var description: String
    }

    private let selector: CUDADeviceSelector
    private var loops: [GPULoop] = []

    init(selector: CUDADeviceSelector) { self.selector = selector }

    /// - Returns: whether there is an answer.
    func answer(_ line: String, _ writer: inout JSONWriter) throws -> Bool {
        guard let request = try JSONParser.parse(Array(line.utf8)).object, let command = request["command"]?.string
        else { throw Refusal(description: "a line without a command") }
        switch command {
        case "facts": try facts(&writer)
        case "prepare": try prepare(request, &writer)
        case "run": try run(request, &writer)
        case "free":
            free()
            return false
        default: throw Refusal(description: "unknown command \(command.prefix(40))")
        }
        return true
    }

    private func facts(_ writer: inout JSONWriter) throws {
        let driver = try CUDADriver(environment: Process.environment())
        let device = try driver.device(selector)
        try device.requireSupport()
        writer.field("device", device.name)
        writer.field("memory_bytes", device.memoryBytes)
        writer.field("driver", "\(driver.version)")
        writer.field("is_double", driver.isDouble)
    }

    private func free() {
        for loop in loops { loop.executor.shutdown() }
        loops = []
    }

    private func prepare(_ request: JSONObject, _ writer: inout JSONWriter) throws {
        free()
        let name = request["model"]?.string ?? ""
        guard var model = BuiltInModel.named(name)?.description else {
            throw Refusal(description: "\(name.prefix(64)) is no built-in model")
        }
        func number(_ key: String, _ range: ClosedRange<Int64>) throws -> Int {
            guard let value = request[key]?.integer, range.contains(value) else {
                throw Refusal(description: "\"\(key)\" is missing or out of range")
            }
            return Int(value)
        }
        guard let ablation = request["ablation"]?.string.flatMap(Ablation.init(rawValue:)) else {
            throw Refusal(description: "an unknown ablation")
        }
        if request["cut"]?.bool == true {
            // For checks on a machine without a GPU: the same path, little arithmetic.
            model.layers = Array(model.layers.prefix(2))
            (model.vocabularySize, model.intermediateSize) = (1024, 256)
        }
        model.ablation = ablation
        var options = CUDAExecutor.Options(device: selector, environment: Process.environment())
        if request["profile"]?.bool == true { options.profileInterval = 8 }
        var settings = GPULoop.Settings()
        settings.batch = try number("batch", 1...65536)
        settings.context = try number("context", 2...(1 << 20))
        settings.isPrefill = request["prefill"]?.bool == true
        settings.isAsynchronous = request["asynchronous"]?.bool == true
        settings.pauseNanoseconds = UInt64(try number("pause_ns", 0...1_000_000_000))
        let count = try number("engines", 1...8)
        do {
            loops = try GPULoop.loops(count, model: model, randomSeed: 1, settings, now: Process.nanoseconds) {
                options.process = ProcessShare(engines: count, place: $0)
                return options
            }
            for loop in loops { try loop.warmUp(steps: try number("warm_up", 1...1000)) }
        } catch {
            free()
            throw error
        }
        writer.field("is_mps", loops.allSatisfy(\.executor.usesMPS))
        writer.field("device", loops.first?.executor.capabilities.device ?? "")
    }

    private func run(_ request: JSONObject, _ writer: inout JSONWriter) throws {
        guard !loops.isEmpty else { throw Refusal(description: "nothing is prepared") }
        guard let seconds = request["seconds"]?.number, seconds > 0, seconds <= 600,
            let start = request["start"]?.integer, start >= 0
        else { throw Refusal(description: "\"seconds\" or \"start\" is missing") }
        Self.wait(until: UInt64(start))
        let windows =
            loops.count == 1
            ? [try loops[0].run(seconds: seconds)]
            : try GPULoop.run(together: loops, seconds: seconds, now: Process.nanoseconds)
        writer.field("steps_per_second", windows.reduce(0) { $0 + $1.stepsPerSecond })
        writer.field("busy_share", windows.map { 1 - $0.idleShare }.max() ?? 0)
        writer.field("host_seconds", windows.reduce(0) { $0 + $1.hostSeconds / Double(max(1, $1.steps)) })
        writer.field("tokens_per_step", loops[0].tokensPerStep)
        guard let profile = windows.first?.profile, profile.steps > 0 else { return }
        let scale = 1e-9 / Double(profile.steps)
        writer.field("attention_seconds", Double(profile.attention) * scale)
        writer.field("mlp_seconds", Double(profile.mlp) * scale)
        writer.field("rest_seconds", Double(profile.rest) * scale)
    }

    /// - Parameter time: of the monotonic clock, in nanoseconds; at most a minute away.
    private static func wait(until time: UInt64) {
        while true {
            let now = Process.nanoseconds()
            guard now < time, time - now < 60_000_000_000 else { return }
            usleep(time - now > 2_000_000 ? 1000 : 20)
        }
    }
}
