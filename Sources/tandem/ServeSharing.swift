// Tandem — Apache-2.0

import Configuration
import Diagnosis
import MPS
import Supervision

/// Whether engines share a GPU by MPS, and how.
enum ServeSharing {
    /// - Returns: null if they do not share one.
    /// - Throws: ``MPSError`` or ``ConfigurationError`` if sharing was asked for and cannot be.
    static func configuration(
        _ settings: ServeConfiguration, environment: [String: String],
        output: (SupervisorOutput) -> Void
    ) throws -> SharingConfiguration? {
        let usesGPU = settings.sharedGPU != nil
        guard settings.mps != .off, usesGPU || settings.faultPort else { return nil }
        // By request only: engines on CPUs have nothing to share but in tests.
        guard settings.mps != .auto || usesGPU else { return nil }
        // One process alone is slower under MPS (measured on an H100: 3 to 23 %) and shares with nobody.
        guard settings.mps != .auto || settings.models.reduce(0, { $0 + $1.processes }) > 1 else { return nil }
        let programs: MPSPrograms
        do {
            programs = try MPSPrograms(searchPath: environment["PATH"] ?? "")
        } catch {
            guard settings.mps == .auto else { throw error }
            output(.line(.warning, "engines share the GPU by time slices: \(error)"))
            return nil
        }
        let isExternal = settings.mps == .external
        let directories =
            isExternal
            ? try MPSDirectories(external: settings.mpsDirectory, environment: environment)
            : try MPSDirectories(base: RunDirectory.base(environment: environment), device: settings.sharedGPU ?? "0")
        var ownership: MPSOwnership?
        if !isExternal {
            try directories.make()
            ownership = try directories.own()
        }
        // By UUID where it is known: daemon and clients count ordinals each for themselves.
        let uuid = settings.sharedGPU.flatMap { identifier(of: $0, environment: environment) }
        let client = ClientEnvironment(pipeDirectory: directories.pipe, device: uuid, token: "")
        for conflict in client.conflicts(with: environment) {
            guard conflict.severity == .warning else {
                throw ConfigurationError(source: conflict.variable, reason: "\(conflict.reason); \(conflict.remedy)")
            }
            output(.line(.warning, "\(conflict)"))
        }
        var mps = MPSController.Configuration(
            directories: directories, programs: programs, environment: environment, device: uuid,
            ownership: isExternal ? .external : .own,
            // NVIDIA's own switch, where the driver has both languages.
            version: environment["CUDA_MPS_PROTOCOL_VERSION"] == "3" ? .version3 : .version2,
            limits: MPSMachine.Limits(scale: settings.mpsTimeScale))
        mps.queryLimit = max(.seconds(1), mps.queryLimit * settings.mpsTimeScale)
        return SharingConfiguration(mps: mps, ownership: ownership, client: client)
    }

    private static func identifier(of gpu: String, environment: [String: String]) -> String? {
        guard let index = Int(gpu) else { return gpu }
        return MachineFacts.gpus(environment: environment)?.first { $0.index == index }?.uuid
    }
}
