// Tandem — Apache-2.0
#include "faults.hpp"

#include <signal.h>

#include <cstdint>
#include <cstdio>
#include <mutex>

#include "block.hpp"

namespace emulator {

namespace {

struct sigaction before[2];
constexpr int signals[2] = {SIGSEGV, SIGBUS};

/// A fault of a kernel comes from one of its own loads or stores, at a point where nothing else is under way, so it is
/// safe to leave for good.
void onFault(int number, siginfo_t *information, void *) {
    if (block.isRunning()) {
        char text[64];
        snprintf(text, sizeof text, "an access to address 0x%llx, which is nobody's",
                 static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(information->si_addr)));
        block.fail(text);
    }
    // The access is tried again, under the handler that was there.
    sigaction(number, &before[number == SIGSEGV ? 0 : 1], nullptr);
}

}  // namespace

void catchFaults() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action = {};
        action.sa_sigaction = onFault;
        // The handler is left without returning, so the signal must not stay blocked.
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        for (int i = 0; i < 2; i++) sigaction(signals[i], &action, &before[i]);
    });
}

}  // namespace emulator
