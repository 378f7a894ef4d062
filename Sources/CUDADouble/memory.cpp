// Tandem — Apache-2.0

// Device memory, page-locked host memory, copies and fills. Device memory is host memory that ends at a page nobody may
// touch, and holds garbage (bfloat16 and float NaN) at first.

#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.hpp"

namespace cuda_double {

std::map<uint64_t, Range> &device_ranges() {
    static auto *ranges = new std::map<uint64_t, Range>;
    return *ranges;
}

std::mutex &memory_mutex() {
    static auto *mutex = new std::mutex;
    return *mutex;
}

bool take_memory(size_t bytes) {
    if (bytes > settings().memory_bytes) return false;
    int64_t limit = int64_t(settings().memory_bytes);
    if (counters().memory.fetch_add(int64_t(bytes)) + int64_t(bytes) <= limit) return true;
    counters().memory -= int64_t(bytes);
    return false;
}

void give_memory(size_t bytes) { counters().memory -= int64_t(bytes); }

bool map_garbage(void *address, size_t bytes) {
    if (bytes < granularity) {
        memset(address, garbage, bytes);
        return true;
    }
    // Private mappings of one file of garbage: pages are copied when they are written to.
    static const int file = [] {
        int descriptor = memfd_create("cuda-double-garbage", MFD_CLOEXEC);
        std::vector<uint8_t> content(granularity, garbage);
        return descriptor >= 0 && write(descriptor, content.data(), content.size()) == ssize_t(content.size())
                   ? descriptor
                   : -1;
    }();
    if (file < 0) return false;
    auto *start = static_cast<uint8_t *>(address);
    for (size_t offset = 0; offset < bytes; offset += granularity) {
        size_t count = bytes - offset < granularity ? bytes - offset : granularity;
        void *place = mmap(start + offset, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0);
        if (place == MAP_FAILED) return false;
    }
    return true;
}

bool is_device_range(uint64_t address, size_t count, bool writes) {
    std::lock_guard lock(memory_mutex());
    auto &ranges = device_ranges();
    // Neighbouring pieces of virtual memory count as one.
    while (count > 0) {
        auto after = ranges.upper_bound(address);
        if (after == ranges.begin()) return false;
        auto &[start, range] = *std::prev(after);
        if (address >= start + range.size || (writes ? !range.is_writable : !range.is_readable)) return false;
        size_t here = start + range.size - address;
        if (here >= count) return true;
        address += here;
        count -= here;
    }
    return true;
}

namespace {
struct Allocation {
    /// Pages, and the first of those that nobody may touch.
    uint8_t *pages = nullptr;
    size_t page_bytes = 0, size = 0;
    /// The file behind it once it has been shared; else -1.
    int file = -1;
};

std::map<uint64_t, Allocation> &allocations() {
    static auto *map = new std::map<uint64_t, Allocation>;
    return *map;
}

std::map<uintptr_t, size_t> &pinned() {
    static auto *map = new std::map<uintptr_t, size_t>;
    return *map;
}

/// What `cuIpcMemHandle` holds.
struct ForeignHandle {
    uint64_t mark;
    /// Where the owner keeps its allocations: tells doubles in one process apart.
    uint64_t owner;
    int32_t process, file;
    uint64_t size, page_bytes, offset;
};
constexpr uint64_t foreign_mark = 0x7461'6e64'656d'6970;

struct Foreign {
    void *pages;
    size_t bytes;
};
std::map<uint64_t, Foreign> &foreign() {
    static auto *map = new std::map<uint64_t, Foreign>;
    return *map;
}
}  // namespace

bool is_pinned(const void *address) {
    std::lock_guard lock(memory_mutex());
    auto after = pinned().upper_bound(uintptr_t(address));
    if (after == pinned().begin()) return false;
    auto &[start, size] = *std::prev(after);
    return uintptr_t(address) < start + size;
}

/// A fault of the device: the context ends, and standard error says where.
static int fault(const char *what, uint64_t address, size_t count) {
    complain("%s of %zu bytes at %#llx leaves the allocation", what, count, (unsigned long long)address);
    return illegal_address;
}

}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int cuMemAlloc_v2(uint64_t *address, size_t size) {
    if (int status = ready()) return status;
    if (int status = refuse_in_capture()) return status;
    if (size == 0) return invalid_value;
    if (int code = planned_fault("allocate")) return code;
    // Memory is handed out in units of 512 bytes.
    if (!take_memory(rounded(size, 512))) return out_of_memory;
    Allocation allocation;
    size_t extent = rounded(size, 256);
    allocation.size = size;
    allocation.page_bytes = rounded(extent, page);
    void *pages = mmap(nullptr, allocation.page_bytes + page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED || !map_garbage(pages, allocation.page_bytes)) {
        give_memory(rounded(size, 512));
        return out_of_memory;
    }
    allocation.pages = static_cast<uint8_t *>(pages);
    mprotect(allocation.pages + allocation.page_bytes, page, PROT_NONE);
    *address = uint64_t(allocation.pages + allocation.page_bytes - extent);
    counters().objects++;
    std::lock_guard lock(memory_mutex());
    allocations()[*address] = allocation;
    device_ranges()[*address] = Range{size};
    return success;
}

