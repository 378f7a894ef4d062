// Tandem — Apache-2.0

import ArgumentParser
import CUDADriver
import CUDAExecutor
import CUDAKernelChecks
import Glibc
import InferenceEngine
import JSON
import LanguageModel

/// What this machine's GPU is and does: facts, checks and measurements. `Scripts/gpu-run` calls these in its phases.
struct GPUCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gpu",
        abstract: "Look at an NVIDIA GPU: facts, checks of its results, times of kernels and steps.",
        discussion: """
            Each prints a line of JSON for a machine for each finding to --output, and a table to the terminal.

            Example:
              tandem gpu doctor
              tandem gpu parity --device cuda:0
              tandem gpu kernels --quick
              tandem gpu loop --model qwen2.5-0.5b --batch 256 --context 512 --seconds 5
            """,
        subcommands: [
            GPUProbeCommand.self, GPUDoctorCommand.self, GPUParityCommand.self, GPUKernelsCommand.self,
            GPULoopCommand.self, GPUWorkerCommand.self,
        ])
}

/// Which GPU, and where lines of JSON go.
struct GPUFlags: ParsableArguments {
    @Option(help: ArgumentHelp("cuda:INDEX or cuda:UUID. (default: cuda:0)", valueName: "device"))
    var device = "cuda:0"

    @Option(help: ArgumentHelp("File to which lines of JSON are added.", valueName: "path"))
    var output: String?

    func selector() throws -> CUDADeviceSelector {
        let text = device.hasPrefix("cuda:") ? String(device.dropFirst("cuda:".count)) : device
        guard let selector = CUDADeviceSelector(text) else {
            throw ValidationError("\(device) is no GPU; give cuda:0 or cuda:GPU-…")
        }
        return selector
    }

    /// Adds a line to the file.
    func add(_ line: (inout JSONWriter) -> Void) {
        guard let output else { return }
        var writer = JSONWriter()
        writer.beginObject()
        line(&writer)
        writer.endObject()
        let file = open(output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard file >= 0 else { return }
        Process.write(writer.bytes + [UInt8(ascii: "\n")], to: file)
        close(file)
    }
}

extension JSONWriter {
    mutating func field(_ key: String, _ value: String) {
        self.key(key)
        string(value)
    }

    mutating func field(_ key: String, _ value: Int) {
        self.key(key)
        integer(value)
    }

    mutating func field(_ key: String, _ value: Double) {
        self.key(key)
        // Not a number is no JSON.
        if value.isFinite { number(value) } else { null() }
    }

    mutating func field(_ key: String, _ value: Bool) {
        self.key(key)
        bool(value)
    }
}

/// Numbers for tables, without Foundation.
enum TableText {
    /// With so many digits after the point.
    static func number(_ value: Double, _ digits: Int = 1) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "-" }
        let scale = (0..<digits).reduce(1.0) { scale, _ in scale * 10 }
        let whole = Int64((abs(value) * scale).rounded())
        let sign = value < 0 && whole > 0 ? "-" : ""
        guard digits > 0 else { return sign + "\(whole)" }
        let rest = "\(whole % Int64(scale))"
        return sign + "\(whole / Int64(scale))." + String(repeating: "0", count: digits - rest.count) + rest
    }

    /// Filled up with spaces, on the left for numbers.
    static func padded(_ text: String, _ width: Int, left: Bool = false) -> String {
        let spaces = String(repeating: " ", count: max(0, width - text.count))
        return left ? spaces + text : text + spaces
    }

    /// Rows under a head; the first column is text, the others are numbers.
    static func table(_ rows: [[String]]) -> String {
        guard let head = rows.first else { return "" }
        let widths = head.indices.map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            row.enumerated().map { column, text in padded(text, widths[column], left: column > 0) }
                .joined(separator: "  ")
        }.joined(separator: "\n") + "\n"
    }
}

