// Tandem — Apache-2.0

internal import Glibc

/// The right to change the cache; the kernel takes it back when its holder dies.
struct CacheLock {
    private let descriptor: Int32

    /// Waits for it; `onWait` is called if somebody else has it.
    init(path: String, onWait: () -> Void) throws(ModelStoreError) {
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .system(operation: "open", path: path, errno: errno) }
        if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return }
        onWait()
        while flock(descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else {
                let code = errno
                close(descriptor)
                throw .system(operation: "lock", path: path, errno: code)
            }
        }
    }

    func release() {
        close(descriptor)
    }
}
