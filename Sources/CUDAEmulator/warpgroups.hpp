// Tandem — Apache-2.0
//
// Matrix products of warpgroups (wgmma), as "Parallel Thread Execution ISA" has them under "Asynchronous warpgroup-level
// matrix operations": operands named by descriptors, sums that are there after a wait and not before, and a view of shared
// memory of their own, in which writes show once their thread has published them.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "block.hpp"
#include "warps.hpp"

namespace emulator {

/// Where an operand lies in shared memory.
struct Operand {
    uint32_t start, leading, stride;
    /// log2 of the 16-byte pieces in a swizzled row: 0 for no swizzle, 3 for one of 128 bytes.
    int pieces;

    explicit Operand(uint64_t descriptor)
        : start(field(descriptor, 0)), leading(field(descriptor, 16)), stride(field(descriptor, 32)) {
        constexpr int piecesOfMode[] = {0, 3, 2, 1};
        pieces = piecesOfMode[descriptor >> 62];
        if (descriptor & 0x3fffc000c000c000ull) block.fail("a descriptor of an operand has bits that must be zero");
    }

    /// Address of the 16 bytes that hold eight elements along the inner dimension of row `row`.
    uint32_t place(int row, int piece) const {
        if (pieces == 0) return start + row / 8 * stride + row % 8 * 16u + piece * leading;
        return swizzled(start + row / 8 * stride + (row % 8 * 16u << pieces) + piece * 16u);
    }

