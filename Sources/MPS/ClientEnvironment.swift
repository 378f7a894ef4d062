// Tandem — Apache-2.0

/// What an engine is given so that it becomes a client of the daemon. The one place where it is put together.
public struct ClientEnvironment: Sendable, Equatable {
    public var pipeDirectory: String
    /// UUID of the device, `GPU-…`; null leaves the choice to the daemon, which may have one device only.
    public var device: String?
    /// Percent of the multiprocessors that the engine may use; a limit, no reservation.
    public var threadPercentage: Double?
    /// Limit on device memory, CUDA's own needs included.
    public var memoryMebibytes: Int?
    public var priority: ClientPriority?
    /// Static partition, `GPU-…/id`.
    public var partition: String?
    /// A random text that tells the engine's processes from all others.
    public var token: String

    /// The variable of ``token``.
    public static let tokenVariable = "TANDEM_MPS_TOKEN"

    public init(pipeDirectory: String, device: String? = nil, token: String) {
        self.pipeDirectory = pipeDirectory
        self.device = device
        self.token = token
    }

    /// Variables that MPS or its clients read.
    static let known: Set<String> = [
        "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
        "CUDA_MPS_ENABLE_PER_CTX_DEVICE_MULTIPROCESSOR_PARTITIONING", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
        "CUDA_MPS_CLIENT_PRIORITY", "CUDA_MPS_SM_PARTITION", "CUDA_MPS_PROTOCOL_VERSION",
    ]

