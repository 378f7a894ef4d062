// Tandem — Apache-2.0

import CTandemSystem
import Glibc
import InferenceEngine
import LanguageModel
import Requests
import Weights

/// Packed weights, mapped read-only: private to the process, or one copy in a memory file that several processes share.
///
/// A memory file is packed by whoever comes first. The lock on it belongs to an open file description of this object
/// alone, so the kernel drops it when its holder dies, however it dies; the header says "complete" only after the last
/// byte. A file without that word is packed from the start again.
///
/// Unchecked: the mapping is read-only once `init` has returned.
final class SharedWeights: @unchecked Sendable {
    /// What the weights are; two processes share them only if all of it is equal.
    struct Identity: Equatable {
        var compute: CPUCompute
        var model: Digest128
        var totalBytes: Int
    }

    let base: UnsafeRawPointer
    let byteCount: Int
    /// Whether this object packed the weights, rather than finding them.
    let packed: Bool

    typealias Pack = (UnsafeMutableRawPointer) -> Void

    /// - Parameters:
    ///   - descriptor: a memory file (`memfd_create`, sealing allowed) to share, or `nil` for private memory; stays open
    ///     and is not needed after `init`.
    ///   - pack: writes everything from the header's end on.
    /// - Throws: ``ExecutorError``: `outOfMemory`, or `unsupported` if the file holds other weights.
    init(descriptor: Int32?, identity: Identity, pack: Pack) throws(ExecutorError) {
        byteCount = identity.totalBytes
        if let descriptor {
            (base, packed) = try Self.share(descriptor, identity, pack)
        } else {
            let address = try Self.map(-1, identity.totalBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
            pack(address)
            mprotect(address, identity.totalBytes, PROT_READ)
            (base, packed) = (UnsafeRawPointer(address), true)
        }
    }

    deinit { munmap(UnsafeMutableRawPointer(mutating: base), byteCount) }

    // MARK: - The shared file

    private static func share(
        _ descriptor: Int32, _ identity: Identity, _ pack: Pack
    ) throws(ExecutorError) -> (UnsafeRawPointer, Bool) {
        // An inherited descriptor shares its open file description, and with it its lock, with every other process that
        // inherited it; opening the file anew gives one of our own.
        let file = try open(descriptor, O_RDWR)
        defer { close(file) }
        try lock(file)
        var packed = false
        if let found = try readHeader(file) {
            let wanted = header(identity)
            guard found == wanted else {
                throw ExecutorError(
                    kind: .unsupported,
                    message: "the shared weights (descriptor \(descriptor)) are of another model, mode or version "
                        + "(found \(describe(found)), wanted \(describe(wanted))); engines of one group must agree")
            }
        } else {
            guard ftruncate(file, 0) == 0, ftruncate(file, identity.totalBytes) == 0 else {
                throw failure("cannot size the shared weights to \(identity.totalBytes) bytes")
            }
            let address = try map(file, identity.totalBytes, PROT_READ | PROT_WRITE, MAP_SHARED)
            pack(address)
            munmap(address, identity.totalBytes)
            try writeHeader(file, identity)
            // Sealing keeps accidents out; a file that cannot be sealed is as good otherwise.
            let sizes = Int32(tandem_seal_shrink | tandem_seal_grow)
            if tandem_memfd_add_seals(file, sizes | Int32(tandem_seal_write)) != 0 {
                _ = tandem_memfd_add_seals(file, sizes | Int32(tandem_seal_future_write))
            }
            packed = true
        }
        let readable = try open(descriptor, O_RDONLY)
        defer { close(readable) }
        var status = stat()
        guard fstat(readable, &status) == 0, status.st_size >= identity.totalBytes else {
            throw ExecutorError(
                kind: .fatal,
                message: "the shared weights (descriptor \(descriptor)) hold \(status.st_size) bytes, "
                    + "not \(identity.totalBytes)")
        }
        return (UnsafeRawPointer(try map(readable, identity.totalBytes, PROT_READ, MAP_SHARED)), packed)
    }

    private static func open(_ descriptor: Int32, _ flags: Int32) throws(ExecutorError) -> Int32 {
        let opened = Glibc.open("/proc/self/fd/\(descriptor)", flags | O_CLOEXEC)
        guard opened >= 0 else {
            throw failure("cannot open the shared weights (descriptor \(descriptor)) through /proc/self/fd")
        }
        return opened
    }

    private static func lock(_ file: Int32) throws(ExecutorError) {
        while flock(file, LOCK_EX) != 0 {
            guard errno == EINTR else { throw failure("cannot lock the shared weights") }
        }
    }

    private static func map(
        _ file: Int32, _ length: Int, _ protection: Int32, _ flags: Int32
    ) throws(ExecutorError) -> UnsafeMutableRawPointer {
        guard let address = mmap(nil, length, protection, flags, file, 0), address != MAP_FAILED else {
            throw failure("cannot map \(length) bytes of weights")
        }
        _ = madvise(address, length, MADV_HUGEPAGE)
        return address
    }

    private static func failure(_ what: String) -> ExecutorError {
        let kind: ExecutorError.Kind = errno == ENOMEM || errno == ENOSPC ? .outOfMemory : .fatal
        return ExecutorError(kind: kind, message: "\(what): \(String(cString: strerror(errno)))")
    }

    // MARK: - The header

    private static let magic: UInt64 = 0x3157_6D65_646E_6154
    private static let complete: UInt64 = 0x6574_656C_706D_6F43

    /// Eight words; the last one, the state, is written after everything else.
    private static func header(_ identity: Identity) -> [UInt64] {
        [
            magic, PackedLayout.version, identity.compute.code, UInt64(identity.totalBytes), identity.model.high,
            identity.model.low, 0, complete,
        ]
    }

    private static func describe(_ header: [UInt64]) -> String {
        "version \(header[1]) mode \(header[2]) model \(Digest128(high: header[4], low: header[5])) size \(header[3])"
    }

    /// The header of a complete file; `nil` if nobody has finished packing.
    private static func readHeader(_ file: Int32) throws(ExecutorError) -> [UInt64]? {
        var words = [UInt64](repeating: 0, count: 8)
        let count = words.withUnsafeMutableBytes { pread(file, $0.baseAddress, $0.count, 0) }
        guard count >= 0 else { throw failure("cannot read the shared weights") }
        guard count == 64, words[0] == magic, words[7] == complete else { return nil }
        return words
    }

    private static func writeHeader(_ file: Int32, _ identity: Identity) throws(ExecutorError) {
        let words = header(identity)
        let head = words.withUnsafeBytes { pwrite(file, $0.baseAddress, 56, 0) }
        guard head == 56 else { throw failure("cannot write the header of the shared weights") }
        let state = withUnsafeBytes(of: words[7]) { pwrite(file, $0.baseAddress, 8, 56) }
        guard state == 8 else { throw failure("cannot write the header of the shared weights") }
    }
}
