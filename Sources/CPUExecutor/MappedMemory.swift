// Tandem — Apache-2.0

import Glibc
import InferenceEngine

/// Anonymous zeroed memory of its own pages, which the kernel provides as they are touched; freed with the object.
///
/// Unchecked: the object is an address and a length; who may write where is the business of those who hold it.
final class MappedMemory: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    let byteCount: Int

    /// - Parameters:
    ///   - byteCount: bytes wanted; at least one page is mapped.
    ///   - purpose: names the memory in the error.
    init(byteCount: Int, purpose: String) throws(ExecutorError) {
        let length = max(byteCount, 4096)
        let address = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address, address != MAP_FAILED else {
            throw ExecutorError(
                kind: .outOfMemory,
                message: "cannot map \(length) bytes for \(purpose): \(String(cString: strerror(errno)))")
        }
        // Advice only: without huge pages everything works, a little slower.
        _ = madvise(address, length, MADV_HUGEPAGE)
        base = address
        self.byteCount = length
    }

    deinit { munmap(base, byteCount) }
}

/// Hands out 64-byte-aligned pieces of one region: first all sizes are added up, then the region is cut the same way.
struct Arena {
    private var offset = 0

    /// Bytes of everything reserved so far.
    var byteCount: Int { offset }

    /// Reserves room and returns its offset.
    mutating func reserve<Element>(_ count: Int, of: Element.Type) -> Int {
        let start = offset
        offset = (offset + count * MemoryLayout<Element>.stride + 63) & ~63
        return start
    }
}