    /// Address of the 16 bytes that hold columns `8 piece` to `8 piece + 7` of a transposed operand at `inner`.
    uint32_t transposedPlace(int inner, int piece) const {
        if (pieces == 0) return start + piece * stride + inner % 8 * 16u + inner / 8 * leading;
        return swizzled(start + (piece >> pieces) * leading + (piece & ((1 << pieces) - 1)) * 16u +
                        inner / 8 * stride + (inner % 8 * 16u << pieces));
    }

private:
    static uint32_t field(uint64_t descriptor, int bit) { return (descriptor >> bit & 0x3fff) << 4; }
    uint32_t swizzled(uint32_t address) const { return address ^ (address >> 7 & ((1u << pieces) - 1)) << 4; }
};

/// What a lane brings to a product.
struct ProductRequest {
    Thread *thread;
    float *sums;
    int count;
    bool adds;
    /// In registers; null if the left operand is in shared memory.
    const uint32_t *left;
    uint64_t leftOperand, rightOperand;
    bool isTransposed;
};

/// The newest product under way that makes these sums, or null.
inline Product *newestProduct(Thread &thread, const float *sums) {
    for (auto product = thread.openProducts.rbegin(); product != thread.openProducts.rend(); ++product)
        if (product->sums == sums) return &*product;
    for (auto group = thread.committedProducts.rbegin(); group != thread.committedProducts.rend(); ++group)
        for (auto product = group->rbegin(); product != group->rend(); ++product)
            if (product->sums == sums) return &*product;
    return nullptr;
}

/// Reads 16 bytes as products see them, and notes them.
inline void readPiece(Product &noted, uint32_t address, float *values) {
    ProductPiece piece{address, {}};
    memcpy(piece.bytes.data(), block.publishedPlace(address), 16);
    for (int i = 0; i < 8; i++) {
        uint16_t half;
        memcpy(&half, &piece.bytes[static_cast<size_t>(i) * 2], 2);
        const uint32_t bits = static_cast<uint32_t>(half) << 16;
        memcpy(values + i, &bits, 4);
    }
    noted.pieces.push_back(piece);
}

inline ProductRequest &requestOf(Warp &warp, int lane) {
    ProductRequest *request;
    memcpy(&request, warp.given[lane], sizeof request);
    return *request;
}

/// The warp's 16 of the 64 rows.
inline void multiplyTogether(Warp &warp) {
    const ProductRequest &first = requestOf(warp, 0);
    const int columns = first.count * 2, warpInGroup = first.thread->number / 32 % 4;
    Product noted;
    float left[16][16], right[16][128];
    const Operand rightOperand(first.rightOperand);
    if (first.isTransposed) {
        for (int inner = 0; inner < 16; inner++)
            for (int piece = 0; piece < columns / 8; piece++)
                readPiece(noted, rightOperand.transposedPlace(inner, piece), &right[inner][piece * 8]);
    } else {
        for (int column = 0; column < columns; column++) {
            float values[16];
            for (int piece = 0; piece < 2; piece++)
                readPiece(noted, rightOperand.place(column, piece), values + piece * 8);
            for (int inner = 0; inner < 16; inner++) right[inner][column] = values[inner];
        }
    }
    if (!first.left) {
        const Operand leftOperand(first.leftOperand);
        for (int row = 0; row < 16; row++)
            for (int piece = 0; piece < 2; piece++)
                readPiece(noted, leftOperand.place(warpInGroup * 16 + row, piece), &left[row][piece * 8]);
    }
    float sums[16][128];
    for (int lane = 0; lane < Warp::lanes; lane++) {
        const ProductRequest &own = requestOf(warp, lane);
        if (own.count != first.count || own.adds != first.adds || own.rightOperand != first.rightOperand ||
            own.leftOperand != first.leftOperand || own.isTransposed != first.isTransposed)
            block.fail("lanes of a warp name different operands");
        if (!own.thread->hasFencedProducts) block.fail("a product without a fence between it and the registers' use");
        const int group = lane >> 2, quad = lane & 3;
        if (own.left)
            for (int r = 0; r < 4; r++)
                for (int i = 0; i < 2; i++)
                    left[group + (r & 1) * 8][quad * 2 + i + (r >> 1) * 8] = halfOf(own.left[r], i);
        const Product *before = newestProduct(*own.thread, own.sums);
        for (int c = 0; c < own.count; c++)
            sums[group + (c >> 1 & 1) * 8][c / 4 * 8 + quad * 2 + (c & 1)] =
                !own.adds ? 0.f : before ? before->values[static_cast<size_t>(c)] : own.sums[c];
    }
    for (int row = 0; row < 16; row++)
        for (int inner = 0; inner < 16; inner++)
            for (int column = 0; column < columns; column++)
                sums[row][column] += left[row][inner] * right[inner][column];
    for (int lane = 0; lane < Warp::lanes; lane++) {
        const ProductRequest &own = requestOf(warp, lane);
        const int group = lane >> 2, quad = lane & 3;
        Product product;
        product.sums = own.sums;
        product.count = own.count;
        product.left = own.left;
        if (own.left) std::copy_n(own.left, 4, product.leftValues.begin());
        for (int c = 0; c < own.count; c++) {
            product.values[static_cast<size_t>(c)] =
                sums[group + (c >> 1 & 1) * 8][c / 4 * 8 + quad * 2 + (c & 1)];
            // Until the wait the registers hold nothing.
            own.sums[c] = NAN;
        }
        if (lane == 0) product.pieces = std::move(noted.pieces);
        own.thread->openProducts.push_back(std::move(product));
    }
    warp.products++;
}

inline void multiplyWarpgroup(float *sums, size_t count, bool adds, const uint32_t *left, uint64_t leftOperand,
                              uint64_t rightOperand, bool isTransposed) {
    const Size &size = block.launch().block;
    if (size.x * size.y * size.z % 128) block.fail("a product of a warpgroup in a block that is not made of them");
    ProductRequest request{&block.thread(), sums, static_cast<int>(count), adds, left, leftOperand, rightOperand, isTransposed};
    ProductRequest *given = &request;
    int none;
    block.together(&given, sizeof given, &none, sizeof none, multiplyTogether);
}

inline void fenceProducts(int32_t site) {
    if (!block.isDisturbed(site)) block.thread().hasFencedProducts = true;
}

inline void commitProducts(int32_t site) {
    if (block.isDisturbed(site)) return;
    Thread &thread = block.thread();
    thread.committedProducts.push_back(std::move(thread.openProducts));
    thread.openProducts.clear();
}

inline void finishProducts(size_t groups, int32_t site) {
    if (block.isDisturbed(site)) return;
    Thread &thread = block.thread();
    // What was in flight is the threads' again, or soon is.
    thread.hasFencedProducts = false;
    while (thread.committedProducts.size() > groups) {
        const std::vector<Product> done = std::move(thread.committedProducts.front());
        thread.committedProducts.erase(thread.committedProducts.begin());
        for (size_t i = 0; i < done.size(); i++) {
            const Product &product = done[i];
            for (const ProductPiece &piece : product.pieces)
                if (memcmp(piece.bytes.data(), block.publishedPlace(piece.address), 16))
                    block.fail("an operand in shared memory changed before the wait for its product");
            if (product.left && memcmp(product.left, product.leftValues.data(), sizeof product.leftValues))
                block.fail("an operand in registers changed before the wait for its product");
            const bool isLast = std::none_of(done.begin() + static_cast<ptrdiff_t>(i) + 1, done.end(),
                                             [&](const Product &other) { return other.sums == product.sums; });
            if (isLast && !newestProduct(thread, product.sums))
                std::copy_n(product.values.begin(), product.count, product.sums);
        }
    }
}

/// Shows products what the thread's copies brought.
inline void publishShared(int32_t site) {
    if (block.isDisturbed(site)) return;
    Thread &thread = block.thread();
    for (const uint32_t address : thread.landedCopies)
        memcpy(block.publishedPlace(address), block.sharedPlace(address), 16);
    thread.landedCopies.clear();
}

/// A descriptor of an operand with a swizzle of 128 bytes; a disturbed part of it has another value.
inline uint64_t swizzledOperand(uint32_t place, uint32_t leading, uint32_t stride, int32_t strideSite,
                                int32_t swizzleSite, int32_t leadingSite) {
    if (block.isDisturbed(strideSite)) stride /= 2;
    if (block.isDisturbed(leadingSite)) leading /= 2;
    const uint64_t mode = block.isDisturbed(swizzleSite) ? 0 : 1;
    return (place >> 4 & 0x3fff) | static_cast<uint64_t>(leading >> 4) << 16 | static_cast<uint64_t>(stride >> 4) << 32 |
           mode << 62;
}

}  // namespace emulator

