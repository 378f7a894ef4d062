// Tandem — Apache-2.0

// What the files of the double share.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "include/CUDADouble.h"

/// Functions that a program finds by name.
#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace cuda_double {

/// Numbers of `CUresult`.
enum Status : int {
    success = 0,
    invalid_value = 1,
    out_of_memory = 2,
    not_initialized = 3,
    invalid_device = 101,
    invalid_image = 200,
    invalid_context = 201,
    no_binary_for_device = 209,
    invalid_handle = 400,
    illegal_state = 401,
    not_found = 500,
    not_ready = 600,
    illegal_address = 700,
    not_supported = 801,
    capture_unsupported = 900,
    capture_invalidated = 901,
    capture_unmatched = 903,
    capture_unjoined = 904,
    captured_event = 907,
    capture_wrong_thread = 908,
    /// No number of the driver's: work that is never done.
    never_ends = -1,
};

// MARK: Settings

struct Settings {
    std::string name = "Tandem double of an H100";
    uint8_t uuid[16] = {0x74, 0x61, 0x6e, 0x64, 0x65, 0x6d, 0x00, 0x00, 0x80, 0x00, 0, 0, 0, 0, 0, 0};
    int devices = 1;
    int capability_major = 9, capability_minor = 0;
    int multiprocessors = 132;
    size_t memory_bytes = size_t(1) << 30;
    int driver_version = 13000;
    bool uses_mps = false, has_virtual_memory = true, has_descriptors = true, has_green_contexts = true;
    bool is_lazy = false;
    std::string fault_file, group;
};

/// Read from the environment when it is first asked for.
const Settings &settings();

// MARK: Faults

/// Faults that a call can have: those that are seen later, which end the context, or those that it returns itself.
enum class Seen { anytime, later, at_once };
/// Whether the next call of that kind is to fail, and how; `success` if it is not.
int planned_fault(const char *what, Seen seen = Seen::anytime);
/// The error that ended the context, as all later calls return it; `success` as long as there is none.
int sticky_error();
void set_sticky_error(int code);
/// Becomes a client of the MPS server that the group shares; 807 while clients of a fault are left.
int join_group();
/// The fault of another client.
int group_error();
void tell_group(int code);
/// Whether a code ends the context, or the stream's work.
bool loses_context(int code);
/// Says on standard error what a GPU would not say.
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// MARK: Images

/// Follows the header of an image that the double's compiler made; then the architecture.
inline constexpr char image_mark[] = "tandem-cuda-double";

// MARK: Devices and contexts

/// What every call checks first: initialized, a context current, and no sticky error.
int ready();

// MARK: Memory

/// Whether all bytes lie in one allocation (or mapping) that may be read or written.
bool is_device_range(uint64_t address, size_t count, bool writes);
/// Whether an address lies in page-locked host memory.
bool is_pinned(const void *address);
/// Refuses what a capture in the calling thread forbids, and spoils the capture.
int refuse_in_capture();

// MARK: Streams

struct Graph;
struct Event;

/// A piece of work. Returns the error that it ends the context with, or `success`.
using Work = std::function<int()>;

/// Work that may start before the work before it has ended: it gets what is left of that, and runs it once.
using EarlyWork = std::function<int(const Work &)>;

/// A queue whose work a thread of its own runs in order.
struct Stream {
    explicit Stream(int priority) : priority(priority) {}
    ~Stream();

    const int priority;
    /// The graph that takes the work in place of the queue; guarded by `capture_mutex()`.
    std::shared_ptr<Graph> capture;

    /// Adds work; its number is returned.
    uint64_t submit(Work work);
    /// Lets all work up to that number run.
    void permit(uint64_t number);
    /// Waits until it has run.
    void wait(uint64_t number);
    uint64_t submitted();
    bool is_done(uint64_t number);

private:
    void run();
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Work> queue;
    uint64_t submitted_count = 0, permitted_count = 0, done_count = 0;
    bool ends = false;
    std::thread thread;
};

/// What a capture took in. `early` is null for a node that starts when the one before it has ended.
struct Node {
    Work work;
    EarlyWork early;
};

/// Nodes in the order in which they were captured, which keeps every dependency.
struct Graph {
    std::vector<Node> nodes;
    /// The stream that began; the thread it began in; whether something forbidden was called.
    Stream *origin = nullptr;
    std::thread::id thread;
    bool is_spoiled = false;
    /// Streams that were drawn in by an event and have not come back.
    std::set<Stream *> forked;
};

struct Event {
    bool measures_time = false;
    std::mutex mutex;
    /// Where it was recorded last; a null stream means never, and reached.
    std::shared_ptr<Stream> stream;
    uint64_t number = 0;
    /// Host time at which it was reached, in nanoseconds.
    std::shared_ptr<std::atomic<int64_t>> reached;
    /// The capture in which it was recorded last.
    std::weak_ptr<Graph> capture;
    Stream *captured_in = nullptr;
};

std::mutex &capture_mutex();
/// The capture that the calling thread began, if any.
std::shared_ptr<Graph> &capture_of_thread();

/// Makes a stream; its handle is returned.
uint64_t add_stream(int priority);
/// The stream behind a handle; null if there is none of that name. Handle 0 is a stream like any other.
std::shared_ptr<Stream> stream(uint64_t handle);
/// Adds work to a stream, or to the graph that captures it.
///
/// `early` is the same work for a start before the node before it has ended, which only graphs make use of: in a stream the
/// double's kernels run one after the other, which is permitted.
int submit(Stream &stream, Work work, EarlyWork early = nullptr);
/// Waits for everything. Returns the sticky error.
int synchronize_all();
int64_t now();

// MARK: Counters

struct Counters {
    std::atomic<int64_t> kernels{0}, copies{0}, products{0}, objects{0}, memory{0};
};
Counters &counters();

/// Handles of one kind: numbers that are never used twice, so that a stale one is noticed.
template <class Object> class Handles {
public:
    /// Each kind begins elsewhere, so that a handle of another kind is not found by chance.
    explicit Handles(uint64_t kind) : next(kind << 32) {}

    uint64_t add(std::shared_ptr<Object> object) {
        std::lock_guard lock(mutex);
        next += 16;
        objects[next] = std::move(object);
        counters().objects++;
        return next;
    }

    std::shared_ptr<Object> find(uint64_t handle) {
        std::lock_guard lock(mutex);
        auto found = objects.find(handle);
        return found == objects.end() ? nullptr : found->second;
    }

    std::shared_ptr<Object> remove(uint64_t handle) {
        std::lock_guard lock(mutex);
        auto found = objects.find(handle);
        if (found == objects.end()) return nullptr;
        auto object = std::move(found->second);
        objects.erase(found);
        counters().objects--;
        return object;
    }

    std::vector<std::shared_ptr<Object>> all() {
        std::lock_guard lock(mutex);
        std::vector<std::shared_ptr<Object>> list;
        for (auto &entry : objects) list.push_back(entry.second);
        return list;
    }

private:
    std::mutex mutex;
    std::map<uint64_t, std::shared_ptr<Object>> objects;
    uint64_t next;
};

}  // namespace cuda_double
