// Tandem — Apache-2.0

import Configuration
import DeviceMonitor
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
        let sharing = try self.sharing(settings, environment: environment, output: output)
        if sharing == nil, !settings.mpsLimits.isEmpty {
            let processes = settings.models.reduce(0) { $0 + $1.processes }
            throw settings.mpsLimits.error(
                settings.sharedGPU == nil
                    ? "it limits clients of MPS, and there is no GPU that the engines share: name one with --device cuda:0"
                    : processes == 1 && settings.mps == .auto
                        ? "one engine process has the GPU to itself, without MPS; --mps on makes it a client all the same"
                        : "it limits clients of MPS, which is not there (tandem doctor tells more)")
        }
        return sharing
    }

    private static func sharing(
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
        // By UUID where it is known: daemon and clients count ordinals each for themselves.
        let uuid = settings.sharedGPU.flatMap { identifier(of: $0, environment: environment) }
        let isExternal = settings.mps == .external
        let directories =
            isExternal
            ? try MPSDirectories(external: settings.mpsDirectory, environment: environment)
            : try MPSDirectories(
                base: RunDirectory.base(environment: environment), device: Self.name(uuid ?? settings.sharedGPU))
        var ownership: MPSOwnership?
        if !isExternal {
            try directories.make()
            ownership = try directories.own()
        }
        let client = ClientEnvironment(pipeDirectory: directories.pipe, device: uuid, token: "")
        let limits = ClientLimits.each(
            of: settings.models.reduce(0) { $0 + $1.processes }, percentages: settings.mpsLimits.threadPercentages,
            priorities: settings.mpsLimits.priorities.map { $0 == .low ? .belowNormal : .normal })
        var tightest = ClientLimits()
        tightest.threadPercentage = settings.mpsLimits.threadPercentages.min()
        if isExternal, !limits.isEmpty {
            output(
                .line(
                    .info,
                    "the MPS daemon is not Tandem's: an engine gets its own limit or the daemon's, whichever is the smaller, "
                        + "and with MPS of version 3 that of its namespace"))
        }
        // An index counts in what it lists, and was understood so.
        var checked = environment
        if uuid != nil, settings.sharedGPU.flatMap(Int.init) != nil { checked["CUDA_VISIBLE_DEVICES"] = nil }
        for conflict in client.limited(to: tightest).conflicts(with: checked) {
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
        var sharing = SharingConfiguration(mps: mps, ownership: ownership, client: client)
        sharing.limits = limits
        sharing.busID = uuid.flatMap { uuid in
            MachineFacts.gpus(environment: environment)?.first { $0.uuid.hasPrefix(uuid) }?.busID
        }
        return sharing
    }

    /// Of a GPU, short enough for the path of a socket: of a UUID its first part.
    private static func name(_ gpu: String?) -> String { String((gpu ?? "0").prefix(12)) }

    private static func identifier(of gpu: String, environment: [String: String]) -> String? {
        switch ManagedSource.device(gpu, environment) {
        case .uuid(let uuid): uuid
        case .index(let index): MachineFacts.gpus(environment: environment)?.first { $0.index == index }?.uuid
        }
    }
}
