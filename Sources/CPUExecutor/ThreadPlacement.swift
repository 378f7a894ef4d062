// Tandem — Apache-2.0

import CTandemSystem

/// Name, priority and core of the calling thread. All of them are conveniences: what cannot be had is left alone.
enum ThreadPlacement {
    static func apply(name: String, niceIncrement: Int32, cpu: Int?) {
        // The system call behind it names the calling thread; only in the main thread that is the process, too.
        _ = tandem_set_process_name(name)
        if niceIncrement != 0 {
            var nice: Int32 = 0
            _ = tandem_thread_get_nice(0, &nice)
            _ = tandem_thread_set_nice(0, max(-20, min(19, nice.addingReportingOverflow(niceIncrement).partialValue)))
        }
        if let cpu, let number = Int32(exactly: cpu) {
            _ = withUnsafePointer(to: number) { tandem_affinity_set(0, $0, 1) }
        }
    }
}
