// Tandem — Apache-2.0

import ArgumentParser
import GPUModel
import Glibc
import LanguageModel
import Study

/// Makes the figures of a study: measured, or simulated.
struct StudyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "study",
        abstract: "Measure or simulate what several engines on one device gain.",
        discussion: """
            NAME is a figure of the article that Tandem starts from (F1 to F6, T1; all stands for them), cpu for a \
            study of this machine, or the path of a definition file; --print shows the file of a figure, to be \
            changed. Each figure's measurements are lines \
            of JSON in the directory of --out. A study that was interrupted goes on where it stopped.

            Devices: simulated:GPU computes in virtual time what the model of a GPU says (known: \
            \(DeviceParameters.published.map(\.name).joined(separator: ", "))); cpu measures engines on this machine, \
            which should have nothing else to do.

            Ends with 1 if a measurement failed, with 130 after Ctrl-C.

            Example:
              tandem study all --out results
              tandem study F1 --device simulated:l4 --models qwen2.5-0.5b --out results-l4
              tandem study cpu --out results-cpu
              tandem study --report results results-cpu
              tandem study --print F1 > mine.json
              tandem study mine.json --out mine
            """)

    @Argument(help: "Figures, or paths of definition files.")
    var names: [String] = []

    @Flag(help: "List the figures.")
    var list = false

    @Option(help: ArgumentHelp("Print the definition file of a figure.", valueName: "name"))
    var print: String?

    @Option(help: "Where to measure, instead of what the definition says.")
    var device: String?

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Write the report of results in directories, simulated and measured side by side, into --out, or into report in the first.",
            valueName: "directories"))
    var report: [String] = []

    @Option(help: ArgumentHelp("Where results go, or the report. (default: study-results)", valueName: "directory"))
    var out: String?

    @Option(help: "How often each cell is measured. (default: as defined)")
    var repetitions: Int?

    @Option(help: ArgumentHelp("Models instead of those defined: a,b.", valueName: "names"))
    var models: String?

    @Option(help: ArgumentHelp("Contexts instead of those defined: 128,512.", valueName: "tokens"))
    var contexts: String?

    @Option(
        help: ArgumentHelp(
            "What a probe measured of your GPU, for a simulation: a file of JSON lines, or a directory.",
            valueName: "path"))
    var probe: String?

    @Option(
        help: ArgumentHelp(
            "Begin no further measurement after so long; the same command goes on later.", valueName: "seconds"))
    var timeLimit: Double?

    @Flag(help: "A coarser grid between the same ends.")
    var quick = false

    @Flag(inversion: .prefixedNo, help: "Go on with results of the same study in the directory, or begin anew.")
    var resume = true

    func run() throws {
        do {
            if list { return Self.printList() }
            if let print {
                guard let study = BuiltInStudy.all.first(where: { $0.name.lowercased() == print.lowercased() }) else {
                    throw Self.unknown(print)
                }
                return Process.write(study.text + "\n", to: STDOUT_FILENO)
            }
            if !report.isEmpty {
                guard names.isEmpty else {
                    throw ValidationError(
                        "--report takes directories of results, and measures nothing; leave \(names[0]) out")
                }
                let page = try StudyReportFolder.write(report, to: out)
                return Process.write("the report is \(page)\n", to: STDOUT_FILENO)
            }
            if let timeLimit, !(timeLimit > 0 && timeLimit < 1e9) {
                throw ValidationError("--time-limit \(timeLimit): give seconds, more than 0")
            }
            guard !names.isEmpty else {
                throw ValidationError("name a figure, or a definition file; tandem study --list shows the figures")
            }
            try StudyDriver(
                definitions: try definitions(), out: out ?? "study-results", resumes: resume, probe: probe,
                timeLimit: timeLimit
            ).run()
        } catch let error as StudyError {
            throw ValidationError("\(error)")
        } catch let error as GPUModelError {
            throw ValidationError("\(error)")
        }
    }

    private func definitions() throws -> [StudyDefinition] {
        var definitions: [StudyDefinition] = []
        for name in names {
            let builtIn = BuiltInStudy.named(name)
            var found = try builtIn.map { study throws(StudyError) in try study.definition() }
            if found.isEmpty {
                guard access(name, F_OK) == 0 else { throw Self.unknown(name) }
                found = [try StudyDefinition(json: StudyFile.read(name), name: name)]
            }
            for definition in found {
                // Models that were named on the command line are looked at when they are known not to exist.
                var chosen = try definition.selecting(
                    models: models.map(Self.words), contexts: contexts.map { try Self.numbers($0) },
                    repetitions: repetitions, device: device)
                if quick { chosen = chosen.quick() }
                guard !definitions.contains(where: { $0.figure == chosen.figure }) else {
                    throw StudyError(subject: name, reason: "figure \(chosen.figure) is named twice")
                }
                definitions.append(chosen)
            }
        }
        return definitions
    }

    private static func words(_ text: String) -> [String] {
        text.split(separator: ",").map { word in String(word.filter { !$0.isWhitespace }) }
    }

    private static func numbers(_ text: String) throws -> [Int] {
        try words(text).map { word in
            guard let number = Int(word) else {
                throw StudyError(subject: "--contexts", reason: "\"\(word.prefix(20))\" is no number of tokens")
            }
            return number
        }
    }

    private static func unknown(_ name: String) -> StudyError {
        StudyError(
            subject: "\"\(name.prefix(100))\"",
            reason: "is neither a figure nor a file; figures: "
                + (BuiltInStudy.all.map(\.name) + ["all", "cpu"]).joined(separator: ", "))
    }

    private static func printList() {
        var text = ""
        for study in BuiltInStudy.all {
            guard let definition = try? study.definition() else { continue }
            let name = study.name + String(repeating: " ", count: max(1, 12 - study.name.count))
            text += "\(name)\(definition.title) (\(definition.device)): \(definition.question)\n"
        }
        Process.write(text, to: STDOUT_FILENO)
    }
}
