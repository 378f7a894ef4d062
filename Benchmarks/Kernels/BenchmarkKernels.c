// Tandem — Apache-2.0
#define _GNU_SOURCE
#include "BenchmarkKernels.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { max_threads = 64, passes = 7 };

/* What a thread does in one pass; returns how much it did (bytes or operations). */
typedef double (*work)(void *context, int thread, int threads);

struct crew {
    pthread_barrier_t barrier;
    work work;
    void *context;
    int threads;
    double done[max_threads];
    double best;
};

struct member {
    struct crew *crew;
    int number;
    pthread_t thread;
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void *run(void *argument) {
    struct member *member = argument;
    struct crew *crew = member->crew;
    for (int pass = 0; pass < passes; pass++) {
        pthread_barrier_wait(&crew->barrier);
        double began = now();
        crew->done[member->number] = crew->work(crew->context, member->number, crew->threads);
        pthread_barrier_wait(&crew->barrier);
        if (member->number != 0) continue;
        double seconds = now() - began, total = 0;
        for (int i = 0; i < crew->threads; i++) total += crew->done[i];
        if (seconds > 0 && total / seconds > crew->best) crew->best = total / seconds;
    }
    return NULL;
}

/* Best rate over the passes; thread 0 is the caller. */
static double measure(work work, void *context, int threads) {
    if (threads < 1 || threads > max_threads) return 0;
    struct crew crew = {.work = work, .context = context, .threads = threads};
    struct member members[max_threads];
    if (pthread_barrier_init(&crew.barrier, NULL, (unsigned)threads) != 0) return 0;
    for (int i = 0; i < threads; i++) members[i] = (struct member){.crew = &crew, .number = i};
    for (int i = 1; i < threads; i++) {
        if (pthread_create(&members[i].thread, NULL, run, &members[i]) != 0) {
            /* Threads that exist wait at the barrier for good; a benchmark may leave them there. */
            return 0;
        }
    }
    run(&members[0]);
    for (int i = 1; i < threads; i++) pthread_join(members[i].thread, NULL);
    pthread_barrier_destroy(&crew.barrier);
    return crew.best;
}

/* MARK: - Reading memory */

typedef uint64_t lanes __attribute__((vector_size(64), may_alias));

struct region {
    const char *base;
    size_t bytes;
};

/* Keeps results alive, so that reads are not optimised away. */
static volatile uint64_t sink;

static inline __attribute__((always_inline)) void read_lanes(const char *base, size_t bytes) {
    lanes a = {0}, b = {0}, c = {0}, d = {0};
    const lanes *from = (const lanes *)base;
    size_t count = bytes / sizeof(lanes);
    for (size_t i = 0; i + 4 <= count; i += 4) {
        a |= from[i];
        b |= from[i + 1];
        c |= from[i + 2];
        d |= from[i + 3];
    }
    a |= b | c | d;
    sink = a[0] | a[1] | a[2] | a[3] | a[4] | a[5] | a[6] | a[7];
}

static void read_portable(const char *base, size_t bytes) { read_lanes(base, bytes); }

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void read_avx512(const char *base, size_t bytes) { read_lanes(base, bytes); }
__attribute__((target("avx2"))) static void read_avx2(const char *base, size_t bytes) { read_lanes(base, bytes); }
#endif

static double read_share(void *context, int thread, int threads) {
    const struct region *region = context;
    size_t share = region->bytes / (size_t)threads / 256 * 256;
    const char *base = region->base + share * (size_t)thread;
    void (*read)(const char *, size_t) = read_portable;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) read = read_avx2;
    if (__builtin_cpu_supports("avx512f")) read = read_avx512;
#endif
    /* Enough repetitions that starting together costs nothing. */
    int repetitions = share < ((size_t)1 << 30) ? (int)(((size_t)1 << 30) / (share + 1)) + 1 : 1;
    if (repetitions > 1000) repetitions = 1000;
    for (int i = 0; i < repetitions; i++) read(base, share);
    return (double)share * repetitions;
}

