// Tandem — Apache-2.0

// The driver, its devices, and contexts. All devices are alike; each has one primary context.

#include <cstdio>
#include <cstring>

#include "double.hpp"

namespace cuda_double {

static std::atomic<bool> is_initialized{false};
/// Uses of the primary contexts, which all are one.
static std::atomic<int> retained{0};
static constexpr uint64_t context_handle = 0xc0de'c0de;
static thread_local std::vector<uint64_t> current_contexts;

static uint64_t current_context() { return current_contexts.empty() ? 0 : current_contexts.back(); }

int ready() {
    if (!is_initialized) return not_initialized;
    if (current_context() == 0 || retained <= 0) return invalid_context;
    return sticky_error();
}

static int check_device(int device) {
    if (!is_initialized) return not_initialized;
    return device >= 0 && device < settings().devices ? success : invalid_device;
}

/// `CUdevice_attribute`; the sizes are those of an H100.
static int attribute(int number) {
    const Settings &s = settings();
    switch (number) {
    case 1: return 1024;           // threads of a block
    case 8: return 48 << 10;       // shared memory of a block
    case 10: return 32;            // threads of a warp
    case 13: return 1980000;       // clock, kHz
    case 16: return s.multiprocessors;
    case 20: return 0;             // compute mode
    case 31: return 1;             // kernels at the same time
    case 36: return 2619000;       // memory clock, kHz
    case 37: return 5120;          // bits of the memory bus
    case 38: return 50 << 20;      // L2
    case 39: return 2048;          // threads of a multiprocessor
    case 41: return 1;             // one address space with the host
    case 75: return s.capability_major;
    case 76: return s.capability_minor;
    case 81: return 228 << 10;     // shared memory of a multiprocessor
    case 82: return 65536;         // registers of a multiprocessor
    case 97: return 227 << 10;     // shared memory of a block on request
    case 102: return s.has_virtual_memory;
    case 103: return s.has_virtual_memory && s.has_descriptors;
    case 133: return s.uses_mps;
    default: return 0;
    }
}

}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int cuInit(unsigned flags) {
    if (flags != 0) return invalid_value;
    if (int fault = planned_fault("init")) return fault;
    if (settings().devices == 0) return 100;
    if (int refusal = join_group()) return refusal;
    is_initialized = true;
    return success;
}

EXPORTED int cuDriverGetVersion(int *version) {
    *version = settings().driver_version;
    return success;
}

EXPORTED int cuGetErrorName(int code, const char **name) {
    static const std::map<int, const char *> names = {
        {0, "CUDA_SUCCESS"},
        {1, "CUDA_ERROR_INVALID_VALUE"},
        {2, "CUDA_ERROR_OUT_OF_MEMORY"},
        {3, "CUDA_ERROR_NOT_INITIALIZED"},
        {100, "CUDA_ERROR_NO_DEVICE"},
        {101, "CUDA_ERROR_INVALID_DEVICE"},
        {200, "CUDA_ERROR_INVALID_IMAGE"},
        {201, "CUDA_ERROR_INVALID_CONTEXT"},
        {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
        {400, "CUDA_ERROR_INVALID_HANDLE"},
        {401, "CUDA_ERROR_ILLEGAL_STATE"},
        {500, "CUDA_ERROR_NOT_FOUND"},
        {600, "CUDA_ERROR_NOT_READY"},
        {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
        {719, "CUDA_ERROR_LAUNCH_FAILED"},
        {801, "CUDA_ERROR_NOT_SUPPORTED"},
        {805, "CUDA_ERROR_MPS_CONNECTION_FAILED"},
        {806, "CUDA_ERROR_MPS_RPC_FAILURE"},
        {807, "CUDA_ERROR_MPS_SERVER_NOT_READY"},
        {808, "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED"},
        {809, "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED"},
        {810, "CUDA_ERROR_MPS_CLIENT_TERMINATED"},
        {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
        {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
    };
    auto found = names.find(code);
    if (found == names.end()) return *name = nullptr, invalid_value;
    *name = found->second;
    return success;
}

EXPORTED int cuDeviceGetCount(int *count) {
    *count = settings().devices;
    return is_initialized ? success : not_initialized;
}

EXPORTED int cuDeviceGet(int *device, int index) {
    *device = index;
    return check_device(index);
}

EXPORTED int cuDeviceGetName(char *name, int length, int device) {
    if (int status = check_device(device)) return status;
    snprintf(name, size_t(length), "%s", settings().name.c_str());
    return success;
}

EXPORTED int cuDeviceGetUuid_v2(uint8_t *uuid, int device) {
    if (int status = check_device(device)) return status;
    memcpy(uuid, settings().uuid, 16);
    uuid[15] = uint8_t(uuid[15] + device);
    return success;
}

EXPORTED int cuDeviceGetPCIBusId(char *text, int length, int device) {
    if (int status = check_device(device)) return status;
    snprintf(text, size_t(length), "0000:%02X:00.0", device + 1);
    return success;
}

EXPORTED int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = settings().memory_bytes;
    return check_device(device);
}

EXPORTED int cuDeviceGetAttribute(int *value, int number, int device) {
    if (int status = check_device(device)) return status;
    *value = attribute(number);
    return success;
}

EXPORTED int cuDevicePrimaryCtxRetain(uint64_t *context, int device) {
    if (int status = check_device(device)) return status;
    if (int fault = planned_fault("context")) return fault;
    if (int error = sticky_error()) return error;
    retained++;
    *context = context_handle + uint64_t(device);
    return success;
}

EXPORTED int cuDevicePrimaryCtxRelease_v2(int device) {
    if (int status = check_device(device)) return status;
    if (retained <= 0) return invalid_context;
    retained--;
    return success;
}

EXPORTED int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
    if (int status = check_device(device)) return status;
    return flags <= 0x1f ? success : invalid_value;
}

static bool is_context(uint64_t context) {
    return context == 0 || (context >= context_handle && context < context_handle + uint64_t(settings().devices));
}

EXPORTED int cuCtxSetCurrent(uint64_t context) {
    if (!is_initialized) return not_initialized;
    if (!is_context(context)) return invalid_context;
    if (current_contexts.empty()) current_contexts.push_back(0);
    current_contexts.back() = context;
    return success;
}

EXPORTED int cuCtxPushCurrent_v2(uint64_t context) {
    if (!is_initialized) return not_initialized;
    if (context == 0 || !is_context(context)) return invalid_context;
    current_contexts.push_back(context);
    return success;
}

EXPORTED int cuCtxPopCurrent_v2(uint64_t *context) {
    if (current_contexts.empty()) return invalid_context;
    if (context) *context = current_contexts.back();
    current_contexts.pop_back();
    return success;
}

EXPORTED int cuCtxSynchronize(void) {
    if (int status = ready()) return status;
    if (int status = refuse_in_capture()) return status;
    return synchronize_all();
}

EXPORTED int cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    if (int status = ready()) return status;
    *least = 0;
    *greatest = -5;
    return success;
}
