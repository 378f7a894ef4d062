// Tandem — Apache-2.0

// Modules, functions and launches. Every module has all kernels of the emulator, whatever its image says, and a few of
// the double's own, for tests of the driver's binding.

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "double.hpp"
#include "tandem_cuda_emulator.h"

namespace cuda_double {
namespace {

struct Module {};

struct Function {
    std::string name;
    std::vector<size_t> argument_sizes;
    unsigned thread_limit = 1024;
    /// Null for kernels of the emulator. Gets the arguments' addresses and the number of all threads.
    void (*own)(void *const *, size_t) = nullptr;
    std::atomic<int> shared_limit{48 << 10};
};

Handles<Module> &modules() {
    static auto *handles = new Handles<Module>(6);
    return *handles;
}

/// Functions live as long as the process, as nobody gives them back.
std::map<std::string, std::unique_ptr<Function>> &functions() {
    static auto *map = new std::map<std::string, std::unique_ptr<Function>>;
    return *map;
}
std::mutex functions_mutex;

// MARK: Kernels of the double

template <class Value> Value argument(void *const *arguments, int index) {
    Value value;
    memcpy(&value, arguments[index], sizeof value);
    return value;
}

/// double_add(a float*, b float*, sum float*, count int)
void add(void *const *arguments, size_t threads) {
    auto a = argument<float *>(arguments, 0), b = argument<float *>(arguments, 1);
    auto sum = argument<float *>(arguments, 2);
    auto count = size_t(argument<int32_t>(arguments, 3));
    for (size_t i = 0; i < threads && i < count; i++) sum[i] = a[i] + b[i];
}

/// double_scale(values float*, factor float, count int)
void scale(void *const *arguments, size_t threads) {
    auto values = argument<float *>(arguments, 0);
    auto factor = argument<float>(arguments, 1);
    auto count = size_t(argument<int32_t>(arguments, 2));
    for (size_t i = 0; i < threads && i < count; i++) values[i] *= factor;
}

/// double_stray(): writes where nothing is.
void stray(void *const *, size_t) { *reinterpret_cast<volatile int *>(uintptr_t(64)) = 0; }

struct Own {
    const char *name;
    std::vector<size_t> argument_sizes;
    void (*body)(void *const *, size_t);
};

const std::vector<Own> &own_kernels() {
    static auto *list = new std::vector<Own>{
        {"double_add", {8, 8, 8, 4}, add}, {"double_scale", {8, 4, 4}, scale}, {"double_stray", {}, stray}};
    return *list;
}

Function *function(const std::string &name) {
    std::lock_guard lock(functions_mutex);
    auto &entry = functions()[name];
    if (entry) return entry.get();
    auto made = std::make_unique<Function>();
    made->name = name;
    for (auto &own : own_kernels()) {
        if (name != own.name) continue;
        made->argument_sizes = own.argument_sizes;
        made->own = own.body;
        entry = std::move(made);
        return entry.get();
    }
    int32_t count = tandem_emulator_argument_count(name.c_str());
    if (count < 0) return nullptr;
    for (int32_t i = 0; i < count; i++) {
        made->argument_sizes.push_back(tandem_emulator_argument_size(name.c_str(), i));
    }
    if (unsigned limit = tandem_emulator_thread_limit(name.c_str())) made->thread_limit = limit;
    entry = std::move(made);
    return entry.get();
}

Function *function(uint64_t handle) {
    std::lock_guard lock(functions_mutex);
    for (auto &entry : functions()) {
        if (entry.second && uint64_t(entry.second.get()) == handle) return entry.second.get();
    }
    return nullptr;
}

// MARK: Accesses outside of memory

/// Where the thread goes on if its kernel touches what it must not; null while no kernel runs in it.
thread_local sigjmp_buf *way_out = nullptr;
thread_local void *touched = nullptr;
struct sigaction earlier[2];

void on_fault(int number, siginfo_t *information, void *context) {
    if (way_out) {
        touched = information->si_addr;
        siglongjmp(*way_out, 1);
    }
    // Not ours: as it was before.
    struct sigaction &before = earlier[number == SIGBUS];
    if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(number, information, context);
    sigaction(number, &before, nullptr);
}

void catch_faults() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigemptyset(&action.sa_mask);
        sigaction(SIGSEGV, &action, &earlier[0]);
        sigaction(SIGBUS, &action, &earlier[1]);
    });
}

