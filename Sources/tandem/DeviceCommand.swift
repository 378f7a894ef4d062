// Tandem — Apache-2.0

import ArgumentParser
import Glibc
import JSON
import VirtualDevice

extension AdminCommands {
    /// Talks to the process that simulates a GPU.
    struct Device: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Look at the simulated GPU of a server, or make it fail.",
            discussion: """
                Prints what the device answers, as JSON. The exit status is 1 if it refuses, and if status says that it \
                lags behind. docs/simulated-device.md describes it.

                Commands: \(ControlCommand.usage)

                Example:
                  tandem admin device status
                  tandem admin device fault fatal
                  tandem admin device fault slow 2 0
                """)

        @Argument(help: "The command and its arguments.")
        var words: [String]

        @OptionGroup var server: RunningServer

        func run() throws {
            signal(SIGPIPE, SIG_IGN)
            let name = "tandem admin device"
            let answer: String
            do {
                _ = try ControlCommand(words.joined(separator: " ").utf8)
                answer = try DeviceControl.ask(
                    words.joined(separator: " "), path: "\(try server.directory())/\(DeviceControl.socketName)")
            } catch {
                Process.log("\(name): \(error)")
                throw ExitCode(1)
            }
            Process.write(answer + "\n", to: STDOUT_FILENO)
            let fields = (try? JSONParser.parse(Array(answer.utf8)))?.object
            guard fields?["error"] == nil, fields?["late"] != .bool(true) else { throw ExitCode(1) }
        }
    }
}
