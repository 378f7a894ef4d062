// Tandem — Apache-2.0
//
// What the lanes of a warp do together. Fragments lie in lanes as "Parallel Thread Execution ISA" shows them for mma,
// ldmatrix and movmatrix.
#pragma once
#include <cstdint>
#include <cstring>

#include "block.hpp"

namespace emulator {

template <typename Value>
struct Exchange {
    Value value;
    int argument;
};

template <typename Value, typename Source>
inline void exchange(Warp &warp, Source source) {
    for (int lane = 0; lane < Warp::lanes; lane++) {
        Exchange<Value> own, other;
        memcpy(&own, warp.given[lane], sizeof own);
        const int from = source(lane, own.argument);
        memcpy(&other, warp.given[from >= 0 && from < Warp::lanes ? from : lane], sizeof other);
        memcpy(warp.taken[lane], &other.value, sizeof(Value));
    }
}

template <typename Value>
inline Value exchanged(Value value, int argument, void (*operation)(Warp &)) {
    const Exchange<Value> given{value, argument};
    Value taken;
    block.together(&given, sizeof given, &taken, sizeof taken, operation);
    return taken;
}

template <typename Value>
inline Value shuffleXor(Value value, int mask) {
    return exchanged(value, mask, [](Warp &warp) {
        exchange<Value>(warp, [](int lane, int mask) { return lane ^ mask; });
    });
}

template <typename Value>
inline Value shuffleUp(Value value, int distance) {
    return exchanged(value, distance, [](Warp &warp) {
        exchange<Value>(warp, [](int lane, int distance) { return lane - distance; });
    });
}

template <typename Value>
inline Value shuffleFrom(Value value, int lane) {
    return exchanged(value, lane, [](Warp &warp) {
        exchange<Value>(warp, [](int, int source) { return source & 31; });
    });
}

inline uint32_t ballot(bool condition) {
    uint32_t taken;
    block.together(&condition, sizeof condition, &taken, sizeof taken, [](Warp &warp) {
        uint32_t word = 0;
        for (int lane = 0; lane < Warp::lanes; lane++) word |= static_cast<uint32_t>(warp.given[lane][0] & 1) << lane;
        for (int lane = 0; lane < Warp::lanes; lane++) memcpy(warp.taken[lane], &word, sizeof word);
    });
    return taken;
}

struct Fragments {
    float d[4];
    uint32_t a[4];
    uint32_t b[2];
};

inline float halfOf(uint32_t word, int half) {
    const uint32_t bits = half ? word & 0xffff0000u : word << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

inline void multiplyAddTogether(Warp &warp) {
    float left[16][16], right[16][8], sums[16][8];
    for (int lane = 0; lane < Warp::lanes; lane++) {
        Fragments own;
        memcpy(&own, warp.given[lane], sizeof own);
        const int group = lane >> 2, quad = lane & 3;
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < 2; i++)
                left[group + (r & 1) * 8][quad * 2 + i + (r >> 1) * 8] = halfOf(own.a[r], i);
        for (int r = 0; r < 2; r++)
            for (int i = 0; i < 2; i++) right[quad * 2 + i + r * 8][group] = halfOf(own.b[r], i);
        for (int c = 0; c < 4; c++) sums[group + (c >> 1) * 8][quad * 2 + (c & 1)] = own.d[c];
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) sums[row][column] += left[row][k] * right[k][column];
    for (int lane = 0; lane < Warp::lanes; lane++) {
        float d[4];
        for (int c = 0; c < 4; c++) d[c] = sums[(lane >> 2) + (c >> 1) * 8][(lane & 3) * 2 + (c & 1)];
        memcpy(warp.taken[lane], d, sizeof d);
    }
}

inline void multiplyAdd(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    Fragments given;
    memcpy(given.d, d, sizeof given.d);
    memcpy(given.a, a, sizeof given.a);
    memcpy(given.b, b, sizeof given.b);
    block.together(&given, sizeof given, d, sizeof d, multiplyAddTogether);
}

inline uint32_t transpose8x8(uint32_t value) {
    uint32_t taken;
    block.together(&value, sizeof value, &taken, sizeof taken, [](Warp &warp) {
        uint16_t matrix[8][8];
        for (int lane = 0; lane < Warp::lanes; lane++)
            memcpy(&matrix[lane >> 2][(lane & 3) * 2], warp.given[lane], 4);
        for (int lane = 0; lane < Warp::lanes; lane++) {
            const uint16_t pair[2] = {matrix[(lane & 3) * 2][lane >> 2], matrix[(lane & 3) * 2 + 1][lane >> 2]};
            memcpy(warp.taken[lane], pair, sizeof pair);
        }
    });
    return taken;
}

template <bool isTransposed>
inline void loadMatrices(uint32_t (&result)[4], const void *row) {
    block.together(&row, sizeof row, result, sizeof result, [](Warp &warp) {
        for (int matrix = 0; matrix < 4; matrix++)
            for (int lane = 0; lane < Warp::lanes; lane++) {
                uint16_t pair[2];
                for (int i = 0; i < 2; i++) {
                    const int r = isTransposed ? (lane & 3) * 2 + i : lane >> 2;
                    const int column = isTransposed ? lane >> 2 : (lane & 3) * 2 + i;
                    const uint16_t *start;
                    memcpy(&start, warp.given[matrix * 8 + r], sizeof start);
                    pair[i] = start[column];
                }
                memcpy(warp.taken[lane] + matrix * 4, pair, sizeof pair);
            }
    });
}

}  // namespace emulator
