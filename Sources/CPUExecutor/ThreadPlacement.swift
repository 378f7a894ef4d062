// Tandem — Apache-2.0

import Glibc

/// Name, priority and core of the calling thread. All of them are conveniences: what cannot be had is left alone.
enum ThreadPlacement {
    static func apply(name: String, niceIncrement: Int32, cpu: Int?) {
        if niceIncrement != 0 {
            // On Linux a priority belongs to the thread, and 0 names the caller.
            let process = __priority_which_t(PRIO_PROCESS.rawValue)
            errno = 0
            let now = getpriority(process, 0)
            _ = setpriority(process, 0, now + niceIncrement)
        }
    }
}