// MARK: Running

struct Launch {
    Function *function;
    tandem_emulator_size grid, block;
    uint32_t shared_bytes;
    /// A word for each argument.
    std::vector<uint64_t> words;
};

/// Work before a kernel that starts early, and how it ended. It runs in a thread of its own, because the emulator runs one
/// kernel a thread.
struct Before {
    const Work *work;
    int code = success;
    static void run(void *context) {
        auto before = static_cast<Before *>(context);
        std::thread([before] { before->code = (*before->work)(); }).join();
    }
};

int run_body(const Launch &launch, Before *before) {
    std::vector<void *> arguments;
    for (auto &word : launch.words) arguments.push_back(const_cast<uint64_t *>(&word));
    arguments.push_back(nullptr);
    if (launch.function->own) {
        launch.function->own(arguments.data(), size_t(launch.grid.x) * launch.block.x);
        return success;
    }
    auto status = tandem_emulator_launch_early(launch.function->name.c_str(), launch.grid, launch.block,
                                               launch.shared_bytes, arguments.data(), tandem_emulator_warp_greedy,
                                               TANDEM_EMULATOR_NO_SITE, before ? Before::run : nullptr, before);
    if (status == tandem_emulator_ok) return success;
    complain("%s: %s", launch.function->name.c_str(), tandem_emulator_message());
    return status == tandem_emulator_fault ? 719 : int(invalid_value);
}

int run(const Launch &launch, Before *before = nullptr) {
    counters().kernels++;
    catch_faults();
    sigjmp_buf buffer;
    if (sigsetjmp(buffer, 1) == 0) {
        way_out = &buffer;
        int status = run_body(launch, before);
        way_out = nullptr;
        // A launch that is not valid would have been refused at once.
        return status == invalid_value ? 719 : status;
    }
    // What the kernel had open is lost, as everything else of this context.
    way_out = nullptr;
    complain("%s touches %p, which is not its memory", launch.function->name.c_str(), touched);
    return illegal_address;
}

/// Runs a kernel that starts before the work before it has ended.
int run_early(const Launch &launch, const Work &work) {
    // The double's own kernels wait for nothing, so they must not start early.
    if (launch.function->own) {
        if (int code = work()) return code;
        return run(launch);
    }
    Before before{&work};
    int status = run(launch, &before);
    return before.code ? before.code : status;
}

/// Something to wait for that has ended: a kernel that never waits is found all the same.
int run_behind_nothing(const Launch &launch) {
    return run_early(launch, [] { return int(success); });
}

bool is_valid(const Launch &launch) {
    const auto grid = launch.grid, block = launch.block;
    uint64_t threads = uint64_t(block.x) * block.y * block.z;
    return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z <= 65535 &&
           threads > 0 && threads <= launch.function->thread_limit && block.z <= 64 &&
           int64_t(launch.shared_bytes) <= launch.function->shared_limit;
}

/// Whether code for that architecture (`sm_80`, `sm_90a`) runs on this device.
bool fits_device(const char *architecture) {
    int number = 0;
    char letter = 0;
    if (sscanf(architecture, "sm_%d%c", &number, &letter) < 1) return false;
    int major = number / 10, minor = number % 10;
    const Settings &s = settings();
    if (letter == 'a') return major == s.capability_major && minor == s.capability_minor;
    return major == s.capability_major && minor <= s.capability_minor;
}

}  // namespace

}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int cuModuleLoadData(uint64_t *handle, const void *image) {
    if (int status = ready()) return status;
    if (int code = planned_fault("load")) return code;
    auto bytes = static_cast<const char *>(image);
    // An ELF file of machine 190, as NVRTC's are too: the kernels are taken from the emulator in any case.
    if (memcmp(bytes, "\177ELF", 4) != 0 || uint8_t(bytes[18]) != 190) return invalid_image;
    if (memcmp(bytes + 64, image_mark, strlen(image_mark)) == 0 && !fits_device(bytes + 64 + strlen(image_mark) + 1))
        return no_binary_for_device;
    *handle = modules().add(std::make_shared<Module>());
    return success;
}

EXPORTED int cuModuleUnload(uint64_t handle) { return modules().remove(handle) ? sticky_error() : int(invalid_handle); }