    /// The variables of the engine, over those of the surroundings.
    public func variables(over surroundings: [String: String]) -> [String: String] {
        var variables = surroundings
        // What else is set for MPS belongs to other daemons.
        for name in surroundings.keys where name.hasPrefix("CUDA_MPS_") { variables[name] = nil }
        variables["CUDA_MPS_PIPE_DIRECTORY"] = pipeDirectory
        variables[Self.tokenVariable] = token
        variables["CUDA_VISIBLE_DEVICES"] = device ?? surroundings["CUDA_VISIBLE_DEVICES"]
        variables["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = threadPercentage.map(Percentage.text)
        // The ordinal is that among the visible devices, of which there is one.
        variables["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = memoryMebibytes.map { "\(device ?? "0")=\($0)M" }
        variables["CUDA_MPS_CLIENT_PRIORITY"] = priority.map { "\($0.rawValue)" }
        variables["CUDA_MPS_SM_PARTITION"] = partition
        return variables
    }

    /// Settings that cannot work together, or not as they look.
    public func conflicts(with surroundings: [String: String] = [:]) -> [EnvironmentConflict] {
        var conflicts: [EnvironmentConflict] = []
        func report(_ variable: String, _ severity: EnvironmentConflict.Severity, _ reason: String, _ remedy: String) {
            conflicts.append(
                EnvironmentConflict(variable: variable, severity: severity, reason: reason, remedy: remedy))
        }
        if pipeDirectory.utf8.count > MPSDirectories.maximumPathBytes {
            report(
                "CUDA_MPS_PIPE_DIRECTORY", .error,
                "\(pipeDirectory.utf8.count) bytes, and MPS takes "
                    + "\(MPSDirectories.maximumPathBytes)", "choose a shorter directory")
        }
        if !pipeDirectory.hasPrefix("/") {
            report("CUDA_MPS_PIPE_DIRECTORY", .error, "no absolute path", "give one that starts with /")
        }
        if let device, !Self.isUUID(device) {
            report(
                "CUDA_VISIBLE_DEVICES", .error, "\(device) is no UUID; daemon and client each count ordinals anew",
                "take the UUID from nvidia-smi -L")
        }
        if let threadPercentage, !(threadPercentage > 0 && threadPercentage <= 100) {
            report(
                "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", .error,
                "\(threadPercentage) is not above 0 and at most 100, and "
                    + "MPS ignores such values without a word", "give a percentage")
        }
        if threadPercentage.map({ $0 < 100 }) ?? false || partition != nil {
            report(
                threadPercentage == nil ? "CUDA_MPS_SM_PARTITION" : "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", .warning,
                "on a part of the multiprocessors some matrix products of cuBLAS are silently wrong",
                "let every engine check a product of each shape before it serves")
        }
        if threadPercentage != nil && partition != nil {
            report(
                "CUDA_MPS_SM_PARTITION", .error, "a partition and a percentage limit the same engine twice",
                "give one of them")
        }
        if let partition, !(partition.split(separator: "/").first.map { Self.isUUID(String($0)) } ?? false) {
            report(
                "CUDA_MPS_SM_PARTITION", .error, "\(partition) does not start with a device's UUID",
                "write it as lspart shows it, GPU-…/id")
        }
        if let memoryMebibytes, memoryMebibytes < 512 {
            report(
                "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", .error, "\(memoryMebibytes) MiB; CUDA itself takes some hundred",
                "give more, or no limit")
        }
        conflicts += Self.lint(surroundings, pipeDirectory: pipeDirectory, device: device)
        return conflicts
    }

    /// What is wrong with variables that a user has set.
    public static func lint(
        _ environment: [String: String], pipeDirectory: String? = nil, device: String? = nil
    ) -> [EnvironmentConflict] {
        var conflicts: [EnvironmentConflict] = []
        for (name, value) in environment.sorted(by: { $0.key < $1.key }) {
            guard let (severity, reason, remedy) = check(name, value, environment, pipeDirectory, device) else {
                continue
            }
            conflicts.append(EnvironmentConflict(variable: name, severity: severity, reason: reason, remedy: remedy))
        }
        return conflicts
    }

    private static func check(
        _ name: String, _ value: String, _ environment: [String: String], _ pipeDirectory: String?, _ device: String?
    ) -> (EnvironmentConflict.Severity, String, String)? {
        switch name {
        case "CUDA_MPS_PIPE_DIRECTORY":
            guard let pipeDirectory, value != pipeDirectory else { return nil }
            return (.warning, "names another daemon, \(value); engines get \(pipeDirectory)", "unset it")
        case "CUDA_VISIBLE_DEVICES":
            if let device, !value.split(separator: ",").contains(Substring(device)) {
                return (.warning, "\(value) is not the device of the engines, \(device)", "unset it")
            }
            let isOrdinal = value.split(separator: ",").contains { Int($0) != nil }
            guard isOrdinal, environment["CUDA_MPS_PIPE_DIRECTORY"] != nil || pipeDirectory != nil, device == nil else {
                return nil
            }
            return (.warning, "has ordinals, which daemon and client each count anew", "name devices by UUID")
        case "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE":
            if let number = Double(value), number > 0, number <= 100 { return nil }
            return (.error, "\(value) is not above 0 and at most 100; MPS ignores it without a word", "correct it")
        case "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT":
            let isValid = value.split(separator: ",").allSatisfy { part in
                let pair = part.split(separator: "=", omittingEmptySubsequences: false)
                guard pair.count == 2, let unit = pair[1].last else { return false }
                return (Int(pair[0]) != nil || isUUID(String(pair[0]))) && (unit == "G" || unit == "M")
                    && Int(pair[1].dropLast()) != nil
            }
            if isValid && !value.isEmpty { return nil }
            return (.error, "\(value) is not understood; MPS ignores it without a word", "write 0=10G or 0=512M")
        case "CUDA_MPS_CLIENT_PRIORITY":
            return value == "0" || value == "1" ? nil : (.error, "\(value) is neither 0 nor 1", "correct it")
        case "CUDA_MPS_SM_PARTITION":
            guard environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] != nil else { return nil }
            return (.error, "a partition and a percentage limit the same engine twice", "unset one of them")
        case "CUDA_DEVICE_MAX_CONNECTIONS":
            guard let number = Int(value), number > 2 else { return nil }
            return (.warning, "\(value) connections a client lower the number of clients", "unset it")
        default:
            guard name.hasPrefix("CUDA_MPS_"), !known.contains(name) else { return nil }
            return (.warning, "MPS does not read it", "see its documentation for the right name")
        }
    }

    static func isUUID(_ text: String) -> Bool {
        text.hasPrefix("GPU-") || text.hasPrefix("MIG-")
    }
}

/// A setting that does not do what it seems to do.
public struct EnvironmentConflict: Sendable, Equatable, CustomStringConvertible {
    public enum Severity: Sendable, Equatable { case warning, error }
    public var variable: String
    public var severity: Severity
    public var reason: String
    public var remedy: String

    public var description: String { "\(variable): \(reason); \(remedy)" }
}