EXPORTED int cuMemFree_v2(uint64_t address) {
    if (address == 0) return success;
    if (int status = ready()) return status;
    if (int status = refuse_in_capture()) return status;
    // As the driver does: what uses it ends first.
    if (int status = synchronize_all()) return status;
    Allocation allocation;
    {
        std::lock_guard lock(memory_mutex());
        auto found = allocations().find(address);
        if (found == allocations().end()) return invalid_value;
        allocation = found->second;
        allocations().erase(found);
        device_ranges().erase(address);
    }
    auto *end = reinterpret_cast<uint8_t *>(address) + allocation.size;
    bool is_clean = true;
    for (auto *p = end; p < allocation.pages + allocation.page_bytes; p++) is_clean &= *p == garbage;
    munmap(allocation.pages, allocation.page_bytes + page);
    if (allocation.file >= 0) close(allocation.file);
    give_memory(rounded(allocation.size, 512));
    counters().objects--;
    if (is_clean) return success;
    complain("something wrote behind the %zu bytes at %#llx", allocation.size, (unsigned long long)address);
    set_sticky_error(illegal_address);
    return illegal_address;
}

EXPORTED int cuMemGetInfo_v2(size_t *free, size_t *total) {
    if (int status = ready()) return status;
    *total = settings().memory_bytes;
    int64_t used = counters().memory;
    *free = used < int64_t(*total) ? *total - size_t(used) : 0;
    return success;
}

EXPORTED int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    if (int status = ready()) return status;
    if (int status = refuse_in_capture()) return status;
    if (size == 0 || flags > 7) return invalid_value;
    if (int code = planned_fault("pin")) return code;
    void *pages = mmap(nullptr, rounded(size, page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return out_of_memory;
    map_garbage(pages, rounded(size, page));
    counters().objects++;
    std::lock_guard lock(memory_mutex());
    pinned()[uintptr_t(pages)] = size;
    *address = pages;
    return success;
}

EXPORTED int cuMemFreeHost(void *address) {
    if (int status = ready()) return status;
    if (int status = refuse_in_capture()) return status;
    if (int status = synchronize_all()) return status;
    std::lock_guard lock(memory_mutex());
    auto found = pinned().find(uintptr_t(address));
    if (found == pinned().end()) return invalid_value;
    munmap(address, rounded(found->second, page));
    pinned().erase(found);
    counters().objects--;
    return success;
}

// MARK: Copies and fills

/// Puts a copy or fill into a stream. A fault planned for it is seen when it runs.
static int submit_copy(uint64_t handle, std::function<int()> body) {
    auto target = stream(handle);
    if (!target) return invalid_handle;
    int code = planned_fault("copy");
    if (code && !loses_context(code)) return code;
    return submit(*target, [body = std::move(body), code] {
        counters().copies++;
        return code ? code : body();
    });
}

EXPORTED int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t count, uint64_t stream) {
    if (int status = ready()) return status;
    if (count == 0) return success;
    if (!from) return invalid_value;
    auto copy = [=](const void *source) {
        if (!is_device_range(to, count, true)) return fault("a copy", to, count);
        memcpy(reinterpret_cast<void *>(to), source, count);
        return int(success);
    };
    // Page-locked memory is read when the copy runs; other memory is taken along now, as the driver does.
    if (is_pinned(from)) return submit_copy(stream, [=] { return copy(from); });
    auto bytes = static_cast<const uint8_t *>(from);
    auto taken = std::make_shared<std::vector<uint8_t>>(bytes, bytes + count);
    return submit_copy(stream, [=] { return copy(taken->data()); });
}

