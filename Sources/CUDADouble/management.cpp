// Tandem — Apache-2.0

// NVML: plausible numbers for a device that is idle until kernels run. Memory and kernels are this process's own, and
// what settings add for a process that only watches.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "double.hpp"

namespace cuda_double {
namespace {

/// `nvmlReturn_t`.
enum ManagementStatus { fine = 0, uninitialized = 1, bad_argument = 2, unsupported = 3, no_such_device = 6, timeout = 10 };

std::atomic<int> uses{0};

constexpr uint64_t handle_base = 0x6e76'6d00;

/// Waits as long as the file is there, as calls do that wait for a driver that does not answer.
void hang_if_asked() {
    const std::string &path = settings().hang_file;
    while (!path.empty() && access(path.c_str(), F_OK) == 0) usleep(20'000);
}

/// The number in the file of faults, which is taken away; 0 if there is none.
uint64_t fault_on_demand() {
    const std::string &path = settings().xid_file;
    if (path.empty() || access(path.c_str(), F_OK) != 0) return 0;
    // Whoever renames it has it.
    std::string own = path + "." + std::to_string(getpid());
    if (rename(path.c_str(), own.c_str()) != 0) return 0;
    char content[32] = {};
    if (FILE *file = fopen(own.c_str(), "r")) {
        size_t count = fread(content, 1, sizeof content - 1, file);
        content[count] = 0;
        fclose(file);
    }
    unlink(own.c_str());
    return strtoull(content, nullptr, 10);
}

std::string uuid_text(int index) {
    std::string text = "GPU-";
    for (int i = 0; i < 16; i++) {
        char digits[4];
        snprintf(digits, sizeof digits, "%02x", settings().uuid[i] + (i == 15 ? index : 0));
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += digits;
    }
    return text;
}

bool is_busy() { return settings().looks_busy || counters().kernels > 0; }

int check(uint64_t device) {
    hang_if_asked();
    if (uses <= 0) return uninitialized;
    return device >= handle_base && device < handle_base + uint64_t(settings().devices) ? fine : bad_argument;
}

/// What GPM counts, at one moment.
struct Sample {
    int64_t kernels = 0, nanoseconds = 0;
};

Handles<Sample> &samples() {
    static auto *handles = new Handles<Sample>(12);
    return *handles;
}

struct Events {
    bool is_registered = false;
    bool has_told = false;
};
Handles<Events> &event_sets() {
    static auto *handles = new Handles<Events>(13);
    return *handles;
}

/// Layouts of NVML.
struct Memory {
    uint64_t total, free, used;
};
struct Utilization {
    uint32_t compute, memory;
};
struct EventData {
    uint64_t device, kind, number;
    uint32_t instance, compute_instance;
};
struct Metric {
    uint32_t number, status;
    double value;
    const char *texts[3];
};
struct Metrics {
    uint32_t version, count;
    uint64_t earlier, later;
    Metric metrics[1];
};

bool has_activity() { return settings().has_activity && settings().capability_major >= 9; }

}  // namespace
}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int nvmlInit_v2(void) {
    hang_if_asked();
    if (int fault = planned_fault("manage")) return fault;
    uses++;
    return fine;
}

EXPORTED int nvmlShutdown(void) {
    if (uses <= 0) return uninitialized;
    uses--;
    return fine;
}

EXPORTED const char *nvmlErrorString(int status) {
    switch (status) {
    case fine: return "Success";
    case uninitialized: return "Uninitialized";
    case bad_argument: return "Invalid Argument";
    case unsupported: return "Not Supported";
    case no_such_device: return "Not Found";
    case 9: return "Driver Not Loaded";
    case timeout: return "Timeout";
    default: return "Unknown Error";
    }
}

EXPORTED int nvmlDeviceGetHandleByIndex_v2(unsigned index, uint64_t *device) {
    *device = handle_base + index;
    return uses <= 0 ? uninitialized : index < unsigned(settings().devices) ? fine : bad_argument;
}

EXPORTED int nvmlDeviceGetHandleByUUID(const char *uuid, uint64_t *device) {
    if (uses <= 0) return uninitialized;
    for (int index = 0; index < settings().devices; index++) {
        if (uuid_text(index) != uuid) continue;
        *device = handle_base + uint64_t(index);
        return fine;
    }
    return no_such_device;
}

EXPORTED int nvmlDeviceGetName(uint64_t device, char *name, unsigned length) {
    if (int status = check(device)) return status;
    snprintf(name, length, "%s", settings().name.c_str());
    return fine;
}

EXPORTED int nvmlDeviceGetUUID(uint64_t device, char *uuid, unsigned length) {
    if (int status = check(device)) return status;
    snprintf(uuid, length, "%s", uuid_text(int(device - handle_base)).c_str());
    return fine;
}

EXPORTED int nvmlDeviceGetIndex(uint64_t device, unsigned *index) {
    if (int status = check(device)) return status;
    *index = unsigned(device - handle_base);
    return fine;
}

EXPORTED int nvmlDeviceGetMinorNumber(uint64_t device, unsigned *minor) { return nvmlDeviceGetIndex(device, minor); }

EXPORTED int nvmlDeviceGetMemoryInfo(uint64_t device, Memory *memory) {
    if (int status = check(device)) return status;
    memory->total = settings().memory_bytes;
    memory->used = uint64_t(counters().memory.load()) + (uint64_t(settings().memory_used_mib) << 20);
    memory->free = memory->total - memory->used;
    return fine;
}

EXPORTED int nvmlDeviceGetUtilizationRates(uint64_t device, Utilization *utilization) {
    if (int status = check(device)) return status;
    *utilization = {is_busy() ? 100u : 0u, 0};
    return fine;
}

EXPORTED int nvmlDeviceGetPowerUsage(uint64_t device, unsigned *milliwatts) {
    if (int status = check(device)) return status;
    long long watts = settings().power_watts;
    *milliwatts = watts >= 0 ? unsigned(watts * 1000) : is_busy() ? 350'000 : 70'000;
    return fine;
}

EXPORTED int nvmlDeviceGetEnforcedPowerLimit(uint64_t device, unsigned *milliwatts) {
    *milliwatts = 700'000;
    return check(device);
}

EXPORTED int nvmlDeviceGetTotalEnergyConsumption(uint64_t device, uint64_t *millijoules) {
    *millijoules = uint64_t(counters().kernels.load());
    return check(device);
}

EXPORTED int nvmlDeviceGetTemperature(uint64_t device, int sensor, unsigned *celsius) {
    *celsius = unsigned(settings().celsius);
    return sensor == 0 ? check(device) : bad_argument;
}

EXPORTED int nvmlDeviceGetClockInfo(uint64_t device, int kind, unsigned *megahertz) {
    if (kind < 0 || kind > 3) return bad_argument;
    *megahertz = kind == 2 ? 2619 : 1980;
    return check(device);
}

EXPORTED int nvmlDeviceGetCurrentClocksEventReasons(uint64_t device, uint64_t *reasons) {
    *reasons = is_busy() ? 0x4 : 0x1;
    return check(device);
}

EXPORTED int nvmlEventSetCreate(uint64_t *set) {
    *set = event_sets().add(std::make_shared<Events>());
    return fine;
}

EXPORTED int nvmlEventSetFree(uint64_t set) { return event_sets().remove(set) ? fine : bad_argument; }

EXPORTED int nvmlDeviceRegisterEvents(uint64_t device, uint64_t kinds, uint64_t handle) {
    auto set = event_sets().find(handle);
    if (!set || kinds != 8) return bad_argument;
    set->is_registered = true;
    return check(device);
}

EXPORTED int nvmlEventSetWait_v2(uint64_t handle, EventData *data, unsigned) {
    auto set = event_sets().find(handle);
    if (!set) return bad_argument;
    if (set->is_registered) {
        if (uint64_t number = fault_on_demand()) {
            *data = {handle_base, 8, number, 0xffff'ffff, 0xffff'ffff};
            return fine;
        }
    }
    // An illegal access is XID 31.
    if (!set->is_registered || set->has_told || sticky_error() == success) return timeout;
    set->has_told = true;
    *data = {handle_base, 8, 31, 0xffff'ffff, 0xffff'ffff};
    return fine;
}

EXPORTED int nvmlGpmQueryDeviceSupport(uint64_t device, uint32_t *support) {
    if (support[0] != 1) return 25;
    support[1] = has_activity();
    return check(device);
}

EXPORTED int nvmlGpmSampleAlloc(uint64_t *sample) {
    *sample = samples().add(std::make_shared<Sample>());
    return fine;
}

EXPORTED int nvmlGpmSampleFree(uint64_t sample) { return samples().remove(sample) ? fine : bad_argument; }

EXPORTED int nvmlGpmSampleGet(uint64_t device, uint64_t handle) {
    if (int status = check(device)) return status;
    if (!has_activity()) return unsupported;
    auto sample = samples().find(handle);
    if (!sample) return bad_argument;
    *sample = {counters().kernels, now()};
    return fine;
}

EXPORTED int nvmlGpmMetricsGet(Metrics *metrics) {
    auto earlier = samples().find(metrics->earlier), later = samples().find(metrics->later);
    if (metrics->version != 1 || !earlier || !later || earlier->nanoseconds == 0 || later->nanoseconds == 0)
        return bad_argument;
    bool was_busy = settings().looks_busy || later->kernels > earlier->kernels;
    for (uint32_t i = 0; i < metrics->count; i++) {
        Metric &metric = metrics->metrics[i];
        metric.status = fine;
        switch (metric.number) {
        case 1: metric.value = was_busy ? 100 : 0; break;
        case 2: metric.value = was_busy ? 75 : 0; break;
        case 3: metric.value = was_busy ? 50 : 0; break;
        case 5: metric.value = was_busy ? 25 : 0; break;
        case 10: metric.value = was_busy ? 60 : 0; break;
        // Nothing is known of the way to the host.
        default: metric.status = unsupported;
        }
    }
    return fine;
}
