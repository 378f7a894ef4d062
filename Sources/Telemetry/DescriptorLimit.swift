// Tandem — Apache-2.0

import Glibc

/// How many files, sockets among them, this process may have open: RLIMIT_NOFILE of getrlimit(2).
public enum DescriptorLimit {
    /// The limit that holds; null if there is none.
    public static var current: Int? {
        guard let limit = read(), limit.rlim_cur != rlim_t.max else { return nil }
        return Int(clamping: limit.rlim_cur)
    }

    /// Raises the limit to what the process may have without being asked, where less is usual for the sake of programs
    /// that use select(2). Children inherit it.
    public static func raise() {
        guard var limit = read(), limit.rlim_cur < limit.rlim_max else { return }
        limit.rlim_cur = limit.rlim_max
        // Without it the limit stays what it was, and connections are limited by that.
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    static func read() -> rlimit? {
        var limit = rlimit()
        return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? limit : nil
    }
}
