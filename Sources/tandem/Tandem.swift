// Tandem — Apache-2.0

import ArgumentParser
import Configuration
import Glibc

/// The program. Its main thread lives as long as the process: the kernel ends children with the thread that started
/// them.
@main
struct Tandem: ParsableCommand {
    /// Version of the program.
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "tandem",
        abstract: "Serve a small language model with several engines behind one OpenAI-compatible endpoint.",
        discussion: """
            Start here:
              tandem serve                      fetch the default model and serve it on http://127.0.0.1:8000/v1
              tandem generate "Why is the sky blue?"
            """,
        version: version,
        subcommands: [
            ServeCommand.self, AdviseCommand.self, StatusCommand.self, AdminCommands.self, TopCommand.self,
            DoctorCommand.self, BenchCommand.self, StudyCommand.self, GenerateCommand.self, PullCommand.self,
            GPUCommand.self, EngineCommand.self, GatewayCommand.self, VirtualDeviceCommand.self, WeightsCommand.self,
            MonitorCommand.self,
        ]
    )

    static func main() {
        // An index is to mean the same GPU to CUDA, with and without MPS, to NVML and to nvidia-smi. Before any thread.
        setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0)
        do {
            var command: any ParsableCommand
            do {
                command = try parseAsRoot()
            } catch {
                if exitCode(for: error) != .success,
                    let hint = ForeignFlags.hint(Array(CommandLine.arguments.dropFirst()))
                {
                    Process.write("Hint: \(hint)\n", to: STDERR_FILENO)
                }
                throw error
            }
            do {
                try command.run()
            } catch let error as ValidationError {
                // What is wrong with a value is said by then; how commands are written is no help.
                Process.write("Error: \(error.message)\n", to: STDERR_FILENO)
                Glibc.exit(EX_USAGE)
            } catch let error as ConfigurationError {
                Process.write("Error: \(error)\n", to: STDERR_FILENO)
                Glibc.exit(EX_USAGE)
            }
        } catch {
            exit(withError: error)
        }
    }
}
