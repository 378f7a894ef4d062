// Tandem — Apache-2.0

internal import Glibc
public import MPS

/// Why a supervisor could not start its work.
public enum SupervisionError: Error, Sendable, Equatable, CustomStringConvertible {
    case portInUse(host: String, port: UInt16)
    /// One of those that single engines have, from `first` on.
    case enginePortInUse(host: String, port: UInt16, first: UInt16)
    case cannotListen(host: String, port: UInt16, reason: String)
    case notEnoughMemory(neededBytes: UInt64, availableBytes: UInt64, contextLength: Int)
    case keyValueMemoryTooSmall(givenBytes: UInt64, neededBytes: UInt64, contextLength: Int)
    case planDoesNotFit(MemoryPlan)
    case noProgram(String, reason: String)
    case sharing(MPSError)
    case system(operation: String, subject: String, errno: Int32)

    public var description: String {
        switch self {
        case .portInUse(let host, let port):
            return "port \(port) on \(host) is already in use; choose another with --port (0 takes any free one)"
        case .enginePortInUse(let host, let port, let first):
            return
                "port \(port) on \(host) is already in use, and engines have ports from \(first) on; choose others with "
                + "--engine-ports"
        case .cannotListen(let host, let port, let reason):
            return "cannot listen on host \(host), port \(port): \(reason); choose others with --host and --port"
        case .notEnoughMemory(let needed, let available, let length):
            return "the KV cache of one sequence of \(length) tokens takes \(ByteCountText.text(needed)), and "
                + "\(ByteCountText.text(available)) an engine are left beside weights and workspaces: lower "
                + "--max-model-len or --engines, or free memory"
        case .keyValueMemoryTooSmall(let given, let needed, let length):
            return "--kv-cache-memory \(ByteCountText.text(given)) is less than what one sequence of \(length) tokens "
                + "takes, \(ByteCountText.text(needed)): raise it or lower --max-model-len"
        case .planDoesNotFit(let plan):
            let engines =
                (plan.engines == 1 ? "1 engine" : "\(plan.engines) engines")
                + (plan.models.count == 1 ? "" : " of \(plan.models.count) models")
                + (plan.engines == 1 ? " takes" : " take")
            let weights = plan.weightBytes
            return "\(engines) \(ByteCountText.text(plan.totalBytes)) of memory "
                + "(weights \(ByteCountText.text(weights)), KV caches \(ByteCountText.text(plan.keyValueBytes)), "
                + "the rest \(ByteCountText.text(plan.fixedBytes - min(plan.fixedBytes, weights)))), and "
                + "\(ByteCountText.text(plan.availableBytes)) are available, of which "
                + "\(ByteCountText.text(MemoryPlan.margin(of: plan.availableBytes))) are kept free: lower --engines, "
                + "--kv-cache-memory, --max-model-len, --max-num-batched-tokens or --max-num-seqs, or take a smaller "
                + "number format with --cpu-compute"
        case .noProgram(let program, let reason):
            return "cannot run \(program): \(reason)"
        case .sharing(let error):
            return "\(error)"
        case .system(let operation, let subject, let code):
            return "cannot \(operation) \(subject): \(String(cString: strerror(code)))"
        }
    }
}

/// Byte counts for people.
enum ByteCountText {
    static func text(_ bytes: UInt64) -> String {
        let units: [(UInt64, String)] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        guard let (size, name) = units.first(where: { bytes >= $0.0 }) else { return "\(bytes) B" }
        let tenths = bytes / size * 10 + bytes % size * 10 / size
        return tenths % 10 == 0 ? "\(tenths / 10) \(name)" : "\(tenths / 10).\(tenths % 10) \(name)"
    }
}
