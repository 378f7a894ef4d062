// Tandem — Apache-2.0

// Ranges of addresses as the device sees them.

#pragma once

#include "double.hpp"

namespace cuda_double {

struct Range {
    size_t size = 0;
    bool is_readable = true, is_writable = true;
};

/// What is mapped where. Guarded by `memory_mutex()`.
std::map<uint64_t, Range> &device_ranges();
std::mutex &memory_mutex();

/// Reserves that many bytes of device memory against the limit; false if there are not enough.
bool take_memory(size_t bytes);
void give_memory(size_t bytes);

constexpr size_t page = 4096;
/// Multiples of virtual memory's pieces.
constexpr size_t granularity = size_t(2) << 20;
constexpr uint8_t garbage = 0xff;

inline size_t rounded(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

/// Fills whole pages with garbage: large areas take memory only once they are written to.
bool map_garbage(void *address, size_t bytes);

}  // namespace cuda_double
