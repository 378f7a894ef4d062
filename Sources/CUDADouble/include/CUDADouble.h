// Tandem — Apache-2.0

// A stand-in for NVIDIA's driver, NVRTC and cuBLASLt: one library that exports the functions that Tandem calls, computes
// on the CPU, and behaves as a GPU does where that matters: work runs later than it is asked for, memory holds garbage
// until it is written, an access beyond an allocation is a fault that ends the context.
//
// It is never linked into `tandem`: `TANDEM_CUDA_DRIVER` names its file, and it is opened as the real driver would be.
//
// Settings, from the environment:
//
//   TANDEM_DOUBLE_NAME              name of the GPU
//   TANDEM_DOUBLE_UUID              32 hexadecimal digits
//   TANDEM_DOUBLE_DEVICES           how many GPUs there are (1)
//   TANDEM_DOUBLE_CAPABILITY        compute capability (9.0)
//   TANDEM_DOUBLE_MULTIPROCESSORS   visible multiprocessors (132)
//   TANDEM_DOUBLE_MEMORY_MIB        device memory (1024)
//   TANDEM_DOUBLE_DRIVER            version of the driver (13000)
//   TANDEM_DOUBLE_MPS               1: contexts go through MPS
//   TANDEM_DOUBLE_MPS_GROUP         a file: processes that name the same one are clients of one MPS server, so that a
//                                   fault of one ends the contexts of all, and newcomers get 807 until all are gone
//   TANDEM_DOUBLE_VIRTUAL_MEMORY    0: no virtual memory management
//   TANDEM_DOUBLE_DESCRIPTORS       0: no sharing by file descriptors
//   TANDEM_DOUBLE_ORDER             eager: work runs beside the host, as soon as it can;
//                                   lazy: not before somebody waits for it, so that a missing wait always shows
//   TANDEM_DOUBLE_FAULT             faults, see below
//   TANDEM_DOUBLE_FAULT_FILE        a file with faults: once it appears, one process takes it, and removes it; with a
//                                   process id behind its name (FILE.1234) it is for that process

#ifndef TANDEM_CUDA_DOUBLE_H
#define TANDEM_CUDA_DOUBLE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Tells the double from a driver; its value is the version of this header.
int32_t tandem_cuda_double_version(void);

/// Sets what the environment would, by the variable's name; before anything else is called. Copies of the library's file
/// are doubles of their own, as if of separate processes: so a test has one to itself.
void tandem_cuda_double_set(const char *name, const char *value);

/// Plans faults, in place of those planned so far: `WHAT[:N]=CODE`, separated by commas. The Nth call from now on
/// (1 if it is not said) fails with CODE.
///
/// WHAT: init, context, allocate (device memory in any form), pin, launch (of a kernel, also in a graph; for errors that
/// are returned at once, a graph is one launch), copy, load (a module), instantiate (a graph), manage (NVML), compile
/// (NVRTC), algorithm (cuBLASLt's choice), multiply (cuBLASLt), export (descriptors).
/// Codes of a launch, a copy or a product that lose a context (700, 719 …) are seen later, as on a GPU: by the next call
/// that waits, and by every call after it. `hang` in the place of a code lets a launch, a copy or a product never end. 1 if
/// the text is understood; else 0, and nothing changes.
int32_t tandem_cuda_double_plan_faults(const char *text);

/// Kernels that ran, also in graphs; copies and fills; products.
int64_t tandem_cuda_double_kernel_count(void);
int64_t tandem_cuda_double_copy_count(void);
int64_t tandem_cuda_double_product_count(void);

/// Bytes of device memory in use in this process.
int64_t tandem_cuda_double_memory_in_use(void);

/// Objects of all kinds (allocations, streams, events, modules, graphs) that have not been given back.
int64_t tandem_cuda_double_live_objects(void);

#ifdef __cplusplus
}
#endif

#endif