#define FENCE_PRODUCTS() ::emulator::fenceProducts(EMULATOR_SITE("fence"))
#define COMMIT_PRODUCTS() ::emulator::commitProducts(EMULATOR_SITE("commit"))
#define WAIT_FOR_PRODUCTS(groups) ::emulator::finishProducts(groups, EMULATOR_SITE("wait for products"))
#define PUBLISH_SHARED() ::emulator::publishShared(EMULATOR_SITE("publication"))
#define settle(sums) (void)(sums)
#define SWIZZLED_ROWS(place, stride)                                                                  \
    ::emulator::swizzledOperand(place, 16, stride, EMULATOR_SITE("stride"), EMULATOR_SITE("swizzle mode"), \
                                TANDEM_EMULATOR_NO_SITE - 1)
#define SWIZZLED_COLUMNS(place, leading, stride)                                                           \
    ::emulator::swizzledOperand(place, leading, stride, EMULATOR_SITE("stride"), EMULATOR_SITE("swizzle mode"), \
                                EMULATOR_SITE("leading offset"))

template <int count>
[[maybe_unused]] static inline void multiply_shared(float (&sums)[count], uint64_t left, uint64_t right, bool adds) {
    ::emulator::multiplyWarpgroup(sums, count, adds, nullptr, left, right, false);
}
#define multiply_transposed(sums, left, right)                                                       \
    ::emulator::multiplyWarpgroup(sums, sizeof(sums) / 4, true, left, 0, right,                      \
                                  !::emulator::block.isDisturbed(EMULATOR_SITE("transposition")))
