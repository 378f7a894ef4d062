// Tandem — Apache-2.0

// Reserved addresses, physical memory behind them, and its file descriptors.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.hpp"

namespace cuda_double {
namespace {

/// The layouts of `CUmemAllocationProp` and `CUmemAccessDesc`.
struct Properties {
    int32_t type, handle_types, location_type, location;
    void *unused;
    uint8_t flags[8];
};
struct Access {
    int32_t location_type, location, flags;
};

/// Memory without an address. Shared memory is a file; other memory comes to be when it is mapped, once.
struct Physical {
    size_t size = 0;
    int file = -1;
    bool is_counted = true, is_mapped = false;

    ~Physical() {
        if (file >= 0) close(file);
        if (is_counted) give_memory(size);
    }
};

struct Mapping {
    size_t size;
    std::shared_ptr<Physical> physical;
};

Handles<Physical> &physicals() {
    static auto *handles = new Handles<Physical>(1);
    return *handles;
}

/// Both guarded by `memory_mutex()`.
std::map<uint64_t, size_t> &reservations() {
    static auto *map = new std::map<uint64_t, size_t>;
    return *map;
}
std::map<uint64_t, Mapping> &mappings() {
    static auto *map = new std::map<uint64_t, Mapping>;
    return *map;
}

bool is_reserved(uint64_t address, size_t size) {
    auto after = reservations().upper_bound(address);
    if (after == reservations().begin()) return false;
    auto &[start, bytes] = *std::prev(after);
    return address + size <= start + bytes;
}

/// Pages that nobody may touch.
bool map_nothing(uint64_t address, size_t size) {
    return mmap(reinterpret_cast<void *>(address), size, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

int available() {
    if (int status = ready()) return status;
    return settings().has_virtual_memory ? success : not_supported;
}

}  // namespace
}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int cuMemGetAllocationGranularity(size_t *bytes, const Properties *properties, int) {
    if (int status = available()) return status;
    if (properties->type != 1 || properties->location_type != 1) return invalid_value;
    *bytes = granularity;
    return success;
}

EXPORTED int cuMemAddressReserve(uint64_t *address, size_t size, size_t alignment, uint64_t, uint64_t flags) {
    if (int status = available()) return status;
    if (size == 0 || size % granularity || alignment % granularity || flags) return invalid_value;
    void *place = mmap(nullptr, size + granularity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED) return out_of_memory;
    uint64_t start = rounded(uint64_t(place), granularity);
    if (start > uint64_t(place)) munmap(place, start - uint64_t(place));
    if (uint64_t rest = uint64_t(place) + granularity - start) munmap(reinterpret_cast<void *>(start + size), rest);
    counters().objects++;
    std::lock_guard lock(memory_mutex());
    reservations()[start] = size;
    *address = start;
    return success;
}

EXPORTED int cuMemAddressFree(uint64_t address, size_t size) {
    if (int status = available()) return status;
    std::lock_guard lock(memory_mutex());
    auto found = reservations().find(address);
    if (found == reservations().end() || found->second != size) return invalid_value;
    auto mapped = mappings().lower_bound(address);
    if (mapped != mappings().end() && mapped->first < address + size) return invalid_value;
    munmap(reinterpret_cast<void *>(address), size);
    reservations().erase(found);
    counters().objects--;
    return success;
}

EXPORTED int cuMemCreate(uint64_t *handle, size_t size, const Properties *properties, uint64_t flags) {
    if (int status = available()) return status;
    if (int status = refuse_in_capture()) return status;
    if (size == 0 || size % granularity || properties->type != 1 || properties->location_type != 1 || flags)
        return invalid_value;
    if (properties->handle_types != 0 && properties->handle_types != 1) return not_supported;
    if (properties->handle_types == 1 && !settings().has_descriptors) return not_supported;
    if (int code = planned_fault("allocate")) return code;
    if (!take_memory(size)) return out_of_memory;
    auto physical = std::make_shared<Physical>();
    physical->size = size;
    if (properties->handle_types == 1) {
        physical->file = memfd_create("cuda-double-memory", MFD_CLOEXEC);
        std::vector<uint8_t> content(granularity, garbage);
        for (size_t done = 0; done < size; done += granularity) {
            if (physical->file < 0 || write(physical->file, content.data(), granularity) != ssize_t(granularity))
                return out_of_memory;
        }
    }
    *handle = physicals().add(physical);
    return success;
}

EXPORTED int cuMemRelease(uint64_t handle) {
    if (int status = available()) return status;
    // What is mapped keeps the memory.
    return physicals().remove(handle) ? success : invalid_value;
}

EXPORTED int cuMemMap(uint64_t address, size_t size, size_t offset, uint64_t handle, uint64_t flags) {
    if (int status = available()) return status;
    auto physical = physicals().find(handle);
    if (!physical || offset || flags || size != physical->size || address % granularity) return invalid_value;
    std::lock_guard lock(memory_mutex());
    if (!is_reserved(address, size)) return invalid_value;
    auto after = mappings().lower_bound(address);
    if (after != mappings().end() && after->first < address + size) return invalid_value;
    if (after != mappings().begin() && std::prev(after)->first + std::prev(after)->second.size > address)
        return invalid_value;
    auto *place = reinterpret_cast<void *>(address);
    if (physical->file >= 0) {
        void *pages = mmap(place, size, PROT_NONE, MAP_SHARED | MAP_FIXED, physical->file, 0);
        if (pages == MAP_FAILED) return out_of_memory;
    } else {
        if (physical->is_mapped) {
            complain("memory that is not to be shared is mapped twice, which this double cannot do");
            return not_supported;
        }
        if (!map_garbage(place, size) || mprotect(place, size, PROT_NONE) != 0) return out_of_memory;
    }
    physical->is_mapped = true;
    mappings()[address] = Mapping{size, physical};
    device_ranges()[address] = Range{size, false, false};
    return success;
}

EXPORTED int cuMemUnmap(uint64_t address, size_t size) {
    if (int status = available()) return status;
    if (int status = refuse_in_capture()) return status;
    std::lock_guard lock(memory_mutex());
    // Whole mappings only.
    uint64_t end = address + size;
    auto first = mappings().find(address), last = first;
    uint64_t position = address;
    while (last != mappings().end() && last->first == position && position < end) position += (last++)->second.size;
    if (first == mappings().end() || position != end) return invalid_value;
    for (auto mapping = first; mapping != last; mapping++) device_ranges().erase(mapping->first);
    mappings().erase(first, last);
    return map_nothing(address, size) ? success : out_of_memory;
}

EXPORTED int cuMemSetAccess(uint64_t address, size_t size, const Access *accesses, size_t count) {
    if (int status = available()) return status;
    if (count != 1 || accesses[0].location_type != 1) return invalid_value;
    int flags = accesses[0].flags;
    if (flags != 0 && flags != 1 && flags != 3) return invalid_value;
    std::lock_guard lock(memory_mutex());
    uint64_t position = address;
    for (auto mapping = mappings().find(address); position < address + size; mapping++) {
        if (mapping == mappings().end() || mapping->first != position) return invalid_value;
        position += mapping->second.size;
    }
    if (position != address + size) return invalid_value;
    int protection = flags == 3 ? PROT_READ | PROT_WRITE : flags == 1 ? PROT_READ : PROT_NONE;
    if (mprotect(reinterpret_cast<void *>(address), size, protection) != 0) return out_of_memory;
    for (auto range = device_ranges().find(address);
         range != device_ranges().end() && range->first < address + size; range++) {
        range->second.is_readable = flags & 1;
        range->second.is_writable = flags == 3;
    }
    return success;
}

EXPORTED int cuMemExportToShareableHandle(int32_t *descriptor, uint64_t handle, int type, uint64_t flags) {
    if (int status = available()) return status;
    if (int code = planned_fault("export")) return code;
    auto physical = physicals().find(handle);
    if (!physical || type != 1 || flags || physical->file < 0) return invalid_value;
    int copy = fcntl(physical->file, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return 304;
    *descriptor = copy;
    return success;
}

EXPORTED int cuMemImportFromShareableHandle(uint64_t *handle, void *descriptor, int type) {
    if (int status = available()) return status;
    if (type != 1) return invalid_value;
    int file = fcntl(int(intptr_t(descriptor)), F_DUPFD_CLOEXEC, 3);
    struct stat status;
    if (file < 0) return invalid_value;
    if (fstat(file, &status) != 0 || status.st_size == 0 || size_t(status.st_size) % granularity) {
        close(file);
        return invalid_value;
    }
    auto physical = std::make_shared<Physical>();
    physical->size = size_t(status.st_size);
    physical->file = file;
    physical->is_counted = false;
    *handle = physicals().add(physical);
    return success;
}
