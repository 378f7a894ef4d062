// Tandem — Apache-2.0

/// Speaks version 3 (driver 615 and later): a module, a verb and arguments, one run of the tool each.
///
/// Lists are asked for with their header line. That line is the proof that the daemon answered, also where nothing
/// follows it. Written after NVIDIA's documentation of release 615.
struct ModuleBackEnd: ControlBackEnd {
    /// The program.
    var program: String
    var environment: [String: String]

    func ask(_ commands: [ControlCommand], within limit: Duration) -> ControlOutcome {
        let deadline = Deadline(limit)
        var answers: [[String]] = []
        for command in commands {
            guard let arguments = Self.arguments(command) else {
                answers.append(["Unknown command \"\(command.line)\""])
                continue
            }
            let run = ToolRun(
                program: program, arguments: arguments, environment: environment, input: [], limit: deadline.left)
            switch run.result {
            case .notStarted: return .noDaemon
            case .timedOut: return .busy(.daemon)
            case .ended(let status):
                if status.code != 0, run.errors.contains(where: { $0.hasPrefix("Cannot find MPS control daemon") }) {
                    return .noDaemon
                }
                guard status == ProcessExit(code: 0, signal: 0) else { return .truncated }
                if Self.isListing(command), run.output.first?.contains(",") != true { return .truncated }
                answers.append(run.output)
            }
        }
        return .answer(answers)
    }

    func quit(within limit: Duration) {
        _ = ToolRun(program: program, arguments: ["-q"], environment: environment, input: [], limit: limit)
    }

    /// Null where version 3 has no counterpart: limits and priorities belong to namespaces there.
    static func arguments(_ command: ControlCommand) -> [String]? {
        switch command {
        case .serverList: ["server", "list", "--format=csv"]
        case .serverStatus: ["server", "list", "--format=csv"]
        case .startServer(let user): ["server", "create", "uid_\(user)"]
        case .clientList, .clients: ["client", "list", "--all", "--format=csv"]
        case .terminateClient(_, let client): ["client", "terminate", "\(client)"]
        case .defaultThreadPercentage, .setDefaultThreadPercentage, .defaultMemoryLimit, .setDefaultMemoryLimit,
            .defaultPriority, .setDefaultPriority:
            nil
        }
    }

    private static func isListing(_ command: ControlCommand) -> Bool {
        switch command {
        case .serverList, .serverStatus, .clientList, .clients: true
        default: false
        }
    }
}
