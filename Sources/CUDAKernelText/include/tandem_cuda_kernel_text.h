// Tandem — Apache-2.0
#ifndef TANDEM_CUDA_KERNEL_TEXT_H
#define TANDEM_CUDA_KERNEL_TEXT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/* The text of the CUDA kernels, file by file. */

/** Number of files. */
size_t tandem_kernel_file_count(void);

/** Name of a file, as in the `#include` that asks for it; the first one includes the others. */
const char *tandem_kernel_file_name(size_t index);

/** Text of a file, ended by a zero. */
const char *tandem_kernel_file_text(size_t index);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
