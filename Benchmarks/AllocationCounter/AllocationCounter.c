// Tandem — Apache-2.0
#define _GNU_SOURCE
#include "AllocationCounter.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>

// glibc's own functions under the names it keeps for this purpose.
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

#define MAXIMUM_THREADS 64

static struct tandem_allocations threads[MAXIMUM_THREADS];
static atomic_int thread_count;
static atomic_uint generation;
static atomic_bool counting;

// In the executable, so in static thread-local storage, which needs no allocation.
static _Thread_local int place = -1;
static _Thread_local unsigned place_generation;

static void count(size_t size) {
    if (!atomic_load_explicit(&counting, memory_order_acquire)) return;
    unsigned now = atomic_load_explicit(&generation, memory_order_relaxed);
    if (place < 0 || place_generation != now) {
        place_generation = now;
        place = atomic_fetch_add(&thread_count, 1);
        if (place >= MAXIMUM_THREADS) place = MAXIMUM_THREADS - 1;
        prctl(PR_GET_NAME, threads[place].thread, 0, 0, 0);
    }
    __atomic_fetch_add(&threads[place].calls, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&threads[place].bytes, size, __ATOMIC_RELAXED);
}

void *malloc(size_t size) {
    count(size);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count(number * size);
    return __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size) {
    count(size);
    return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
    count(size);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count(size);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
    count(size);
    void *found = __libc_memalign(alignment, size);
    if (!found) return ENOMEM;
    *memory = found;
    return 0;
}

void tandem_allocations_begin(void) {
    atomic_store(&counting, 0);
    memset(threads, 0, sizeof threads);
    atomic_store(&thread_count, 0);
    atomic_fetch_add(&generation, 1);
    atomic_store(&counting, 1);
}

void tandem_allocations_end(void) { atomic_store(&counting, 0); }

int tandem_allocations_read(struct tandem_allocations *entries, int capacity) {
    int known = atomic_load(&thread_count);
    if (known > MAXIMUM_THREADS) known = MAXIMUM_THREADS;
    if (known > capacity) known = capacity;
    for (int index = 0; index < known; index++) entries[index] = threads[index];
    return known;
}
