// Tandem — Apache-2.0

import ArgumentParser
import EngineLink
import Glibc
import Supervision

/// Which server an administrator means.
struct RunningServer: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Run directory of the server, as it stands in tandem status. (default: the only server that runs)",
            valueName: "directory"))
    var run: String?

    /// Connects to it.
    func client(_ command: String) throws -> AdminClient {
        do {
            return try AdminClient(directory: try directory())
        } catch {
            Process.log("\(command): \(error)")
            throw ExitCode(1)
        }
    }

    private struct Problem: Error, CustomStringConvertible {
        var description: String
    }

    /// Of the server that is meant.
    func directory() throws -> String {
        if let run { return run }
        let servers = RunningSupervisor.all(environment: Process.environment())
        guard let first = servers.first else {
            throw Problem(description: "\(Self.none); start one with tandem serve")
        }
        guard servers.count > 1 else { return first.directory }
        let list = servers.map { "  --run \($0.directory)  (\(Self.words(on: $0)))" }
        throw Problem(
            description: "\(servers.count) servers run here, say which:\n" + list.joined(separator: "\n"))
    }

    private static var none: String {
        geteuid() == 0 ? "no server runs here" : "no server of yours runs here"
    }

    private static func words(on server: RunningSupervisor) -> String {
        guard var client = try? AdminClient(directory: server.directory, patience: .seconds(2)),
            case .status(let status) = try? client.ask(.status)
        else { return "process \(server.pid), does not answer" }
        return "process \(status.pid), port \(status.port)"
    }
}

extension Process {
    /// Whether standard output shows colours.
    static var showsColours: Bool {
        let environment = Process.environment()
        let terminal = environment["TERM"] ?? ""
        return isatty(STDOUT_FILENO) == 1 && (environment["NO_COLOR"] ?? "").isEmpty && !terminal.isEmpty
            && terminal != "dumb"
    }
}
