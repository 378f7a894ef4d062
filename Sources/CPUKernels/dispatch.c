// Tandem — Apache-2.0
#include "CPUKernels.h"

#include "table.h"

const struct tandem_kernels *tandem_kernels_for(enum tandem_isa isa) {
    switch (isa) {
    case tandem_isa_portable: return &tandem_kernels_portable;
#if defined(__x86_64__)
    case tandem_isa_avx2:
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
            return &tandem_kernels_avx2;
        return NULL;
    case tandem_isa_avx512:
        if (tandem_kernels_for(tandem_isa_avx2) && __builtin_cpu_supports("avx512f") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
            __builtin_cpu_supports("avx512bf16"))
            return &tandem_kernels_avx512;
        return NULL;
#endif
    default: return NULL;
    }
}

const struct tandem_kernels *tandem_kernels_best(void) {
    for (int isa = tandem_isa_avx512; isa > tandem_isa_portable; isa--) {
        const struct tandem_kernels *kernels = tandem_kernels_for((enum tandem_isa)isa);
        if (kernels) return kernels;
    }
    return &tandem_kernels_portable;
}
