// Tandem — Apache-2.0
//
// Words for what four warps do together on Hopper (compute capability 9.0): matrix products that run while their threads
// go on, with operands in the block's memory. Instructions are wgmma of PTX ISA 8.0 ("Parallel Thread Execution ISA",
// NVIDIA); the emulator's are in Sources/CUDAEmulator/warpgroups.hpp.
#if defined(TANDEM_EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAS_WARPGROUP_PRODUCTS
#endif

#if !defined(TANDEM_EMULATOR) && defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Hands registers over to the products that follow: sums, and left operands that lie in registers.
#define FENCE_PRODUCTS() asm volatile("wgmma.fence.sync.aligned;" ::: "memory")
#define COMMIT_PRODUCTS() asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory")
// Waits until at most `groups` of the committed groups are under way. The sums must be settled before they are used.
#define WAIT_FOR_PRODUCTS(groups) asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory")
// Shows products what this thread wrote to the block's memory, copies it waited for included. Others need a barrier, too.
#define PUBLISH_SHARED() asm volatile("fence.proxy.async.shared::cta;" ::: "memory")
// Keeps the compiler from using sums before the wait for them.
template <int count>
DEVICE void settle(float (&sums)[count]) {
    UNROLL
    for (int i = 0; i < count; i++) asm volatile("" : "+f"(sums[i])::"memory");
}

// Operands in the block's memory: columns of 128 bytes, whose 16-byte pieces lie where SWIZZLE says, and which start at
// multiples of 1024 bytes. `stride` bytes lie between groups of eight rows. Along a row the product sums, or along a
// column; then `leading` bytes lie between columns.
#define SWIZZLED_OPERAND(place, leading, stride) \
    ((u64)((place) >> 4 & 0x3fff) | (u64)((leading) >> 4) << 16 | (u64)((stride) >> 4) << 32 | (u64)1 << 62)
#define SWIZZLED_ROWS(place, stride) SWIZZLED_OPERAND(place, 16, stride)
#define SWIZZLED_COLUMNS(place, leading, stride) SWIZZLED_OPERAND(place, leading, stride)

#define FLOATS4(d, i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define FLOATS8(d, i) FLOATS4(d, i), FLOATS4(d, (i) + 4)

// D (64x128) = A * B or, if it adds, D += A * B. A (64x16) and B (16x128) are in the block's memory, with rows and columns
// along which the product sums. A lane has of D what it has with multiply_add, eight columns after eight columns.
DEVICE void multiply_shared(float (&d)[64], u64 left, u64 right, bool adds) {
    asm volatile("{.reg .pred adds;\n setp.ne.b32 adds, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
                 "%64, %65, adds, 1, 1, 0, 0;}"
                 : FLOATS8(d, 0), FLOATS8(d, 8), FLOATS8(d, 16), FLOATS8(d, 24), FLOATS8(d, 32),
                   FLOATS8(d, 40), FLOATS8(d, 48), FLOATS8(d, 56)
                 : "l"(left), "l"(right), "r"((int)adds));
}

// D (64x64 or 64x128) += A * B. A (64x16) is in registers as with multiply_add; B (16 x 64 or 128) is in the block's memory
// in rows of the product's columns.
DEVICE void multiply_transposed(float (&d)[32], const u32 (&left)[4], u64 right) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                 : FLOATS8(d, 0), FLOATS8(d, 8), FLOATS8(d, 16), FLOATS8(d, 24)
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right));
}
DEVICE void multiply_transposed(float (&d)[64], const u32 (&left)[4], u64 right) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
                 "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
                 : FLOATS8(d, 0), FLOATS8(d, 8), FLOATS8(d, 16), FLOATS8(d, 24), FLOATS8(d, 32),
                   FLOATS8(d, 40), FLOATS8(d, 48), FLOATS8(d, 56)
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right));
}

#undef FLOATS8
#undef FLOATS4

#endif
