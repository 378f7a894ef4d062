// Tandem — Apache-2.0
#ifndef TANDEM_CUDA_EMULATOR_H
#define TANDEM_CUDA_EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/* Runs the CUDA kernels of `CUDAKernels` on a CPU, for tests and for the double of the driver. Pointers in arguments are
 * plain addresses of this process.
 *
 * A block of threads runs on the calling thread, each of its threads on a stack of its own; they change places at
 * barriers and in what warps do together. Calls from several threads at once do not disturb each other.
 *
 * What is checked: fragments lie in lanes as PTX ISA describes them; 16-byte accesses are aligned; asynchronous copies
 * arrive at the wait for them and not before; shared memory starts poisoned and is not left; threads of a block meet at
 * the same barrier and lanes of a warp in the same instruction. What is not modelled: time, coalescing, bank conflicts,
 * blocks that run at once, and memory order. */

/** Three numbers, as of a grid or a block. */
struct tandem_emulator_size {
    uint32_t x, y, z;
};

/** In which order the threads of a block run between barriers. What is right under one alone lacks a barrier. */
enum tandem_emulator_schedule {
    /** One thread after the other. */
    tandem_emulator_round_robin = 0,
    /** A warp runs as far as it can, then the next one. */
    tandem_emulator_warp_greedy = 1,
    /** As `warp_greedy`, from the last warp to the first. */
    tandem_emulator_warp_greedy_descending = 2,
};

/** How a launch ended. */
enum tandem_emulator_status {
    tandem_emulator_ok = 0,
    /** There is no kernel of that name. */
    tandem_emulator_unknown_kernel = 1,
    /** Grid, block or shared memory are beyond what a GPU permits or the kernel is made for. */
    tandem_emulator_invalid_launch = 2,
    /** The kernel did what must not be done; see `tandem_emulator_message`. */
    tandem_emulator_fault = 3,
};

/** No site is disturbed. */
#define TANDEM_EMULATOR_NO_SITE (-1)

/** Runs a kernel as `tandem_emulator_launch` does, in an order of choice.
 *
 * `disturbed_site` is a site, see `tandem_emulator_site_count`, at which the instruction does not do its work. */
enum tandem_emulator_status tandem_emulator_launch_with(const char *name, struct tandem_emulator_size grid,
                                                        struct tandem_emulator_size block, uint32_t shared_bytes,
                                                        void *_Nullable const *_Nonnull arguments,
                                                        enum tandem_emulator_schedule schedule,
                                                        int32_t disturbed_site);

/** Runs a kernel as `tandem_emulator_launch_with` does, started before the work before it has ended.
 *
 * `earlier` is that work, or what is left of it. It runs once, when the threads of the first block have come as far as they
 * may without it; so what they read before is what was there before. A kernel that never waits for it is at fault. */
enum tandem_emulator_status tandem_emulator_launch_early(const char *name, struct tandem_emulator_size grid,
                                                         struct tandem_emulator_size block, uint32_t shared_bytes,
                                                         void *_Nullable const *_Nonnull arguments,
                                                         enum tandem_emulator_schedule schedule,
                                                         int32_t disturbed_site,
                                                         void (*_Nullable earlier)(void *_Nullable context),
                                                         void *_Nullable context);

/** Runs a kernel to its end.
 *
 *  name          of the kernel, as in the kernels' text
 *  grid, block   as in `cuLaunchKernel`
 *  shared_bytes  dynamic shared memory of a block
 *  arguments     addresses of the arguments' values, in order */
enum tandem_emulator_status tandem_emulator_launch(const char *name, struct tandem_emulator_size grid,
                                                   struct tandem_emulator_size block, uint32_t shared_bytes,
                                                   void *_Nullable const *_Nonnull arguments);

/** Why the calling thread's last launch did not end well; empty if it did. Valid until its next launch. */
const char *tandem_emulator_message(void);

/* MARK: - Kernels */

/** Number of kernels. */
int32_t tandem_emulator_kernel_count(void);

/** Name of kernel `index`; NULL if there is none. */
const char *_Nullable tandem_emulator_kernel_name(int32_t index);

/** Number of arguments of a kernel; -1 if there is no such kernel. */
int32_t tandem_emulator_argument_count(const char *name);

/** Bytes of argument `index` of a kernel, 4 or 8; 0 if there is no such argument. */
size_t tandem_emulator_argument_size(const char *name, int32_t index);

/** Most threads of a block that the kernel is made for; 0 if there is no such kernel. */
uint32_t tandem_emulator_thread_limit(const char *name);

/* MARK: - Sites
 *
 * Places in the kernels' text where threads wait, or data changes place. A test that disturbs one must fail. Sites become
 * known when a kernel first reaches them; numbers hold for the process. */

/** Number of sites reached so far. */
int32_t tandem_emulator_site_count(void);

/** What is at a site, as "barrier attention_prefill.cuh:120"; NULL if there is none. */
const char *_Nullable tandem_emulator_site_name(int32_t site);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
