// Tandem — Apache-2.0

// What Swift cannot call by itself, or not safely: starting a child between fork and exec, Linux system calls without
// an importable wrapper, and atomics on shared memory. No allocation is left behind, no state is kept.
//
// Unless said otherwise a function returns a value >= 0, or -errno.

#ifndef CTANDEMSYSTEM_H
#define CTANDEMSYSTEM_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "CUDALayouts.h"

// MARK: - Children

/// The child sees `parent` (a descriptor of this process) under the number `child`.
typedef struct tandem_descriptor_mapping {
    int32_t parent;
    int32_t child;
} tandem_descriptor_mapping;

/// How to start a child. Zero-initialise, then fill in; `path`, `arguments` and `environment` are needed.
typedef struct tandem_spawn_options {
    /// Program file; not searched in PATH.
    const char *path;
    /// Null-terminated; the first is the name shown by `ps`.
    char *const *arguments;
    /// Null-terminated `NAME=value`.
    char *const *environment;
    /// Descriptors of the child. All others are closed in it, except 0, 1 and 2, which it inherits.
    const tandem_descriptor_mapping *descriptors;
    int32_t descriptor_count;
    /// CPU numbers the child may run on; a count of 0 leaves them as they are.
    const int32_t *cpus;
    int32_t cpu_count;
    /// Working directory; null keeps this process's.
    const char *working_directory;
    /// Added to this process's nice value.
    int32_t nice_increment;
    /// Signal that the kernel sends to the child when the *thread* that started it ends; 0 for none. Start such
    /// children from a thread that lives as long as the process.
    int32_t parent_death_signal;
    /// The child leads a process group of its own, so that a terminal's Ctrl-C does not reach it and the whole group
    /// can be killed.
    bool new_process_group;
} tandem_spawn_options;

/// Where a start failed; `tandem_spawn_stage_name` tells in words.
typedef enum tandem_spawn_stage {
    tandem_spawn_stage_none = 0,
    tandem_spawn_stage_prepare,
    tandem_spawn_stage_fork,
    tandem_spawn_stage_process_group,
    tandem_spawn_stage_parent_death_signal,
    tandem_spawn_stage_affinity,
    tandem_spawn_stage_nice,
    tandem_spawn_stage_working_directory,
    tandem_spawn_stage_descriptors,
    tandem_spawn_stage_execute,
    tandem_spawn_stage_pidfd,
} tandem_spawn_stage;

typedef struct tandem_spawn_result {
    /// Process id; 0 if the start failed.
    int32_t pid;
    /// Becomes readable when the child ends; close-on-exec; -1 if the start failed.
    int32_t pidfd;
    /// errno of the failure, else 0.
    int32_t error;
    tandem_spawn_stage stage;
} tandem_spawn_result;

/// Starts a child and waits until its program runs (or could not be run: then nothing is left behind).
/// In the child, signal handlers and the signal mask are the default ones.
tandem_spawn_result tandem_spawn(const tandem_spawn_options *options);

/// What was attempted in `stage`: "start the program", …
const char *tandem_spawn_stage_name(tandem_spawn_stage stage);

/// How a child ended: exit code, or the signal that killed it.
typedef struct tandem_exit_status {
    int32_t exit_code;
    /// 0 if the child exited by itself.
    int32_t signal;
} tandem_exit_status;

/// Reaps the child of `pidfd`. Returns 1 and fills in `status`, or 0 if it still runs (only when `wait` is false).
int32_t tandem_reap(int32_t pidfd, bool wait, tandem_exit_status *status);

/// From now on, what descendants of this process leave behind when they end become its children.
int32_t tandem_adopt_orphans(void);

/// Reaps a child that was adopted. Returns its id, or 0 if none has ended, or if a child has that `tandem_spawn` started, on
/// whichever thread: that one first has to be reaped by its pidfd.
int32_t tandem_reap_adopted(void);

/// A descriptor that becomes readable when the process ends; close-on-exec.
int32_t tandem_pidfd_open(int32_t pid);

/// Sends a signal to exactly the process behind `pidfd`, never to a later one with the same id. Signal 0 only asks
/// whether it still exists.
int32_t tandem_pidfd_send_signal(int32_t pidfd, int32_t signal);

/// Names this process (as `ps -o comm` and `top` show it); at most 15 bytes are kept. Call from the main thread.
int32_t tandem_set_process_name(const char *name);

/// The environment of this process, null-terminated `NAME=value`. Nothing may change it meanwhile.
char *const *tandem_environment(void);

// MARK: - Signals

