// Tandem — Apache-2.0

// Parts of a device's multiprocessors. Sizes are checked as the driver does, and work of a part is computed like any.

#include <cstring>

#include "double.hpp"

namespace cuda_double {

/// `CUdevResource`.
struct Resource {
    int32_t type;
    /// In the first words of what is the driver's own: a mark and where the part begins.
    uint32_t mark, first;
    uint8_t internal[84];
    uint32_t multiprocessors;
    uint8_t rest[44];
};
static_assert(sizeof(Resource) == 144, "CUdevResource");

static constexpr uint32_t resource_mark = 0x7a57'0001;
static constexpr int multiprocessors_type = 1;

static bool is_resource(const Resource &resource) {
    return resource.type == multiprocessors_type && resource.mark == resource_mark && resource.multiprocessors > 0;
}

static Resource resource(uint32_t first, uint32_t count) {
    Resource made;
    memset(&made, 0, sizeof made);
    made.type = multiprocessors_type;
    made.mark = resource_mark;
    made.first = first;
    made.multiprocessors = count;
    return made;
}

/// What a part is a multiple of, and the least it has.
static uint32_t multiple() { return settings().capability_major >= 9 ? 8 : 2; }
static uint32_t least() { return settings().capability_major >= 9 ? 8 : settings().capability_major == 8 ? 4 : 2; }

namespace {
struct Description {
    Resource resource;
};
struct GreenContext {
    Resource resource;
};

Handles<Description> &descriptions() {
    static auto *handles = new Handles<Description>(21);
    return *handles;
}

Handles<GreenContext> &green_contexts() {
    static auto *handles = new Handles<GreenContext>(22);
    return *handles;
}
}  // namespace

}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int cuDeviceGetDevResource(int device, Resource *made, int type) {
    if (int status = ready()) return status;
    if (!settings().has_green_contexts) return not_supported;
    if (device < 0 || device >= settings().devices) return invalid_device;
    if (type != multiprocessors_type) return invalid_value;
    *made = resource(0, uint32_t(settings().multiprocessors));
    return success;
}

EXPORTED int cuDevSmResourceSplitByCount(
    Resource *groups, unsigned *count, const Resource *input, Resource *remaining, unsigned flags, unsigned wanted) {
    if (int status = ready()) return status;
    if (!count || !input || !is_resource(*input) || flags != 0) return invalid_value;
    uint32_t size = wanted < least() ? least() : (wanted + multiple() - 1) / multiple() * multiple();
    uint32_t possible = input->multiprocessors / size;
    if (possible == 0) return 914;  // CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION
    if (!groups) return *count = possible, success;
    if (*count > possible) *count = possible;
    for (uint32_t i = 0; i < *count; i++) groups[i] = resource(input->first + i * size, size);
    if (remaining) {
        uint32_t used = *count * size;
        *remaining = resource(input->first + used, input->multiprocessors - used);
    }
    return success;
}

EXPORTED int cuDevResourceGenerateDesc(uint64_t *made, Resource *resources, unsigned count) {
    if (int status = ready()) return status;
    if (!made || !resources || count != 1 || !is_resource(*resources)) return invalid_value;
    *made = descriptions().add(std::make_shared<Description>(Description{*resources}));
    return success;
}

EXPORTED int cuGreenCtxCreate(uint64_t *made, uint64_t description, int device, unsigned flags) {
    if (int status = ready()) return status;
    // 1: with a default stream, without which there are none.
    if (flags != 1) return invalid_value;
    if (device < 0 || device >= settings().devices) return invalid_device;
    // A description is used once.
    auto found = descriptions().remove(description);
    if (!found) return invalid_handle;
    *made = green_contexts().add(std::make_shared<GreenContext>(GreenContext{found->resource}));
    return success;
}

EXPORTED int cuGreenCtxDestroy(uint64_t handle) {
    return green_contexts().remove(handle) ? sticky_error() : int(invalid_handle);
}

EXPORTED int cuGreenCtxStreamCreate(uint64_t *stream, uint64_t handle, unsigned flags, int priority) {
    if (int status = ready()) return status;
    // 1: does not wait for the default stream, which is a must.
    if (flags != 1) return invalid_value;
    if (!green_contexts().find(handle)) return invalid_handle;
    *stream = add_stream(priority);
    return success;
}
