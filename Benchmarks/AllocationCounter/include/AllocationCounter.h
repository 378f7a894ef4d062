// Tandem — Apache-2.0
#ifndef TANDEM_ALLOCATION_COUNTER_H
#define TANDEM_ALLOCATION_COUNTER_H

#include <stdint.h>

// Counts what an executable that is linked with this allocates on the heap: its `malloc`, `calloc`, `realloc`,
// `memalign`, `aligned_alloc` and `posix_memalign` take the place of glibc's for all of the process and call them.

/// Counts of one thread.
struct tandem_allocations {
    /// The thread's name, as the kernel has it.
    char thread[16];
    /// Calls that gave memory.
    uint64_t calls;
    /// Bytes they asked for.
    uint64_t bytes;
};

/// Starts to count from zero, on all threads.
void tandem_allocations_begin(void);

/// Stops counting.
void tandem_allocations_end(void);

/// What each thread allocated that allocated anything since the last beginning; threads beyond the 64th share the last
/// entry.
///
/// Returns how many entries were written, at most `capacity`.
int tandem_allocations_read(struct tandem_allocations *entries, int capacity);

#endif