/// Says in one line which GPU an engine would take; for `serve --device auto`.
struct GPUProbeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "probe", abstract: "Say in a line which GPU can be used.", shouldDisplay: false)

    func run() throws {
        do throws(CUDAError) {
            let driver = try CUDADriver(environment: Process.environment())
            let device = try driver.device(.index(0))
            try device.requireSupport()
            Process.write(
                "cuda:0 \(device.name), \(device.memoryBytes >> 20) MiB, compute capability "
                    + "\(device.computeCapability)\n", to: STDOUT_FILENO)
        } catch {
            Process.write("\(error)\n", to: STDOUT_FILENO)
            throw ExitCode(1)
        }
    }
}

/// Facts of the driver, the libraries and each GPU, each finding with its fix.
struct GPUDoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Are driver, compiler and libraries there? What is the GPU?")

    @OptionGroup var flags: GPUFlags

    func run() throws {
        let environment = Process.environment()
        var isReady = true
        func tell(_ check: String, _ text: String, isProblem: Bool = false) {
            if isProblem { isReady = false }
            Process.write(
                "\(isProblem ? "problem" : "ok     ")  \(TableText.padded(check, 10))  \(text)\n", to: STDOUT_FILENO)
            flags.add {
                $0.field("phase", "doctor")
                $0.field("check", check)
                $0.field("problem", isProblem)
                $0.field("text", text)
            }
        }
        let selector = try flags.selector()
        do throws(CUDAError) {
            let driver = try CUDADriver(environment: environment)
            tell(
                "driver",
                "CUDA \(driver.version) at \(driver.path)"
                    + (driver.isDouble ? " (the stand-in, which computes on the CPU)" : ""))
            for device in try driver.devices() { tell("cuda:\(device.index)", Self.facts(device)) }
            let device = try driver.device(selector)
            try device.requireSupport()
            let begin = Process.nanoseconds()
            let context = try CUDAContext(device)
            let memory = try context.memory()
            tell(
                "context",
                "made in \(Self.milliseconds(since: begin)) ms; \(memory.free >> 20) of \(memory.total >> 20) MiB free; "
                    + (device.usesMPS ? "through MPS" : "without MPS"))
            let loading = Process.nanoseconds()
            let session = try GPUSession(context, environment: environment)
            tell("kernels", "\(Self.origin(session)), in \(Self.milliseconds(since: loading)) ms")
            for entry in try session.resources() {
                flags.add {
                    $0.field("phase", "resources")
                    $0.field("kernel", entry.name)
                    $0.field("registers", entry.resources.registers)
                    $0.field("local_bytes", entry.resources.localBytes)
                    $0.field("shared_bytes", entry.resources.sharedBytes)
                }
                if entry.resources.localBytes > 0 {
                    tell("kernels", "\(entry.name) spills \(entry.resources.localBytes) bytes a thread")
                }
            }
        } catch {
            tell("GPU", "\(error)", isProblem: true)
        }
        if isReady { library(selector, environment, tell) }
        Process.write(isReady ? "\nready: tandem serve --device \(flags.device)\n" : "\n", to: STDOUT_FILENO)
        if !isReady { throw ExitCode(1) }
    }

    private func library(
        _ selector: CUDADeviceSelector, _ environment: [String: String],
        _ tell: (_ check: String, _ text: String, _ isProblem: Bool) -> Void
    ) {
        do throws(CUDAError) {
            let driver = try CUDADriver(environment: environment)
            let context = try CUDAContext(try driver.device(selector))
            let begin = Process.nanoseconds()
            let library = try MatrixLibrary(context, environment: environment)
            tell(
                "cuBLASLt", "\(library.version) at \(library.path), in \(Self.milliseconds(since: begin)) ms", false)
        } catch {
            // Not a problem: slower kernels of our own take its place.
            tell("cuBLASLt", "\(error)", false)
        }
    }

    private static func milliseconds(since begin: UInt64) -> String {
        TableText.number(Double(Process.nanoseconds() &- begin) / 1e6)
    }

    private static func origin(_ session: GPUSession) -> String {
        switch session.kernelOrigin {
        case .precompiled(let path): "compiled elsewhere: \(path)"
        case .cached(let path): "compiled before: \(path)"
        case .compiled: "compiled now"
        }
    }

    private static func facts(_ device: CUDADevice) -> String {
        "\(device.name) (\(device.uuid)), compute capability \(device.computeCapability), "
            + "\(device.multiprocessors) multiprocessors, \(device.memoryBytes >> 20) MiB, L2 "
            + "\(device.level2CacheBytes >> 20) MiB, \(device.clockKilohertz / 1000) MHz, memory "
            + "\(device.memoryClockKilohertz / 1000) MHz x \(device.memoryBusBits) bits, compute mode "
            + "\(device.computeMode), virtual memory \(device.hasVirtualMemory), descriptors "
            + "\(device.sharesByDescriptor), MPS \(device.usesMPS)"
    }
}

