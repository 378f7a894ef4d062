// Tandem — Apache-2.0
//
// The words that every kernel is written in, for a GPU. The emulator has the same words for a CPU
// (Sources/CUDAEmulator/vocabulary.hpp), so that one text serves both. Instructions are those of PTX ISA 7.0 for sm_80
// ("Parallel Thread Execution ISA", NVIDIA); no header is needed.
#ifndef TANDEM_EMULATOR

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// A kernel that is started with at most `threads` a block, of which `blocks` should fit a multiprocessor.
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define DEVICE __device__ __forceinline__
// An array in the block's memory: SHARED(float, sums, [2][8]);
#define SHARED(type, name, dimensions) __shared__ __align__(16) type name dimensions
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#define BARRIER() __syncthreads()
#define UNROLL _Pragma("unroll")
#define FULL_WARP 0xffffffffu
#define NEGATIVE_INFINITY __int_as_float(0xff800000)

DEVICE int lane_index() { return threadIdx.x & 31; }
DEVICE int warp_index() { return threadIdx.x >> 5; }

// MARK: Numbers

DEVICE u32 float_bits(float value) { return __float_as_uint(value); }
DEVICE float bits_float(u32 bits) { return __uint_as_float(bits); }
// Two bfloat16, the first in the low half; rounded to nearest even.
DEVICE u32 pack_bf16(float low, float high) {
    u32 result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}
DEVICE float to_float(u16 value) { return __uint_as_float((u32)value << 16); }
DEVICE u16 to_bf16(float value) { return (u16)(pack_bf16(value, 0.f) & 0xffff); }
DEVICE float exp2_fast(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}
// The larger one, or the one that is a number.
DEVICE float largest_of(float a, float b) { return fmaxf(a, b); }
DEVICE float inverse_root(float x) { return rsqrtf(x); }
DEVICE float divide_fast(float a, float b) { return __fdividef(a, b); }
// A product that is rounded on its own, never fused with a sum.
DEVICE float multiply_rounded(float a, float b) { return __fmul_rn(a, b); }
DEVICE u32 byte_permute(u32 a, u32 b, u32 selector) { return __byte_perm(a, b, selector); }
DEVICE int first_bit(u32 word) { return __ffs(word) - 1; }

// MARK: Memory

// 16 bytes that nobody writes while the kernel runs and that are read once.
DEVICE uint4 load_once(const void *address) {
    uint4 result;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(result.x), "=r"(result.y), "=r"(result.z), "=r"(result.w)
                 : "l"(address));
    return result;
}
DEVICE uint4 load16(const void *address) { return *(const uint4 *)address; }
DEVICE float4 load_floats(const float *address) { return *(const float4 *)address; }
DEVICE void store16(void *address, uint4 value) { *(uint4 *)address = value; }
DEVICE float2 load_two_floats(const float *address) { return *(const float2 *)address; }
DEVICE void store_two_floats(float *address, float2 value) { *(float2 *)address = value; }
DEVICE void store_floats(float *address, float4 value) { *(float4 *)address = value; }

// Brings memory to the level-2 cache; whoever reads it later need not wait for it then. Address and size are multiples of
// 16, the size neither 0 nor above 0xFFFF0, which PTX does not say and the machine's instruction has no room for. It changes nothing that a program can see.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
DEVICE void prefetch(const unsigned char *address, u32 bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(address)), "r"(bytes));
}
#else
DEVICE void prefetch(const unsigned char *, u32) {}
#endif

// A place in the block's dynamic memory as a number of 32 bits, which takes fewer registers than a pointer.
DEVICE u32 shared_address(const void *pointer) { return (u32)__cvta_generic_to_shared(pointer); }
// Copies 16 bytes to the block's memory, or zeros it there. They are there after a wait and a barrier.
DEVICE void copy16_async(u32 destination, const void *source, bool exists) {
    int bytes = exists ? 16 : 0;
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(destination), "l"(source), "r"(bytes));
}
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;"); }
// Waits until at most `groups` of the thread's committed groups are under way.
#define WAIT_FOR_COPIES(groups) asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory")
// Place of a 16-byte piece in a row of a tile, so that eight rows of one column lie in different banks.
#define SWIZZLE(row, piece) ((piece) ^ ((row) & 7))

DEVICE u32 add_shared(u32 *address, u32 value) { return atomicAdd(address, value); }
DEVICE u32 add_global(u32 *address, u32 value) { return atomicAdd(address, value); }

// MARK: Kernels that start before the kernel before them has ended ("Programmatic Dependent Launch", CUDA programming guide;
// griddepcontrol in PTX ISA 7.8). On older GPUs, and where a launch does not ask for it, both mean nothing.

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
// Behind this all that earlier kernels wrote is there, and they read nothing any more. Every thread passes it, before it
// ends and before its first access to memory that a step writes: so a kernel ends only after all before it have ended, and
// the next one, which waits for this one alone, waits for all.
#define AWAIT_EARLIER_KERNELS() asm volatile("griddepcontrol.wait;" ::: "memory")
// The next kernel may start once all blocks have come here (or ended), as far as there is room beside them.
#define RELEASE_NEXT_KERNEL() asm volatile("griddepcontrol.launch_dependents;" ::: "memory")
#else
#define AWAIT_EARLIER_KERNELS() (void)0
#define RELEASE_NEXT_KERNEL() (void)0
#endif

// MARK: Warps. All 32 lanes take part.

DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(FULL_WARP, value, mask); }
DEVICE u32 shuffle_xor(u32 value, int mask) { return __shfl_xor_sync(FULL_WARP, value, mask); }
DEVICE u64 shuffle_xor(u64 value, int mask) { return __shfl_xor_sync(FULL_WARP, value, mask); }
DEVICE u32 shuffle_up(u32 value, int distance) { return __shfl_up_sync(FULL_WARP, value, distance); }
DEVICE u64 shuffle_up(u64 value, int distance) { return __shfl_up_sync(FULL_WARP, value, distance); }
DEVICE u32 shuffle(u32 value, int lane) { return __shfl_sync(FULL_WARP, value, lane); }
DEVICE u64 shuffle(u64 value, int lane) { return __shfl_sync(FULL_WARP, value, lane); }
DEVICE u32 ballot(bool condition) { return __ballot_sync(FULL_WARP, condition); }

// D (16x8, float) += A (16x16, bfloat16, by rows) * B (16x8, bfloat16, by columns).
DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Transposes an 8x8 matrix of 16-bit values that lies in the warp's registers.
DEVICE u32 transpose8x8(u32 value) {
    u32 result;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(value));
    return result;
}
// Four 8x8 matrices from the block's memory; lane 8 i + r names row r of matrix i.
DEVICE void load_matrices(u32 (&result)[4], u32 row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
                 : "r"(row));
}
DEVICE void load_matrices_transposed(u32 (&result)[4], u32 row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
                 : "r"(row));
}

#endif
