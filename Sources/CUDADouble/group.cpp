// Tandem — Apache-2.0

// Processes that share an MPS server, and so its faults: a file that all of them map. Who is there holds a lock on it,
// which ends with the process.

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "double.hpp"

namespace cuda_double {
namespace {
/// The error that the server ended all its clients with, in the file; null without a group.
std::atomic<std::atomic<int> *> shared_error{nullptr};
std::mutex joining;
}  // namespace

int join_group() {
    const std::string &path = settings().group;
    std::lock_guard lock(joining);
    if (path.empty() || shared_error.load()) return success;
    int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, 4096) != 0) {
        complain("%s: %s", path.c_str(), strerror(errno));
        if (file >= 0) close(file);
        return 805;
    }
    void *memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
        close(file);
        return 805;
    }
    auto *error = static_cast<std::atomic<int> *>(memory);
    // Alone: the server has recovered from whatever there was.
    if (flock(file, LOCK_EX | LOCK_NB) == 0) error->store(success);
    if (error->load() != success) {
        munmap(memory, 4096);
        close(file);
        return 807;
    }
    flock(file, LOCK_SH);
    // The descriptor stays open, and the lock held, as long as the process lives.
    shared_error.store(error);
    return success;
}

int group_error() {
    auto *error = shared_error.load(std::memory_order_acquire);
    return error ? error->load(std::memory_order_acquire) : int(success);
}

void tell_group(int code) {
    int none = 0;
    if (auto *error = shared_error.load()) error->compare_exchange_strong(none, code);
}

}  // namespace cuda_double
