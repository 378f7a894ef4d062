// Tandem — Apache-2.0
#include <cstring>
#include <string>

#include "block.hpp"
#include "include/tandem_cuda_emulator.h"
#include "registry.hpp"
#include "sites.hpp"

namespace emulator {

const Kernel *kernel(const char *name) {
    for (const Kernel &kernel : kernels())
        if (strcmp(kernel.name, name) == 0) return &kernel;
    return nullptr;
}

namespace {

/// Limits of the "CUDA C++ Programming Guide", table of technical specifications, compute capability 8.0 to 10.0.
const char *problem(const Kernel &kernel, const Launch &launch) {
    const Size &grid = launch.grid, &size = launch.block;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return "the grid is empty";
    if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return "the grid is too large";
    const uint64_t threads = static_cast<uint64_t>(size.x) * size.y * size.z;
    if (threads == 0 || size.x > 1024 || size.y > 1024 || size.z > 64) return "the block is empty or too large";
    if (threads > kernel.threadLimit) return "the block has more threads than the kernel is made for";
    if (launch.sharedBytes > Block::dynamicLimit) return "more than 227 KiB of shared memory";
    return nullptr;
}

}  // namespace
}  // namespace emulator

using emulator::block;

extern "C" {

tandem_emulator_status tandem_emulator_launch_early(const char *name, tandem_emulator_size grid,
                                                    tandem_emulator_size size, uint32_t sharedBytes,
                                                    void *const *arguments, tandem_emulator_schedule schedule,
                                                    int32_t disturbedSite, void (*earlier)(void *), void *context) {
    const emulator::Kernel *kernel = emulator::kernel(name);
    if (!kernel) {
        block.setMessage(std::string("there is no kernel ") + name);
        return tandem_emulator_unknown_kernel;
    }
    emulator::Launch launch;
    launch.kernel = kernel->run;
    launch.arguments = arguments;
    launch.grid = {grid.x, grid.y, grid.z};
    launch.block = {size.x, size.y, size.z};
    launch.sharedBytes = sharedBytes;
    launch.schedule = schedule;
    launch.disturbedSite = disturbedSite;
    launch.earlier = earlier;
    launch.earlierContext = context;
    if (const char *reason = emulator::problem(*kernel, launch)) {
        block.setMessage(std::string(name) + ": " + reason);
        return tandem_emulator_invalid_launch;
    }
    if (block.run(launch)) return tandem_emulator_ok;
    block.setMessage(std::string(name) + ": " + block.message());
    return tandem_emulator_fault;
}

tandem_emulator_status tandem_emulator_launch_with(const char *name, tandem_emulator_size grid,
                                                   tandem_emulator_size size, uint32_t sharedBytes,
                                                   void *const *arguments, tandem_emulator_schedule schedule,
                                                   int32_t disturbedSite) {
    return tandem_emulator_launch_early(name, grid, size, sharedBytes, arguments, schedule, disturbedSite, nullptr,
                                        nullptr);
}

tandem_emulator_status tandem_emulator_launch(const char *name, tandem_emulator_size grid, tandem_emulator_size size,
                                              uint32_t sharedBytes, void *const *arguments) {
    return tandem_emulator_launch_with(name, grid, size, sharedBytes, arguments, tandem_emulator_warp_greedy,
                                       TANDEM_EMULATOR_NO_SITE);
}

const char *tandem_emulator_message(void) { return block.message().c_str(); }

int32_t tandem_emulator_kernel_count(void) { return static_cast<int32_t>(emulator::kernels().size()); }

const char *tandem_emulator_kernel_name(int32_t index) {
    if (index < 0 || index >= tandem_emulator_kernel_count()) return nullptr;
    return emulator::kernels()[static_cast<size_t>(index)].name;
}

int32_t tandem_emulator_argument_count(const char *name) {
    const emulator::Kernel *kernel = emulator::kernel(name);
    return kernel ? static_cast<int32_t>(kernel->argumentSizes.size()) : -1;
}

size_t tandem_emulator_argument_size(const char *name, int32_t index) {
    if (index < 0 || index >= tandem_emulator_argument_count(name)) return 0;
    return emulator::kernel(name)->argumentSizes[static_cast<size_t>(index)];
}

uint32_t tandem_emulator_thread_limit(const char *name) {
    const emulator::Kernel *kernel = emulator::kernel(name);
    return kernel ? kernel->threadLimit : 0;
}

int32_t tandem_emulator_site_count(void) { return emulator::siteCount(); }

const char *tandem_emulator_site_name(int32_t site) { return emulator::siteName(site); }
}
