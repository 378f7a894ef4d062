// Tandem — Apache-2.0

import ArgumentParser
import CTandemSystem
import Configuration
import GPUModel
import Glibc
import VirtualDevice

/// The process that simulates a GPU for the engines of a server, started by the supervisor.
struct VirtualDeviceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "virtual-device",
        abstract: "Simulate a GPU for engines, in real time. Started by tandem serve --device simulated:NAME.",
        discussion: "docs/simulated-device.md describes it; tandem admin device talks to it.",
        shouldDisplay: false)

    @Option(help: "Name of the GPU.") var gpu: String
    @Option(help: "Path of the socket for engines.") var socket: String
    @Option(help: "Path of the socket for commands, a line each.") var controlSocket: String?
    @Flag(inversion: .prefixedNo, help: "Whether engines share the GPU by MPS.") var mps = true
    @Option var statusFd: Int32?

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        _ = tandem_set_process_name("tandem-device")
        let device = try SimulatedGPU.device(named: gpu, source: "--gpu")
        let process: DeviceProcess
        do {
            process = try DeviceProcess(
                DeviceState.Settings(device: device, usesMPS: mps),
                DeviceProcess.Places(clients: socket, control: controlSocket, supervisor: statusFd)
            ) { Process.log("simulated \(device.name): \($0)") }
        } catch {
            Process.log("simulated \(device.name): \(error)")
            throw ExitCode(1)
        }
        process.run()
    }
}