EXPORTED int cuModuleGetFunction(uint64_t *handle, uint64_t module, const char *name) {
    if (int status = ready()) return status;
    if (!modules().find(module)) return invalid_handle;
    auto found = function(name);
    if (!found) return not_found;
    *handle = uint64_t(found);
    return success;
}

EXPORTED int cuFuncGetAttribute(int *value, int attribute, uint64_t handle) {
    if (int status = ready()) return status;
    auto found = function(handle);
    if (!found) return invalid_handle;
    switch (attribute) {
    case 0: *value = int(found->thread_limit); break;
    case 1: *value = 0; break;    // fixed shared memory
    case 3: *value = 0; break;    // local memory
    case 4: *value = 64; break;   // registers
    case 8: *value = found->shared_limit; break;
    default: return invalid_value;
    }
    return success;
}

EXPORTED int cuFuncSetAttribute(uint64_t handle, int attribute, int value) {
    if (int status = ready()) return status;
    auto found = function(handle);
    if (!found) return invalid_handle;
    if (attribute == 9) return success;
    if (attribute != 8 || value < 0 || value > 227 << 10) return invalid_value;
    found->shared_limit = value < 48 << 10 ? 48 << 10 : value;
    return success;
}

EXPORTED int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, uint64_t handle, int threads, size_t shared) {
    if (int status = ready()) return status;
    if (!function(handle)) return invalid_handle;
    if (threads <= 0 || threads > 1024) return invalid_value;
    int by_threads = 2048 / threads;
    int by_shared = shared ? int((size_t(227) << 10) / shared) : 32;
    *blocks = std::min(std::min(by_threads, by_shared), 32);
    return success;
}

namespace cuda_double {
namespace {
int start(uint64_t handle, const unsigned (&grid)[3], const unsigned (&block)[3], unsigned shared,
          uint64_t stream_handle, void **parameters, void **extra, bool starts_early) {
    if (int status = ready()) return status;
    auto found = function(handle);
    auto target = stream(stream_handle);
    if (!found || !target) return invalid_handle;
    Launch launch{found, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared, {}};
    if (!is_valid(launch) || extra || (!parameters && !found->argument_sizes.empty())) return invalid_value;
    for (size_t i = 0; i < found->argument_sizes.size(); i++) {
        uint64_t word = 0;
        memcpy(&word, parameters[i], found->argument_sizes[i]);
        launch.words.push_back(word);
    }
    {
        std::unique_lock lock(capture_mutex());
        if (target->capture) {
            lock.unlock();
            auto work = [launch, starts_early] {
                if (int code = planned_fault("launch", Seen::later)) return code;
                return starts_early ? run_behind_nothing(launch) : run(launch);
            };
            EarlyWork early;
            if (starts_early) {
                early = [launch](const Work &before) {
                    if (int code = planned_fault("launch", Seen::later)) return code;
                    return run_early(launch, before);
                };
            }
            return submit(*target, work, early);
        }
    }
    int code = planned_fault("launch");
    if (code && !loses_context(code)) return code;
    return submit(*target, [launch, code, starts_early] {
        return code ? code : starts_early ? run_behind_nothing(launch) : run(launch);
    });
}

/// As `CUlaunchAttribute` and `CUlaunchConfig` lie in memory.
struct Attribute {
    int id;
    int padding;
    int value[16];
};
struct Configuration {
    unsigned grid[3], block[3], shared;
    uint64_t stream;
    const Attribute *attributes;
    unsigned attribute_count;
};
}  // namespace
}  // namespace cuda_double

EXPORTED int cuLaunchKernel(uint64_t handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                            unsigned bz, unsigned shared, uint64_t stream_handle, void **parameters, void **extra) {
    return start(handle, {gx, gy, gz}, {bx, by, bz}, shared, stream_handle, parameters, extra, false);
}

EXPORTED int cuLaunchKernelEx(const void *configuration, uint64_t handle, void **parameters, void **extra) {
    auto &given = *static_cast<const Configuration *>(configuration);
    bool starts_early = false;
    for (unsigned i = 0; i < given.attribute_count; i++) {
        auto &attribute = given.attributes[i];
        // 6: programmatic stream serialization, from compute capability 9.0 on; the double knows no other.
        if (attribute.id != 6) return not_supported;
        starts_early = attribute.value[0] != 0;
    }
    if (starts_early && settings().capability_major < 9) return not_supported;
    return start(handle, given.grid, given.block, given.shared, given.stream, parameters, extra, starts_early);
}
