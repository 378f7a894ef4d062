// Tandem — Apache-2.0

import BenchmarkKernels
import CPUExecutor
import LanguageModel
import Weights

/// What this machine's memory and arithmetic permit: measures both, and says how fast a model could be at most. Prints
/// one JSON object a line: kinds `bandwidth`, `peak` and, with a model, `weights` and `floor`.
///
///     engine-benchmark floor [MODEL] [--threads T] [--compute f32|bf16|int8] [--prompts 128,512] [--batches 1,4,16,64]
///                      [--prompt-length 128] [--decode 64]
///
/// A step cannot be quicker than reading its weights, keys and values once, nor than its multiplications and additions
/// at the peak rate of the instruction that the mode uses (single precision for attention).
enum Floor {
    /// Rates of `threads` threads together.
    struct Machine {
        /// Bytes per second.
        var bandwidth: Double
        /// Operations per second of matrix products.
        var matrices: Double
        /// Operations per second of attention.
        var attention: Double
    }

    /// What one step, or one prompt, has to do at least.
    struct Work {
        var bytes: Double
        var matrixOperations: Double
        var attentionOperations: Double

        func seconds(on machine: Machine) -> (reading: Double, computing: Double) {
            (bytes / machine.bandwidth, matrixOperations / machine.matrices + attentionOperations / machine.attention)
        }
    }

    static func run(_ options: EngineBenchmark.Options) throws {
        var model: DecoderDescription?
        var weightBytes = 256 << 20
        if !options.model.isEmpty {
            let checkpoint = try Checkpoint(
                path: options.model, loadFormat: options.loadFormat, ablation: options.ablation)
            model = checkpoint.description
            weightBytes = try Self.weightBytes(of: checkpoint, options)
            print(#"{"kind":"weights","bytes_per_step":\#(weightBytes),"compute":"\#(options.compute.rawValue)"}"#)
        }
        let machine = try measure(options, bufferBytes: weightBytes)
        guard let model else { return }
        for length in options.prompts {
            let work = prompt(of: length, model, weightBytes: weightBytes)
            report("prompt", size: length, tokens: length, work, machine, options)
        }
        for batch in options.batches {
            // The middle of the tokens generated: the average length.
            let context = options.promptLength + options.decode / 2
            let work = decodeStep(batch: batch, context: context, model, weightBytes: weightBytes, options)
            report("decode", size: batch, tokens: batch, work, machine, options)
        }
    }

    /// Bytes of packed weights that a step reads. An untied embedding is packed too but only looked up; its part is
    /// taken to be what it is of the file.
    static func weightBytes(of checkpoint: Checkpoint, _ options: EngineBenchmark.Options) throws -> Int {
        let model = checkpoint.description
        let executor = try CPUExecutor(
            model: model, file: checkpoint.tensors,
            options: CPUExecutor.Options(compute: options.compute, threads: options.threads))
        defer { executor.shutdown() }
        if model.tiedHead { return executor.weightBytes }
        let read = model.weightBytesPerStep(in: checkpoint.tensors)
        let embedding = checkpoint.tensors.tensor(named: model.tensorName(.tokenEmbedding))?.byteCount ?? 0
        return Int(Double(executor.weightBytes) * Double(read) / Double(max(1, read + embedding)))
    }

    static func measure(_ options: EngineBenchmark.Options, bufferBytes: Int) throws -> Machine {
        let threads = Int32(options.threads)
        let bandwidth = benchmark_read_bandwidth(bufferBytes, threads)
        guard bandwidth > 0 else { throw EngineBenchmark.Failure(description: "cannot measure memory bandwidth") }
        print(
            #"{"kind":"bandwidth","threads":\#(threads),"buffer_bytes":\#(bufferBytes),"bytes_per_second":\#(bandwidth)}"#
        )
        let instructions = [("int8", benchmark_int8_dot), ("bf16", benchmark_bf16_dot), ("f32", benchmark_f32_fma)]
        var peaks: [String: Double] = [:]
        for (name, instruction) in instructions {
            let peak = benchmark_peak(instruction, threads)
            guard peak > 0 else { continue }
            peaks[name] = peak
            print(
                #"{"kind":"peak","threads":\#(threads),"instruction":"\#(name)","operations_per_second":\#(peak)}"#)
        }
        guard let single = peaks["f32"] else {
            throw EngineBenchmark.Failure(description: "cannot measure arithmetic")
        }
        // A machine without the mode's own instruction computes at the best rate it has instead.
        return Machine(bandwidth: bandwidth, matrices: peaks[options.compute.rawValue] ?? single, attention: single)
    }

    static func prompt(of length: Int, _ model: DecoderDescription, weightBytes: Int) -> Work {
        let matrices = model.flopsPerToken(head: false)
        let head = model.flopsPerToken(head: true) - matrices
        let attention = (1...max(1, length)).reduce(0) { $0 + model.flopsPerToken(head: false, context: $1) - matrices }
        return Work(
            bytes: Double(weightBytes), matrixOperations: Double(length) * Double(matrices) + Double(head),
            attentionOperations: Double(attention))
    }

    static func decodeStep(
        batch: Int, context: Int, _ model: DecoderDescription, weightBytes: Int, _ options: EngineBenchmark.Options
    ) -> Work {
        let matrices = model.flopsPerToken(head: true)
        let attention = model.flopsPerToken(head: true, context: context) - matrices
        let keyValues = context * model.kvBytesPerToken(elementBytes: options.compute.keyValueElementBytes)
        return Work(
            bytes: Double(weightBytes) + Double(batch) * Double(keyValues),
            matrixOperations: Double(batch) * Double(matrices),
            attentionOperations: Double(batch) * Double(attention))
    }

    static func report(
        _ what: String, size: Int, tokens: Int, _ work: Work, _ machine: Machine, _ options: EngineBenchmark.Options
    ) {
        let (reading, computing) = work.seconds(on: machine)
        let seconds = max(reading, computing)
        print(
            #"{"kind":"floor","what":"\#(what)","size":\#(size),"threads":\#(options.threads),"#
                + #""bound":"\#(reading > computing ? "bytes" : "operations")","seconds":\#(seconds),"#
                + #""tokens_per_second":\#(Double(tokens) / seconds)}"#)
    }
}
