// Tandem — Apache-2.0

import Fuzzing
import Glibc

/// A tally in memory that parent and child share, so that it is still there when the child has crashed.
struct SharedTally {
    /// The child writes, the parent reads. Both may see a number that is about to change, which does no harm.
    let pointer: UnsafeMutablePointer<FuzzTally>

    /// Maps a file.
    ///
    /// - Returns: nil if it cannot be mapped.
    init?(path: String, isNew: Bool) {
        let descriptor = open(path, O_RDWR | O_CLOEXEC | (isNew ? O_CREAT | O_EXCL : 0), 0o600)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let size = MemoryLayout<FuzzTally>.size
        guard !isNew || ftruncate(descriptor, off_t(size)) == 0,
            let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), memory != MAP_FAILED
        else { return nil }
        pointer = memory.bindMemory(to: FuzzTally.self, capacity: 1)
        if isNew { pointer.initialize(to: FuzzTally()) }
    }
}
