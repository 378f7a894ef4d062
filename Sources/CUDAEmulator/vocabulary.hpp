// Tandem — Apache-2.0
//
// The words that kernels are written in (CUDAKernelText/Kernels/device.cuh), for a CPU. Include before the kernels' text.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "block.hpp"
#include "sites.hpp"
#include "warpgroups.hpp"
#include "warps.hpp"

#define TANDEM_EMULATOR 1

typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;

struct alignas(16) uint4 {
    u32 x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

#define KERNEL(threads, blocks) [[maybe_unused]] static void
#define DEVICE [[maybe_unused]] static inline
#define SHARED(type, name, dimensions)                \
    typedef type name##Array dimensions;              \
    static const char name##Declaration = 0;          \
    name##Array &name = *static_cast<name##Array *>( \
        ::emulator::block.shared(&name##Declaration, sizeof(name##Array)))
#define DYNAMIC_SHARED(name) unsigned char *name = static_cast<unsigned char *>(::emulator::block.dynamicShared())
#define BARRIER() ::emulator::block.barrier(EMULATOR_SITE("barrier"))
#define AWAIT_EARLIER_KERNELS() ::emulator::block.awaitEarlier(EMULATOR_SITE("early start"))
#define RELEASE_NEXT_KERNEL() ((void)0)
#define UNROLL
#define FULL_WARP 0xffffffffu
#define NEGATIVE_INFINITY (-INFINITY)
#define __restrict__ __restrict

#define threadIdx (::emulator::block.thread().index)
#define blockIdx (::emulator::block.blockIndex())
#define blockDim (::emulator::block.launch().block)
#define gridDim (::emulator::block.launch().grid)

DEVICE int lane_index() { return ::emulator::block.thread().lane; }
DEVICE int warp_index() { return ::emulator::block.thread().number >> 5; }

// MARK: Numbers

DEVICE u32 float_bits(float value) {
    u32 bits;
    memcpy(&bits, &value, 4);
    return bits;
}
DEVICE float bits_float(u32 bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
DEVICE float to_float(u16 value) { return bits_float((u32)value << 16); }
DEVICE u16 to_bf16(float value) {
    u32 bits = float_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
    bits += 0x7fff + ((bits >> 16) & 1);
    return (u16)(bits >> 16);
}
DEVICE u32 pack_bf16(float low, float high) { return (u32)to_bf16(low) | (u32)to_bf16(high) << 16; }
DEVICE float exp2_fast(float x) {
    const float result = exp2f(x);
    // Subnormal results are zero on a GPU.
    return result < 0x1p-126f ? 0.f : result;
}
DEVICE float largest_of(float a, float b) { return fmaxf(a, b); }
DEVICE float inverse_root(float x) { return 1.f / sqrtf(x); }
DEVICE float divide_fast(float a, float b) { return a / b; }
DEVICE float multiply_rounded(float a, float b) { return a * b; }
DEVICE u32 permuted_bytes(u32 a, u32 b, u32 selector) {
    const u64 bytes = (u64)b << 32 | a;
    u32 result = 0;
    for (int i = 0; i < 4; i++) result |= (u32)(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return result;
}
#define byte_permute(a, b, selector)                                                  \
    (::emulator::block.isDisturbed(EMULATOR_SITE("permutation")) ? (void)(b), (a) \
                                                                 : permuted_bytes(a, b, selector))
DEVICE int first_bit(u32 word) { return word ? __builtin_ctz(word) : -1; }

// MARK: Memory

DEVICE void require_alignment(const void *address) {
    if ((uintptr_t)address & 15) ::emulator::block.fail("a 16-byte access is not aligned");
}
DEVICE uint4 load16(const void *address) {
    require_alignment(address);
    uint4 result;
    memcpy(&result, address, 16);
    return result;
}
DEVICE uint4 load_once(const void *address) { return load16(address); }
DEVICE float4 load_floats(const float *address) {
    require_alignment(address);
    float4 result;
    memcpy(&result, address, 16);
    return result;
}
DEVICE void store16(void *address, uint4 value) {
    require_alignment(address);
    memcpy(address, &value, 16);
}
DEVICE void require_alignment_of_two(const float *address) {
    if ((uintptr_t)address & 7) ::emulator::block.fail("an 8-byte access is not aligned");
}
DEVICE float2 load_two_floats(const float *address) {
    require_alignment_of_two(address);
    float2 result;
    memcpy(&result, address, 8);
    return result;
}
DEVICE void store_two_floats(float *address, float2 value) {
    require_alignment_of_two(address);
    memcpy(address, &value, 8);
}
DEVICE void store_floats(float *address, float4 value) {
    require_alignment(address);
    memcpy(address, &value, 16);
}

// Only looks whether the memory is there. Nothing is defined for no bytes, and of a size the machine's instruction keeps 16
// bits, in pieces of 16 bytes.
DEVICE void prefetch(const unsigned char *address, u32 bytes) {
    require_alignment(address);
    if (bytes % 16) ::emulator::block.fail("a prefetch of no multiple of 16 bytes");
    if (bytes == 0 || bytes > 0xFFFF0) ::emulator::block.fail("a prefetch of no bytes, or of 1 MiB and more");
    [[maybe_unused]] const volatile unsigned char first = address[0];
    [[maybe_unused]] const volatile unsigned char last = address[bytes - 1];
}

DEVICE u32 shared_address(const void *pointer) {
    return ::emulator::Block::dynamicBase +
           (u32)((const unsigned char *)pointer - (const unsigned char *)::emulator::block.dynamicShared());
}
DEVICE unsigned char *shared_place(u32 address) { return ::emulator::block.sharedPlace(address); }
// Copies land when their group is waited for; until then their places are poisoned.
DEVICE void copy16_async(u32 address, const void *source, bool exists) {
    unsigned char *destination = shared_place(address);
    require_alignment(source);
    memset(destination, 0xff, 16);
    memset(::emulator::block.publishedPlace(address), 0xff, 16);
    ::emulator::block.thread().openCopies.push_back({address, source, exists});
}
DEVICE void commit_copies() {
    auto &thread = ::emulator::block.thread();
    thread.committedCopies.push_back(std::move(thread.openCopies));
    thread.openCopies.clear();
}
DEVICE void finish_copies(size_t groups, int32_t site) {
    if (::emulator::block.isDisturbed(site)) return;
    auto &thread = ::emulator::block.thread();
    auto &committed = thread.committedCopies;
    while (committed.size() > groups) {
        for (const auto &copy : committed.front()) {
            if (copy.exists) memcpy(shared_place(copy.destination), copy.source, 16);
            else memset(shared_place(copy.destination), 0, 16);
            thread.landedCopies.push_back(copy.destination);
        }
        committed.erase(committed.begin());
    }
}
#define WAIT_FOR_COPIES(groups) finish_copies(groups, EMULATOR_SITE("wait"))
DEVICE int swizzled(int row, int piece, int32_t site) {
    return ::emulator::block.isDisturbed(site) ? piece : piece ^ (row & 7);
}
#define SWIZZLE(row, piece) swizzled(row, piece, EMULATOR_SITE("swizzle"))

// Threads of a block change places at barriers and in warps only, so plain sums are atomic.
DEVICE u32 add_shared(u32 *address, u32 value) {
    const u32 before = *address;
    *address += value;
    return before;
}
DEVICE u32 add_global(u32 *address, u32 value) {
    return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

// MARK: Warps

DEVICE float shuffle_xor(float value, int mask) { return ::emulator::shuffleXor(value, mask); }
DEVICE u32 shuffle_xor(u32 value, int mask) { return ::emulator::shuffleXor(value, mask); }
DEVICE u64 shuffle_xor(u64 value, int mask) { return ::emulator::shuffleXor(value, mask); }
DEVICE u32 shuffle_up(u32 value, int distance) { return ::emulator::shuffleUp(value, distance); }
DEVICE u64 shuffle_up(u64 value, int distance) { return ::emulator::shuffleUp(value, distance); }
DEVICE u32 shuffle(u32 value, int lane) { return ::emulator::shuffleFrom(value, lane); }
DEVICE u64 shuffle(u64 value, int lane) { return ::emulator::shuffleFrom(value, lane); }
DEVICE u32 ballot(bool condition) { return ::emulator::ballot(condition); }
DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) { ::emulator::multiplyAdd(d, a, b); }
#define transpose8x8(value)                                                            \
    (::emulator::block.isDisturbed(EMULATOR_SITE("transposition")) ? (value) \
                                                                   : ::emulator::transpose8x8(value))
DEVICE void load_matrices(u32 (&result)[4], u32 row) { ::emulator::loadMatrices<false>(result, shared_place(row)); }
DEVICE void load_matrices_transposed(u32 (&result)[4], u32 row) {
    ::emulator::loadMatrices<true>(result, shared_place(row));
}