EXPORTED int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t count, uint64_t handle) {
    if (int status = ready()) return status;
    if (count == 0) return success;
    if (!to) return invalid_value;
    int status = submit_copy(handle, [=] {
        if (!is_device_range(from, count, false)) return fault("a copy", from, count);
        memcpy(to, reinterpret_cast<const void *>(from), count);
        return int(success);
    });
    if (status || is_pinned(to)) return status;
    // Other memory is there when the call returns.
    auto target = stream(handle);
    {
        std::lock_guard lock(capture_mutex());
        if (target->capture) return success;
    }
    target->wait(target->submitted());
    return sticky_error();
}

EXPORTED int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t count, uint64_t stream) {
    if (int status = ready()) return status;
    if (count == 0) return success;
    return submit_copy(stream, [=] {
        if (!is_device_range(from, count, false)) return fault("a copy", from, count);
        if (!is_device_range(to, count, true)) return fault("a copy", to, count);
        if (from < to + count && to < from + count) complain("a copy's two ranges overlap");
        memmove(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), count);
        return int(success);
    });
}

EXPORTED int cuMemsetD8Async(uint64_t to, uint8_t value, size_t count, uint64_t stream) {
    if (int status = ready()) return status;
    if (count == 0) return success;
    return submit_copy(stream, [=] {
        if (!is_device_range(to, count, true)) return fault("a fill", to, count);
        memset(reinterpret_cast<void *>(to), value, count);
        return int(success);
    });
}

EXPORTED int cuMemsetD32Async(uint64_t to, uint32_t value, size_t count, uint64_t stream) {
    if (int status = ready()) return status;
    if (count == 0) return success;
    if (to % 4) return invalid_value;
    return submit_copy(stream, [=] {
        if (!is_device_range(to, count * 4, true)) return fault("a fill", to, count * 4);
        auto *words = reinterpret_cast<uint32_t *>(to);
        for (size_t i = 0; i < count; i++) words[i] = value;
        return int(success);
    });
}

// MARK: Memory of other processes

struct IPCHandle {
    uint8_t bytes[64];
};

EXPORTED int cuIpcGetMemHandle(IPCHandle *handle, uint64_t address) {
    if (int status = ready()) return status;
    if (int code = planned_fault("export")) return code;
    if (int status = synchronize_all()) return status;
    std::lock_guard lock(memory_mutex());
    auto found = allocations().find(address);
    if (found == allocations().end()) return invalid_value;
    Allocation &allocation = found->second;
    if (allocation.file < 0) {
        // From now on a file is behind the pages.
        int file = memfd_create("cuda-double-shared", MFD_CLOEXEC);
        size_t written = 0;
        while (file >= 0 && written < allocation.page_bytes) {
            ssize_t count = write(file, allocation.pages + written, allocation.page_bytes - written);
            if (count <= 0) break;
            written += size_t(count);
        }
        if (file < 0 || written < allocation.page_bytes) return out_of_memory;
        void *pages = mmap(allocation.pages, allocation.page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                           file, 0);
        if (pages == MAP_FAILED) return out_of_memory;
        allocation.file = file;
    }
    ForeignHandle content{foreign_mark,
                          uint64_t(&allocations()),
                          getpid(),
                          allocation.file,
                          allocation.size,
                          allocation.page_bytes,
                          address - uint64_t(allocation.pages)};
    memset(handle, 0, sizeof *handle);
    memcpy(handle, &content, sizeof content);
    return success;
}

EXPORTED int cuIpcOpenMemHandle_v2(uint64_t *address, IPCHandle handle, unsigned flags) {
    if (int status = ready()) return status;
    if (flags != 1) return invalid_value;
    ForeignHandle content;
    memcpy(&content, &handle, sizeof content);
    if (content.mark != foreign_mark) return invalid_value;
    // A process cannot open what is its own.
    if (content.process == getpid() && content.owner == uint64_t(&allocations())) return invalid_context;
    std::string path = "/proc/" + std::to_string(content.process) + "/fd/" + std::to_string(content.file);
    int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (file < 0) return invalid_handle;
    void *pages = mmap(nullptr, content.page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (pages == MAP_FAILED) return out_of_memory;
    *address = uint64_t(pages) + content.offset;
    counters().objects++;
    std::lock_guard lock(memory_mutex());
    foreign()[*address] = Foreign{pages, content.page_bytes};
    device_ranges()[*address] = Range{content.size};
    return success;
}

EXPORTED int cuIpcCloseMemHandle(uint64_t address) {
    if (int status = ready()) return status;
    if (int status = synchronize_all()) return status;
    std::lock_guard lock(memory_mutex());
    auto found = foreign().find(address);
    if (found == foreign().end()) return invalid_value;
    munmap(found->second.pages, found->second.bytes);
    foreign().erase(found);
    device_ranges().erase(address);
    counters().objects--;
    return success;
}
