// Tandem — Apache-2.0

// Structures that the CUDA driver and cuBLASLt read or write, declared from their documented layout. Only what Swift
// cannot declare by itself is here: structures that are passed by value, or whose C layout matters.

#ifndef TANDEM_CUDA_LAYOUTS_H
#define TANDEM_CUDA_LAYOUTS_H

#include <stddef.h>
#include <stdint.h>

/// `CUipcMemHandle`: names an allocation to another process of this machine. Passed by value.
typedef struct tandem_cuda_ipc_handle {
    uint8_t bytes[64];
} tandem_cuda_ipc_handle;

/// `CUmemLocation`: 1 is a device, `identifier` its ordinal.
typedef struct tandem_cuda_memory_location {
    int32_t type;
    int32_t identifier;
} tandem_cuda_memory_location;

/// `CUmemAllocationProp`. Zero-initialise, then fill in.
typedef struct tandem_cuda_allocation_properties {
    /// 1: pinned.
    int32_t type;
    /// 0: not to be shared, 1: as POSIX file descriptors.
    int32_t handle_types;
    tandem_cuda_memory_location location;
    void *windows_attributes;
    uint8_t compression;
    uint8_t remote_access;
    uint16_t usage;
    uint8_t reserved[4];
} tandem_cuda_allocation_properties;

/// `CUmemAccessDesc`: flags 1 are read, 3 read and write.
typedef struct tandem_cuda_memory_access {
    tandem_cuda_memory_location location;
    int32_t flags;
} tandem_cuda_memory_access;

/// `CUdevResource`, of which only the number of multiprocessors is ours to read.
typedef struct tandem_cuda_device_resource {
    /// 1: multiprocessors.
    int32_t type;
    uint8_t internal[92];
    uint32_t multiprocessors;
    uint8_t rest[44];
} tandem_cuda_device_resource;

/// `cublasLtMatmulAlgo_t`: opaque; valid within the version of cuBLASLt that made it.
typedef struct tandem_cublaslt_algorithm {
    uint64_t words[8];
} tandem_cublaslt_algorithm;

/// `cublasLtMatmulHeuristicResult_t`.
typedef struct tandem_cublaslt_choice {
    tandem_cublaslt_algorithm algorithm;
    size_t workspace_bytes;
    /// 0 if the algorithm can be used.
    int32_t status;
    /// Waves of blocks over the GPU's multiprocessors.
    float waves;
    int32_t reserved[4];
} tandem_cublaslt_choice;

/// `CUlaunchAttribute`: an id and up to 64 bytes of value.
typedef struct tandem_cuda_launch_attribute {
    int32_t id;
    int32_t padding;
    int32_t value[16];
} tandem_cuda_launch_attribute;

/// `CUlaunchConfig`.
typedef struct tandem_cuda_launch_config {
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;
    uint64_t stream;
    tandem_cuda_launch_attribute *attributes;
    uint32_t attribute_count;
} tandem_cuda_launch_config;

_Static_assert(sizeof(tandem_cuda_ipc_handle) == 64, "CUipcMemHandle");
_Static_assert(sizeof(tandem_cuda_allocation_properties) == 32, "CUmemAllocationProp");
_Static_assert(sizeof(tandem_cuda_memory_access) == 12, "CUmemAccessDesc");
_Static_assert(sizeof(tandem_cuda_device_resource) == 144, "CUdevResource");
_Static_assert(sizeof(tandem_cuda_launch_attribute) == 72, "CUlaunchAttribute");
_Static_assert(sizeof(tandem_cuda_launch_config) == 56, "CUlaunchConfig");
_Static_assert(sizeof(tandem_cublaslt_choice) == 96, "cublasLtMatmulHeuristicResult_t");

#endif