double benchmark_read_bandwidth(size_t bytes, int threads) {
    const size_t huge = (size_t)2 << 20;
    size_t length = (bytes + huge - 1) / huge * huge;
    if (length < bytes || length == 0) return 0;
    char *memory = mmap(NULL, length + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 0;
    char *base = (char *)(((uintptr_t)memory + huge - 1) / huge * huge);
    (void)madvise(base, length, MADV_HUGEPAGE);
    memset(base, 1, length);
    struct region region = {.base = base, .bytes = bytes};
    double rate = measure(read_share, &region, threads);
    munmap(memory, length + huge);
    return rate;
}

/* MARK: - Arithmetic */

enum { rounds = 1 << 21, accumulators = 12 };

#if defined(__x86_64__)
/* A macro, since the vector type and the instruction set differ: `accumulators` independent chains hide the latency. */
#define PEAK(name, isa, vector, zero, step, reduce)                                                                    \
    __attribute__((target(isa))) static void name(void) {                                                              \
        vector x0 = zero, x1 = zero, x2 = zero, x3 = zero, x4 = zero, x5 = zero, x6 = zero, x7 = zero, x8 = zero,      \
               x9 = zero, x10 = zero, x11 = zero;                                                                      \
        for (int i = 0; i < rounds; i++) {                                                                             \
            x0 = step(x0), x1 = step(x1), x2 = step(x2), x3 = step(x3), x4 = step(x4), x5 = step(x5);                  \
            x6 = step(x6), x7 = step(x7), x8 = step(x8), x9 = step(x9), x10 = step(x10), x11 = step(x11);              \
            __asm__ volatile("" : "+x"(x0), "+x"(x6));                                                                 \
        }                                                                                                              \
        reduce(x0, x1), reduce(x2, x3), reduce(x4, x5), reduce(x6, x7), reduce(x8, x9), reduce(x10, x11);              \
    }

#define INT8_STEP(x) _mm512_dpbusd_epi32(x, _mm512_set1_epi8(3), _mm512_set1_epi8(2))
#define INT8_KEEP(a, b) (sink = (uint64_t)_mm512_reduce_add_epi32(_mm512_add_epi32(a, b)))
PEAK(peak_int8, "avx512f,avx512bw,avx512vnni", __m512i, _mm512_setzero_si512(), INT8_STEP, INT8_KEEP)

#define BF16_STEP(x) _mm512_dpbf16_ps(x, (__m512bh)_mm512_set1_epi16(0x3f80), (__m512bh)_mm512_set1_epi16(0x3f00))
#define F32_KEEP(a, b) (sink = (uint64_t)_mm512_reduce_add_ps(_mm512_add_ps(a, b)))
PEAK(peak_bf16, "avx512f,avx512bw,avx512bf16", __m512, _mm512_setzero_ps(), BF16_STEP, F32_KEEP)

#define F32_STEP(x) _mm512_fmadd_ps(x, _mm512_set1_ps(0.5f), _mm512_set1_ps(1.0f))
PEAK(peak_f32_avx512, "avx512f", __m512, _mm512_setzero_ps(), F32_STEP, F32_KEEP)

#define F32_STEP_256(x) _mm256_fmadd_ps(x, _mm256_set1_ps(0.5f), _mm256_set1_ps(1.0f))
#define F32_KEEP_256(a, b) (sink = (uint64_t)_mm256_cvtss_f32(_mm256_add_ps(a, b)))
PEAK(peak_f32_avx2, "avx2,fma", __m256, _mm256_setzero_ps(), F32_STEP_256, F32_KEEP_256)
#endif

typedef float narrow __attribute__((vector_size(16)));

static void peak_f32_portable(void) {
    narrow x[accumulators];
    const narrow half = {0.5f, 0.5f, 0.5f, 0.5f}, one = {1, 1, 1, 1};
    memset(x, 0, sizeof x);
    for (int i = 0; i < rounds; i++) {
        for (int j = 0; j < accumulators; j++) x[j] = x[j] * half + one;
    }
    narrow sum = {0};
    for (int j = 0; j < accumulators; j++) sum += x[j];
    sink = (uint64_t)(sum[0] + sum[1] + sum[2] + sum[3]);
}

struct arithmetic {
    void (*run)(void);
    /* Multiplications and additions of one instruction. */
    double operations;
};

static double compute(void *context, int thread, int threads) {
    (void)thread, (void)threads;
    const struct arithmetic *arithmetic = context;
    arithmetic->run();
    return arithmetic->operations * accumulators * rounds;
}

double benchmark_peak(enum benchmark_instruction instruction, int threads) {
    struct arithmetic arithmetic = {0};
    switch (instruction) {
    case benchmark_int8_dot:
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx512vnni")) arithmetic = (struct arithmetic){peak_int8, 128};
#endif
        break;
    case benchmark_bf16_dot:
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx512bf16")) arithmetic = (struct arithmetic){peak_bf16, 64};
#endif
        break;
    case benchmark_f32_fma:
        arithmetic = (struct arithmetic){peak_f32_portable, 8};
#if defined(__x86_64__)
        if (__builtin_cpu_supports("fma")) arithmetic = (struct arithmetic){peak_f32_avx2, 16};
        if (__builtin_cpu_supports("avx512f")) arithmetic = (struct arithmetic){peak_f32_avx512, 32};
#endif
        break;
    }
    return arithmetic.run ? measure(compute, &arithmetic, threads) : 0;
}