/// Blocks the signals in the calling thread (and the threads it starts later) and returns a descriptor from which
/// `tandem_signal_read` takes them; non-blocking, close-on-exec.
int32_t tandem_signal_descriptor(const int32_t *signals, int32_t count);

/// The next pending signal, or 0 if there is none.
int32_t tandem_signal_read(int32_t descriptor);

/// Whether this process ignores a signal (as under `nohup`).
bool tandem_signal_is_ignored(int32_t number);

// MARK: - Waiting

/// `poll` with a timeout in nanoseconds; negative: no limit. Returns how many entries have something, or -EINTR and such.
int32_t tandem_poll(struct pollfd *entries, uint32_t count, int64_t timeout_nanoseconds);

// MARK: - Futex

/// Sleeps while `*word == expected`, at most `timeout_nanoseconds` (negative: no limit). `shared` is for memory mapped
/// by several processes. Returns 0 when woken (perhaps spuriously: test the word again), -EAGAIN if the word differed,
/// -ETIMEDOUT, or -EINTR.
int32_t tandem_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_nanoseconds, bool shared);

/// Wakes at most `count` sleepers; returns how many were woken.
int32_t tandem_futex_wake(const uint32_t *word, int32_t count, bool shared);

// MARK: - Atomics on memory that Swift's `Atomic` cannot own (shared mappings, futex words)

static inline uint32_t tandem_atomic_load_acquire(const uint32_t *word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void tandem_atomic_store_release(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/// Adds and returns the value before; sequentially consistent.
static inline uint32_t tandem_atomic_fetch_add(uint32_t *word, uint32_t value) {
    return __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST);
}

/// Replaces `expected` by `desired`; false if the word held something else. Sequentially consistent.
static inline bool tandem_atomic_compare_exchange(uint32_t *word, uint32_t expected, uint32_t desired) {
    return __atomic_compare_exchange_n(word, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/// Tells the core that this is a spin loop.
static inline void tandem_spin_hint(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

// MARK: - Threads and cores

/// Kernel id of the calling thread.
int32_t tandem_thread_id(void);

/// CPU numbers, ascending, on which thread `tid` (0: the caller) may run. Fills at most `capacity` of `cpus`; returns
/// how many there are.
int32_t tandem_affinity_get(int32_t tid, int32_t *cpus, int32_t capacity);

/// Lets thread `tid` (0: the caller) run on these CPUs only.
int32_t tandem_affinity_set(int32_t tid, const int32_t *cpus, int32_t count);

/// Sets the nice value of thread `tid` (0: the caller), -20 to 19; on Linux each thread has its own.
int32_t tandem_thread_set_nice(int32_t tid, int32_t nice);

/// How much later than asked for the kernel may wake the calling thread from a timed wait, in nanoseconds; 50000 by
/// default.
int32_t tandem_set_timer_slack(uint64_t nanoseconds);

/// The nice value of thread `tid` (0: the caller). Returns 0 and fills in `nice`.
int32_t tandem_thread_get_nice(int32_t tid, int32_t *nice);

// MARK: - Anonymous shared memory

/// A memory file that can be sealed; close-on-exec.
int32_t tandem_memfd_create(const char *name);

/// Kinds of seals, combined by |.
enum {
    tandem_seal_seal = 1,
    tandem_seal_shrink = 2,
    tandem_seal_grow = 4,
    /// Nothing can write any more; fails with -EBUSY while a writable shared mapping exists.
    tandem_seal_write = 8,
    /// No new writable mapping and no `write`; existing mappings stay writable.
    tandem_seal_future_write = 16,
};

int32_t tandem_memfd_add_seals(int32_t descriptor, int32_t seals);

/// The seals of a memory file.
int32_t tandem_memfd_get_seals(int32_t descriptor);

// MARK: - Descriptors handed to other processes

/// Sends one message, and `descriptor` with it unless that is -1, over a Unix socket that keeps messages apart. Never
/// raises SIGPIPE. Returns 0, or a negative error number.
int32_t tandem_send_message(int32_t socket, const void *bytes, uint64_t count, int32_t descriptor);

/// Takes one message, and the descriptor that came with it (close-on-exec; -1 if none did; more than one are closed and
/// are an error). Returns the number of bytes, 0 at the end of the connection, or a negative error number: -EMSGSIZE
/// for a message longer than `capacity`.
int64_t tandem_receive_message(int32_t socket, void *bytes, uint64_t capacity, int32_t *descriptor);

// MARK: - Libraries opened at run time

/// The file of the library that holds an address; null if there is none. Lives as long as the library is open.
const char *tandem_library_file(const void *address);

#endif
