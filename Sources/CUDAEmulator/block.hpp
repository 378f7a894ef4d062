// Tandem — Apache-2.0
//
// One block of threads: who may run, who waits for whom, and the memory they share.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "context.hpp"
#include "include/tandem_cuda_emulator.h"

namespace emulator {

struct Size {
    unsigned x = 1, y = 1, z = 1;
};

/// What the lanes of a warp bring to something that they do together, and what they get.
struct Warp {
    static constexpr int lanes = 32;
    static constexpr int laneBytes = 64;
    alignas(16) unsigned char given[lanes][laneBytes];
    alignas(16) unsigned char taken[lanes][laneBytes];
    int alive = 0;
    int arrived = 0;
    /// What the first lane to arrive came for.
    void (*operation)(Warp &) = nullptr;
    /// Lanes that can run.
    uint32_t ready = 0;
    /// Products that it took part in.
    int products = 0;
};

/// 16 bytes on their way into shared memory.
struct AsynchronousCopy {
    uint32_t destination;
    const void *source;
    bool exists;
};

/// 16 bytes of shared memory as a product read them.
struct ProductPiece {
    uint32_t address;
    std::array<unsigned char, 16> bytes;
};

/// A matrix product of a warpgroup under way: what a lane gets at the wait for it.
struct Product {
    float *sums = nullptr;
    int count = 0;
    std::array<float, 64> values{};
    /// The left operand if it is in registers, and what it was.
    const uint32_t *left = nullptr;
    std::array<uint32_t, 4> leftValues{};
    /// What the warp read; with its first lane.
    std::vector<ProductPiece> pieces;
};

struct Thread {
    Context context;
    Size index;
    int lane = 0;
    int number = 0;
    Warp *warp = nullptr;
    bool hasEnded = false;
    std::vector<AsynchronousCopy> openCopies;
    std::vector<std::vector<AsynchronousCopy>> committedCopies;
    /// Where copies have arrived that products do not see yet.
    std::vector<uint32_t> landedCopies;
    std::vector<Product> openProducts;
    std::vector<std::vector<Product>> committedProducts;
    /// Whether registers were handed over to products since they were last used.
    bool hasFencedProducts = false;
};

/// What a launch asks for.
struct Launch {
    void (*kernel)(void *const *arguments) = nullptr;
    void *const *arguments = nullptr;
    Size grid, block;
    uint32_t sharedBytes = 0;
    tandem_emulator_schedule schedule = tandem_emulator_warp_greedy;
    int32_t disturbedSite = TANDEM_EMULATOR_NO_SITE;
    /// What is still to run of the work before the kernel, which starts early; null if it has ended. It runs once, when
    /// the first block has come as far as it may without it.
    void (*earlier)(void *context) = nullptr;
    void *earlierContext = nullptr;
};

/// The block that the calling thread runs. It is kept between launches for its memory.
class Block {
public:
    static constexpr size_t staticLimit = 48 << 10;
    static constexpr size_t dynamicLimit = 227 << 10;
    /// Where dynamic memory starts among the block's shared addresses: aligned as kernels ask, and no better.
    static constexpr uint32_t dynamicBase = 1024 + 128;

    /// Runs all blocks of a grid; false after a fault.
    bool run(const Launch &launch);

    /// Whether a thread of the block is what runs now.
    bool isRunning() const { return current_ != nullptr; }

    const std::string &message() const { return fault_; }
    void setMessage(std::string message) { fault_ = std::move(message); }

    // What a running thread asks.
    Thread &thread() { return *current_; }
    const Size &blockIndex() const { return blockIndex_; }
    const Launch &launch() const { return *launch_; }
    bool isDisturbed(int32_t site) const { return site == launch_->disturbedSite; }

    /// Waits until all threads of the block are at this barrier.
    void barrier(int32_t site);

    /// Waits for the work before the kernel.
    void awaitEarlier(int32_t site);

    /// Hands `given` over, waits for the warp, and brings back what `operation` made for the lane.
    void together(const void *given, size_t givenBytes, void *taken, size_t takenBytes, void (*operation)(Warp &));

    /// The block's array of a declaration; poisoned when the first thread asks.
    void *shared(const void *declaration, size_t bytes);

    void *dynamicShared() { return dynamic_; }
    /// 16 bytes at a shared address.
    unsigned char *sharedPlace(uint32_t address) { return dynamic_ + checkedOffset(address); }
    /// The same as matrix products of warpgroups see them.
    unsigned char *publishedPlace(uint32_t address) { return published_.data() + checkedOffset(address); }

    /// Ends the launch: the kernel did what must not be done. Does not return.
    [[noreturn]] void fail(std::string message);

private:
    static void entry();
    bool runOne();
    /// Lets another thread run; the calling one must have marked itself as waiting.
    void leave();
    Thread *next();
    void wait();
    void makeReady(const Thread &thread) { thread.warp->ready |= 1u << thread.lane; }
    void releaseBarrier();
    bool isMemoryIntact();
    /// Whether all warps of each warpgroup took part in the same number of products.
    bool areProductsWhole() const;
    uint32_t checkedOffset(uint32_t address);
    void runEarlier();
    bool hasAwaited();
    std::string place() const;

    const Launch *launch_ = nullptr;
    Size blockIndex_;
    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    Thread *current_ = nullptr;
    Context outside_;
    int alive_ = 0;
    int atBarrier_ = 0;
    int32_t barrierSite_ = 0;
    std::string fault_;
    bool hasFailed_ = false;
    bool earlierHasRun_ = true;

    struct Declaration {
        const void *key;
        size_t offset, bytes;
    };
    std::vector<Declaration> declarations_;
    size_t staticUsed_ = 0;
    std::vector<unsigned char> staticMemory_, dynamicMemory_, published_;
    unsigned char *static_ = nullptr, *dynamic_ = nullptr;
    unsigned char *stacks_ = nullptr;
    size_t stackCount_ = 0;

public:
    Block() = default;
    Block(const Block &) = delete;
    Block &operator=(const Block &) = delete;
    ~Block();
};

extern thread_local Block block;

}  // namespace emulator
