// Tandem — Apache-2.0

import ArgumentParser
import Diagnosis
import Glibc
import JSON
import MPS
import ModelStore
import Supervision

/// Says whether this machine is ready, and what to do where it is not.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Is this machine ready? Each finding comes with its fix.",
        discussion: """
            Looks and changes nothing. Notes are worth reading and prevent nothing; the exit status is 1 if there is a \
            problem, else 0.

            Example:
              tandem doctor
              tandem doctor --json | python3 -m json.tool
            """)

    @Argument(help: "The model to be served. (default: smollm2-135m-instruct)")
    var model: String?

    @Option(help: "Address to listen on.")
    var host = "127.0.0.1"

    @Option(help: "Port to listen on.")
    var port: UInt16 = 8000

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let name = model ?? ModelCatalogue.defaultModelName
        var facts = MachineFacts.gather(
            environment: Process.environment(), host: host, port: port, modelName: name,
            modelPath: Self.path(of: name), runDirectory: RunDirectory.base(environment: Process.environment()))
        facts.modelProblem = Self.problem(name, path: facts.modelPath)
        // Less than the machine has, where a control group allows less.
        facts.memoryAvailable = MemoryAvailable.bytes()
        facts.monitor = Self.monitor(facts)
        let findings = Diagnosis.findings(facts)
        Process.write(json ? Self.json(findings) : Self.table(findings), to: STDOUT_FILENO)
        if findings.contains(where: { $0.level == .problem }) { throw ExitCode(1) }
    }

    /// Asks NVML in a process of its own, which may hang.
    private static func monitor(_ facts: MachineFacts) -> MachineFacts.MonitorAnswer? {
        let environment = Process.environment()
        let isNamed = ["TANDEM_NVML", "TANDEM_CUDA_DRIVER"].contains { !(environment[$0] ?? "").isEmpty }
        guard isNamed || facts.driver != nil || facts.deviceError != nil || facts.kernelIsWSL else { return nil }
        let run = ToolRun(
            program: "/proc/self/exe", arguments: ["monitor", "--check"], environment: environment, input: [],
            limit: .seconds(30))
        guard case .ended(let exit) = run.result else { return .silence }
        let line = run.output.last ?? "it \(exit)"
        guard exit.code == 0, exit.signal == 0 else {
            return .missing(line.hasPrefix("unavailable: ") ? String(line.dropFirst("unavailable: ".count)) : line)
        }
        return .found(line, hasActivity: !line.contains("has no GPM"))
    }

    /// Where the model is; null if it has to be fetched.
    private static func path(of name: String) -> String? {
        if name.contains("/"), access(name, R_OK) == 0 { return name }
        let known = ModelCatalogue.standard.entry(named: name)?.name ?? name
        return (try? ModelStore().cachedModels())?.first { $0.name == known }?.path
    }

    /// Why a model cannot be served, as far as that is known without fetching or starting anything.
    private static func problem(_ name: String, path: String?) -> String? {
        if let path {
            do {
                _ = try ModelFile(ModelChoice(path: path), maximumContextLength: nil)
                return nil
            } catch {
                return "\(error)"
            }
        }
        if ModelCatalogue.standard.entry(named: name) != nil { return nil }
        let isOfHub =
            name.split(separator: "/", omittingEmptySubsequences: false).count == 2 && !name.hasPrefix("/")
            && !name.hasPrefix(".") && !name.hasSuffix(".gguf")
        if isOfHub { return nil }
        return name.contains("/") ? "there is no such file" : "no model of that name is known; give ORG/NAME, or a path"
    }

    /// For people: marks and names in colour on a terminal, fixes below what they mend.
    private static func table(_ findings: [Finding]) -> String {
        let isColoured = isatty(STDOUT_FILENO) == 1 && Process.environment()["NO_COLOR"] == nil
        let width = findings.map(\.check.count).max() ?? 0
        var text = ""
        for finding in findings {
            let (mark, colour) =
                switch finding.level {
                case .ok: ("ok     ", "32")
                case .note: ("note   ", "33")
                case .problem: ("problem", "31")
                }
            let padded = finding.check + String(repeating: " ", count: width - finding.check.count)
            text += isColoured ? "\u{1B}[\(colour)m\(mark)\u{1B}[0m" : mark
            text += "  \(padded)  \(finding.text)\n"
            if let fix = finding.fix { text += String(repeating: " ", count: width + 11) + "-> \(fix)\n" }
        }
        let problems = findings.filter { $0.level == .problem }.count
        let verdict =
            switch problems {
            case 0: "ready: tandem serve"
            case 1: "1 problem"
            default: "\(problems) problems"
            }
        return text + "\n" + verdict + "\n"
    }

    private static func json(_ findings: [Finding]) -> String {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("ready")
        writer.bool(!findings.contains { $0.level == .problem })
        writer.key("findings")
        writer.beginArray()
        for finding in findings {
            writer.beginObject()
            writer.key("check")
            writer.string(finding.check)
            writer.key("level")
            writer.string(finding.level.rawValue)
            writer.key("text")
            writer.string(finding.text)
            writer.key("fix")
            if let fix = finding.fix { writer.string(fix) } else { writer.null() }
            writer.endObject()
        }
        writer.endArray()
        writer.endObject()
        return String(decoding: writer.bytes, as: UTF8.self) + "\n"
    }
}
