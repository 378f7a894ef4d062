// Tandem — Apache-2.0
#include "block.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "faults.hpp"
#include "sites.hpp"

namespace emulator {

thread_local Block block;

namespace {
constexpr size_t stackBytes = 64 << 10;
constexpr unsigned char poison = 0xff;
/// Behind the dynamic memory, to see whether somebody wrote there.
constexpr size_t guardBytes = 256;
constexpr unsigned char guard = 0xa5;

unsigned char *align(unsigned char *address, size_t alignment) {
    const uintptr_t value = reinterpret_cast<uintptr_t>(address);
    return reinterpret_cast<unsigned char *>((value + alignment - 1) & ~(alignment - 1));
}
}  // namespace

Block::~Block() {
    if (stacks_) munmap(stacks_, stackCount_ * stackBytes);
}

bool Block::run(const Launch &launch) {
    catchFaults();
    launch_ = &launch;
    hasFailed_ = false;
    earlierHasRun_ = launch.earlier == nullptr;
    fault_.clear();
    const size_t count = static_cast<size_t>(launch.block.x) * launch.block.y * launch.block.z;
    if (stackCount_ < count) {
        if (stacks_) munmap(stacks_, stackCount_ * stackBytes);
        void *memory = mmap(nullptr, count * stackBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        stacks_ = memory == MAP_FAILED ? nullptr : static_cast<unsigned char *>(memory);
        stackCount_ = stacks_ ? count : 0;
        if (!stacks_) {
            fault_ = "no memory for the threads' stacks";
            return false;
        }
    }
    threads_.resize(count);
    warps_.resize((count + 31) / 32);
    staticMemory_.resize(staticLimit + 128);
    static_ = align(staticMemory_.data(), 128);
    dynamicMemory_.resize(launch.sharedBytes + guardBytes + 128);
    dynamic_ = align(dynamicMemory_.data(), 128);
    published_.resize(launch.sharedBytes);
    for (unsigned z = 0; z < launch.grid.z; z++)
        for (unsigned y = 0; y < launch.grid.y; y++)
            for (unsigned x = 0; x < launch.grid.x; x++) {
                blockIndex_ = {x, y, z};
                if (!runOne()) return false;
            }
    return hasAwaited();
}

bool Block::runOne() {
    const Size &size = launch_->block;
    alive_ = static_cast<int>(threads_.size());
    atBarrier_ = 0;
    declarations_.clear();
    staticUsed_ = 0;
    memset(dynamic_, poison, launch_->sharedBytes);
    memset(dynamic_ + launch_->sharedBytes, guard, guardBytes);
    std::fill(published_.begin(), published_.end(), poison);
    for (Warp &warp : warps_) warp.alive = warp.arrived = warp.products = 0, warp.ready = 0;
    for (size_t i = 0; i < threads_.size(); i++) {
        Thread &thread = threads_[i];
        const unsigned n = static_cast<unsigned>(i);
        thread.index = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
        thread.lane = static_cast<int>(i & 31);
        thread.number = static_cast<int>(i);
        thread.warp = &warps_[i >> 5];
        thread.hasEnded = false;
        thread.openCopies.clear();
        thread.committedCopies.clear();
        thread.landedCopies.clear();
        thread.openProducts.clear();
        thread.committedProducts.clear();
        thread.hasFencedProducts = false;
        thread.warp->alive++;
        makeReady(thread);
        // Tops of stacks lie apart in the cache.
        prepare(thread.context, stacks_ + i * stackBytes, stackBytes - i % 32 * 320, entry);
    }
    current_ = &threads_[launch_->schedule == tandem_emulator_warp_greedy_descending ? threads_.size() - 1 : 0];
    change(outside_, current_->context);
    current_ = nullptr;
    if (hasFailed_) return false;
    if (isMemoryIntact() && areProductsWhole()) return true;
    hasFailed_ = true;
    fault_ = std::string(isMemoryIntact() ? "warps of a warpgroup took part in different products"
                                          : "the kernel wrote behind its dynamic shared memory") +
             place();
    return false;
}

bool Block::areProductsWhole() const {
    for (size_t i = 0; i < warps_.size(); i++)
        if (warps_[i].products != warps_[i / 4 * 4].products) return false;
    return true;
}

uint32_t Block::checkedOffset(uint32_t address) {
    if (address & 15) fail("a 16-byte access to shared memory is not aligned");
    if (address < dynamicBase || address - dynamicBase + 16 > launch_->sharedBytes)
        fail("an access beyond the block's dynamic shared memory");
    return address - dynamicBase;
}

bool Block::isMemoryIntact() {
    for (size_t i = 0; i < guardBytes; i++)
        if (dynamic_[launch_->sharedBytes + i] != guard) return false;
    return true;
}

void Block::entry() {
    Block &own = block;
    own.launch_->kernel(own.launch_->arguments);
    Thread &thread = *own.current_;
    if (!thread.openProducts.empty() || !thread.committedProducts.empty())
        own.fail("a thread ended before the wait for its products");
    thread.hasEnded = true;
    own.alive_--;
    thread.warp->alive--;
    if (thread.warp->arrived > 0) own.fail("a thread ended while lanes of its warp wait for it");
    // Threads that ended take no part in barriers.
    if (own.atBarrier_ > 0 && own.atBarrier_ == own.alive_) own.releaseBarrier();
    own.wait();
    __builtin_unreachable();
}

/// Marks the running thread as one that waits, and lets others run until it is ready.
void Block::wait() {
    Thread &thread = *current_;
    thread.warp->ready &= ~(1u << thread.lane);
    leave();
}

void Block::leave() {
    Thread *to = next();
    Thread &from = *current_;
    if (to == &from) return;
    if (!to) {
        if (alive_ > 0) {
            hasFailed_ = true;
            fault_ = "threads wait for each other for ever";
            if (atBarrier_ > 0)
                fault_ += ": " + std::to_string(atBarrier_) + " of " + std::to_string(alive_) + " are at " +
                          (siteName(barrierSite_) ? siteName(barrierSite_) : "a barrier");
            fault_ += place();
        }
        change(from.context, outside_);
        return;
    }
    current_ = to;
    change(from.context, to->context);
}

Thread *Block::next() {
    const int warps = static_cast<int>(warps_.size());
    const int warp = current_->number >> 5, lane = current_->lane;
    const uint32_t own = warps_[static_cast<size_t>(warp)].ready;
    // Behind the running lane first, in its warp.
    const uint32_t behind = lane == 31 ? 0 : own & ~0u << (lane + 1);
    const auto threadAt = [&](int w, uint32_t ready) {
        return &threads_[static_cast<size_t>(w * 32 + __builtin_ctz(ready))];
    };
    if (behind) return threadAt(warp, behind);
    if (launch_->schedule != tandem_emulator_round_robin && own) return threadAt(warp, own);
    const int step = launch_->schedule == tandem_emulator_warp_greedy_descending ? warps - 1 : 1;
    for (int i = 1; i <= warps; i++) {
        const int w = (warp + i * step) % warps;
        if (warps_[static_cast<size_t>(w)].ready) return threadAt(w, warps_[static_cast<size_t>(w)].ready);
    }
    return nullptr;
}

void Block::releaseBarrier() {
    atBarrier_ = 0;
    for (const Thread &thread : threads_)
        if (!thread.hasEnded) makeReady(thread);
}

void Block::barrier(int32_t site) {
    if (isDisturbed(site)) return;
    if (atBarrier_ > 0 && barrierSite_ != site)
        fail(std::string("threads of a block are at different barriers: ") + siteName(site) + " and " +
             siteName(barrierSite_));
    barrierSite_ = site;
    if (++atBarrier_ == alive_) {
        releaseBarrier();
        return;
    }
    wait();
}

void Block::together(const void *given, size_t givenBytes, void *taken, size_t takenBytes,
                     void (*operation)(Warp &)) {
    const int lane = current_->lane;
    Warp &warp = *current_->warp;
    memcpy(warp.given[lane], given, givenBytes);
    if (warp.arrived > 0 && warp.operation != operation) fail("lanes of a warp are in different instructions");
    warp.operation = operation;
    if (++warp.arrived == Warp::lanes) {
        operation(warp);
        warp.arrived = 0;
        warp.ready = ~0u;
    } else {
        if (warp.alive < Warp::lanes) fail("a part of a warp does what takes all its lanes");
        wait();
    }
    memcpy(taken, warp.taken[lane], takenBytes);
}

void *Block::shared(const void *declaration, size_t bytes) {
    for (const Declaration &known : declarations_)
        if (known.key == declaration) return static_ + known.offset;
    const size_t offset = (staticUsed_ + 15) & ~size_t{15};
    if (offset + bytes > staticLimit) fail("static shared memory is beyond 48 KiB");
    memset(static_ + offset, poison, bytes);
    declarations_.push_back({declaration, offset, bytes});
    staticUsed_ = offset + bytes;
    return static_ + offset;
}

std::string Block::place() const {
    std::string text = " (block " + std::to_string(blockIndex_.x) + "," + std::to_string(blockIndex_.y) + "," +
                       std::to_string(blockIndex_.z);
    if (current_) text += ", thread " + std::to_string(current_->number);
    return text + ")";
}

void Block::fail(std::string message) {
    hasFailed_ = true;
    fault_ = std::move(message) + place();
    Thread &thread = *current_;
    change(thread.context, outside_);
    __builtin_unreachable();
}

}  // namespace emulator
