// Tandem — Apache-2.0
//
// Kernels that start before the work before them has ended ("Programmatic Dependent Launch", CUDA programming guide), in the
// order that shows most: all threads of the first block go as far as they may, and only then does the work before run.
#include "block.hpp"

namespace emulator {

void Block::awaitEarlier(int32_t site) {
    if (earlierHasRun_ || isDisturbed(site)) return;
    barrier(site);
    // The first thread behind the barrier.
    if (!earlierHasRun_) runEarlier();
}

void Block::runEarlier() {
    earlierHasRun_ = true;
    launch_->earlier(launch_->earlierContext);
}

/// Whether the kernel waited for the work before it, as each that starts early must: what comes behind waits for the kernel
/// alone.
bool Block::hasAwaited() {
    if (earlierHasRun_) return true;
    runEarlier();
    // A disturbed wait is to show in the results.
    if (launch_->disturbedSite != TANDEM_EMULATOR_NO_SITE) return true;
    hasFailed_ = true;
    fault_ = "the kernel ended without waiting for the work before it";
    return false;
}

}  // namespace emulator