/// Every kernel against references in double precision, and whole steps computed in several ways.
struct GPUParityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "parity", abstract: "Are the GPU's results right? Every kernel, and whole steps.")

    @OptionGroup var flags: GPUFlags

    @Flag(help: "Whole steps only.") var steps = false

    func run() throws {
        let environment = Process.environment()
        let selector = try flags.selector()
        var failures = 0
        var count = 0
        func tell(_ name: String, _ failure: String?, _ detail: String, error: Double = 0) {
            count += 1
            if failure != nil { failures += 1 }
            if let failure { Process.write("WRONG  \(name): \(failure)\n", to: STDOUT_FILENO) }
            flags.add {
                $0.field("phase", "parity")
                $0.field("check", name)
                $0.field("right", failure == nil)
                $0.field("error", error)
                $0.field("detail", failure ?? detail)
            }
        }
        if !steps {
            let session = try GPUSession(selector, environment: environment)
            let machine = GPUKernelMachine(session)
            // Kernels of another architecture cannot be checked here.
            for check in KernelChecks.all where check.kernels.allSatisfy(session.has) {
                do {
                    let first = try check.run(on: machine)
                    let second = try check.run(on: machine)
                    tell(
                        check.name, first.digest == second.digest ? nil : "two runs differ", "", error: first.error)
                } catch {
                    tell(check.name, "\(error)", "")
                }
            }
            Process.write("kernels: \(count - failures) of \(count) checks right\n", to: STDOUT_FILENO)
        }
        var models: [(head: Int, group: Int, window: Int?, prefill: String?)] = [
            (64, 7, nil, nil), (128, 8, 33, nil), (256, 4, 48, nil), (80, 3, nil, nil),
        ]
        // The kernel that is not taken by itself, on a GPU that has it.
        if try CUDADriver(environment: environment).device(selector).computeCapability.major == 9 {
            models += [(64, 7, nil, "wgmma"), (128, 8, 33, "wgmma")]
        }
        for (head, group, window, prefill) in models {
            var options = CUDAExecutor.Options(device: selector, environment: environment)
            if let prefill { options.environment["TANDEM_CUDA_PREFILL"] = prefill }
            let title = "steps, head \(head), group \(group)" + (prefill.map { ", \($0)" } ?? "")
            do {
                let model = GPUModelCheck.model(head: head, group: group, window: window)
                for finding in try GPUModelCheck.run(model, options: options) {
                    let name = "\(title): \(finding.name)"
                    tell(name, finding.isRight ? nil : finding.detail, finding.detail)
                    if finding.isRight {
                        Process.write("right  \(name): \(finding.detail)\n", to: STDOUT_FILENO)
                    }
                }
            } catch {
                tell(title, "\(error)", "")
            }
        }
        Process.write("\n\(count - failures) of \(count) right\n", to: STDOUT_FILENO)
        if failures > 0 { throw ExitCode(1) }
    }
}
