// Tandem — Apache-2.0

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "double.hpp"

namespace cuda_double {

static std::map<std::string, std::string> &values_set() {
    static auto *map = new std::map<std::string, std::string>;
    return *map;
}

static const char *text(const char *name) {
    auto found = values_set().find(name);
    const char *value = found == values_set().end() ? getenv(name) : found->second.c_str();
    return value && *value ? value : nullptr;
}

static long long number(const char *name, long long otherwise) {
    const char *value = text(name);
    if (!value) return otherwise;
    char *end = nullptr;
    long long result = strtoll(value, &end, 10);
    if (*end || result < 0) {
        complain("%s=%s is no number; %lld is taken", name, value, otherwise);
        return otherwise;
    }
    return result;
}

static void read_uuid(const char *digits, uint8_t *uuid) {
    int count = 0;
    uint8_t bytes[16] = {};
    for (const char *p = digits; *p; p++) {
        if (*p == '-') continue;
        int value = *p >= '0' && *p <= '9' ? *p - '0' : (*p | 32) >= 'a' && (*p | 32) <= 'f' ? (*p | 32) - 'a' + 10 : -1;
        if (value < 0 || count == 32) return complain("TANDEM_DOUBLE_UUID is not 32 hexadecimal digits");
        bytes[count / 2] = uint8_t(bytes[count / 2] << 4 | value);
        count++;
    }
    if (count != 32) return complain("TANDEM_DOUBLE_UUID is not 32 hexadecimal digits");
    memcpy(uuid, bytes, 16);
}

static Settings read() {
    Settings s;
    if (auto value = text("TANDEM_DOUBLE_NAME")) s.name = value;
    if (auto value = text("TANDEM_DOUBLE_UUID")) read_uuid(value, s.uuid);
    s.devices = int(number("TANDEM_DOUBLE_DEVICES", s.devices));
    if (auto value = text("TANDEM_DOUBLE_CAPABILITY")) {
        if (sscanf(value, "%d.%d", &s.capability_major, &s.capability_minor) != 2)
            complain("TANDEM_DOUBLE_CAPABILITY=%s is not of the form 9.0", value);
    }
    s.multiprocessors = int(number("TANDEM_DOUBLE_MULTIPROCESSORS", s.multiprocessors));
    s.memory_bytes = size_t(number("TANDEM_DOUBLE_MEMORY_MIB", (long long)(s.memory_bytes >> 20))) << 20;
    s.driver_version = int(number("TANDEM_DOUBLE_DRIVER", s.driver_version));
    s.uses_mps = number("TANDEM_DOUBLE_MPS", 0) != 0;
    s.has_virtual_memory = number("TANDEM_DOUBLE_VIRTUAL_MEMORY", 1) != 0;
    s.has_descriptors = number("TANDEM_DOUBLE_DESCRIPTORS", 1) != 0;
    s.has_green_contexts = number("TANDEM_DOUBLE_GREEN_CONTEXTS", 1) != 0;
    if (auto value = text("TANDEM_DOUBLE_ORDER")) s.is_lazy = strcmp(value, "lazy") == 0;
    if (auto value = text("TANDEM_DOUBLE_FAULT_FILE")) s.fault_file = value;
    if (auto value = text("TANDEM_DOUBLE_MPS_GROUP")) {
        s.group = value;
        s.uses_mps = true;
    }
    return s;
}

const Settings &settings() {
    static const Settings values = read();
    return values;
}

Counters &counters() {
    static Counters values;
    return values;
}

// MARK: Faults

namespace {
struct Plan {
    std::string what;
    long long countdown;
    int code;
};
std::mutex plan_mutex;
/// Whether there is any plan, so that the common case takes no lock.
std::atomic<bool> has_plans{false};
std::atomic<int> sticky{0};

std::vector<Plan> &plans() {
    static auto *list = new std::vector<Plan>;
    return *list;
}

std::optional<std::vector<Plan>> parsed(const char *text) {
    static const std::set<std::string> known = {"init", "context", "allocate", "pin",      "launch", "copy",
                                                "load", "compile", "algorithm", "multiply", "export", "instantiate",
                                                "manage"};
    std::vector<Plan> list;
    std::string rest = text;
    while (!rest.empty() && (rest.back() == '\n' || rest.back() == ' ')) rest.pop_back();
    while (!rest.empty()) {
        auto comma = rest.find(',');
        std::string item = rest.substr(0, comma);
        rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
        auto equals = item.find('=');
        if (equals == std::string::npos) return std::nullopt;
        Plan plan{item.substr(0, equals), 1, 0};
        auto colon = plan.what.find(':');
        char *end = nullptr;
        if (colon != std::string::npos) {
            plan.countdown = strtoll(plan.what.c_str() + colon + 1, &end, 10);
            if (*end || plan.countdown < 1) return std::nullopt;
            plan.what.resize(colon);
        }
        std::string code = item.substr(equals + 1);
        plan.code = code == "hang" ? int(never_ends) : int(strtol(code.c_str(), &end, 10));
        if (code.empty() || (plan.code != never_ends && *end) || !known.count(plan.what)) return std::nullopt;
        list.push_back(plan);
    }
    return list;
}

/// Takes the faults of the environment, once, and those of the file whenever there is one.
void take_faults_from_outside() {
    static std::once_flag once;
    std::call_once(once, [] {
        if (auto value = text("TANDEM_DOUBLE_FAULT")) {
            if (!tandem_cuda_double_plan_faults(value)) complain("TANDEM_DOUBLE_FAULT=%s is not understood", value);
        }
    });
    const std::string &path = settings().fault_file;
    if (path.empty()) return;
    std::string own = path + "." + std::to_string(getpid());
    // One without a number has who renames it.
    if (access(own.c_str(), F_OK) != 0 && (access(path.c_str(), F_OK) != 0 || rename(path.c_str(), own.c_str()) != 0))
        return;
    char content[512] = {};
    if (FILE *file = fopen(own.c_str(), "r")) {
        size_t count = fread(content, 1, sizeof content - 1, file);
        content[count] = 0;
        fclose(file);
    }
    unlink(own.c_str());
    if (!tandem_cuda_double_plan_faults(content)) complain("%s: '%s' is not understood", path.c_str(), content);
}
}  // namespace

int planned_fault(const char *what, Seen seen) {
    take_faults_from_outside();
    if (!has_plans.load(std::memory_order_acquire)) return success;
    std::lock_guard lock(plan_mutex);
    auto &list = plans();
    for (size_t i = 0; i < list.size(); i++) {
        if (list[i].what != what) continue;
        if (seen != Seen::anytime && loses_context(list[i].code) != (seen == Seen::later)) continue;
        if (--list[i].countdown > 0) continue;
        int code = list[i].code;
        list.erase(list.begin() + long(i));
        return code;
    }
    return success;
}

int sticky_error() {
    int own = sticky.load(std::memory_order_acquire);
    return own ? own : group_error();
}

void set_sticky_error(int code) {
    int none = 0;
    sticky.compare_exchange_strong(none, code);
    // The server ended this client only.
    if (code != 810) tell_group(code);
}

bool loses_context(int code) {
    switch (code) {
    case 214: case 220: case 226: case 700: case 702: case 709: case 710: case 714: case 715: case 716: case 717:
    case 718: case 719: case 721: case 806: case 810: case 999: case never_ends: return true;
    default: return false;
    }
}

void complain(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "CUDA double: %s\n", line);
}

}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int32_t tandem_cuda_double_version(void) { return 1; }

EXPORTED void tandem_cuda_double_set(const char *name, const char *value) { values_set()[name] = value; }

EXPORTED int32_t tandem_cuda_double_plan_faults(const char *text) {
    auto list = parsed(text ? text : "");
    if (!list) return 0;
    std::lock_guard lock(plan_mutex);
    plans() = *list;
    has_plans.store(!list->empty(), std::memory_order_release);
    return 1;
}

EXPORTED int64_t tandem_cuda_double_kernel_count(void) { return counters().kernels; }
EXPORTED int64_t tandem_cuda_double_copy_count(void) { return counters().copies; }
EXPORTED int64_t tandem_cuda_double_product_count(void) { return counters().products; }
EXPORTED int64_t tandem_cuda_double_memory_in_use(void) { return counters().memory; }
EXPORTED int64_t tandem_cuda_double_live_objects(void) { return counters().objects; }
