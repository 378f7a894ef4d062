// Tandem — Apache-2.0

// Streams and events. Work of a stream runs in order on a thread of its own; nothing orders two streams but events.

#include <chrono>
#include <ctime>
#include <sys/resource.h>

#include "double.hpp"

namespace cuda_double {

int64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return int64_t(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

// MARK: Queues

uint64_t Stream::submit(Work work) {
    std::lock_guard lock(mutex);
    if (!thread.joinable()) thread = std::thread([this] { run(); });
    queue.push_back(std::move(work));
    submitted_count++;
    if (!settings().is_lazy) permitted_count = submitted_count;
    changed.notify_all();
    return submitted_count;
}

/// Sees to what work came to.
static void end_context(int code) {
    if (code != never_ends) return set_sticky_error(code);
    // Until the process ends, or a fault of another client does.
    while (group_error() == success) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void Stream::run() {
    // A GPU's work takes no processor from the program.
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 5);
    std::unique_lock lock(mutex);
    while (true) {
        changed.wait(lock, [this] { return ends || done_count < permitted_count; });
        if (queue.empty()) return;
        {
            Work work = std::move(queue.front());
            queue.pop_front();
            lock.unlock();
            // After an error nothing runs any more.
            if (sticky_error() == success) {
                if (int code = work()) end_context(code);
            }
        }
        lock.lock();
        done_count++;
        changed.notify_all();
    }
}

void Stream::permit(uint64_t number) {
    std::lock_guard lock(mutex);
    if (permitted_count < number) permitted_count = number;
    changed.notify_all();
}

void Stream::wait(uint64_t number) {
    std::unique_lock lock(mutex);
    if (permitted_count < number) permitted_count = number;
    changed.notify_all();
    changed.wait(lock, [&] { return done_count >= number; });
}

uint64_t Stream::submitted() {
    std::lock_guard lock(mutex);
    return submitted_count;
}

bool Stream::is_done(uint64_t number) {
    std::lock_guard lock(mutex);
    return done_count >= number;
}

Stream::~Stream() {
    {
        std::lock_guard lock(mutex);
        ends = true;
        permitted_count = submitted_count;
        changed.notify_all();
    }
    if (thread.joinable()) thread.join();
}

namespace {
Handles<Stream> &streams() {
    static auto *handles = new Handles<Stream>(2);
    return *handles;
}

Handles<Event> &events() {
    static auto *handles = new Handles<Event>(3);
    return *handles;
}

std::shared_ptr<Stream> &default_stream() {
    static auto *stream = new std::shared_ptr<Stream>(std::make_shared<Stream>(0));
    return *stream;
}
}  // namespace

uint64_t add_stream(int priority) { return streams().add(std::make_shared<Stream>(priority)); }

std::shared_ptr<Stream> stream(uint64_t handle) { return handle == 0 ? default_stream() : streams().find(handle); }

static std::vector<std::shared_ptr<Stream>> all_streams() {
    auto list = streams().all();
    list.push_back(default_stream());
    return list;
}

int synchronize_all() {
    for (auto &stream : all_streams()) stream->wait(stream->submitted());
    return sticky_error();
}

int submit(Stream &stream, Work work, EarlyWork early) {
    {
        std::lock_guard lock(capture_mutex());
        if (auto &graph = stream.capture) {
            if (graph->is_spoiled) return capture_invalidated;
            graph->nodes.push_back({std::move(work), std::move(early)});
            if (&stream != graph->origin) graph->forked.insert(&stream);
            return success;
        }
    }
    stream.submit(std::move(work));
    return success;
}

// MARK: Capture

std::mutex &capture_mutex() {
    static auto *mutex = new std::mutex;
    return *mutex;
}

std::shared_ptr<Graph> &capture_of_thread() {
    static thread_local std::shared_ptr<Graph> graph;
    return graph;
}

int refuse_in_capture() {
    auto graph = capture_of_thread();
    if (!graph) return success;
    std::lock_guard lock(capture_mutex());
    graph->is_spoiled = true;
    return capture_unsupported;
}

/// As `refuse_in_capture`, for a call that concerns one stream.
static int refuse_in_capture(Stream &stream) {
    std::lock_guard lock(capture_mutex());
    if (!stream.capture) return success;
    stream.capture->is_spoiled = true;
    return capture_unsupported;
}

static bool has_captured(Event &event) {
    std::lock_guard lock(capture_mutex());
    return event.captured_in != nullptr;
}

/// What waiting for an event means while one of the two streams is captured; no value if neither is.
static std::optional<int> wait_in_capture(Stream &stream, Event &event) {
    std::lock_guard lock(capture_mutex());
    auto graph = event.capture.lock();
    if (!stream.capture && !event.captured_in) return std::nullopt;
    if (!event.captured_in) {
        // Work outside of the capture would have to end first.
        stream.capture->is_spoiled = true;
        return 905;
    }
    if (!graph || (stream.capture && stream.capture != graph)) return captured_event;
    if (!stream.capture) stream.capture = graph;
    graph->forked.erase(event.captured_in);
    return success;
}

}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int cuStreamCreateWithPriority(uint64_t *handle, unsigned flags, int priority) {
    if (int status = ready()) return status;
    if (flags > 1) return invalid_value;
    *handle = add_stream(priority);
    return success;
}

EXPORTED int cuStreamDestroy_v2(uint64_t handle) {
    auto target = streams().find(handle);
    if (!target) return invalid_handle;
    if (int status = refuse_in_capture(*target)) return status;
    // What was put in still runs; the driver would not wait for it here.
    target->wait(target->submitted());
    streams().remove(handle);
    return sticky_error();
}

EXPORTED int cuStreamSynchronize(uint64_t handle) {
    if (int status = ready()) return status;
    auto target = stream(handle);
    if (!target) return invalid_handle;
    if (int status = refuse_in_capture(*target)) return status;
    target->wait(target->submitted());
    return sticky_error();
}

EXPORTED int cuStreamQuery(uint64_t handle) {
    if (int status = ready()) return status;
    auto target = stream(handle);
    if (!target) return invalid_handle;
    if (int status = refuse_in_capture(*target)) return status;
    uint64_t number = target->submitted();
    if (!target->is_done(number)) {
        target->permit(number);
        return not_ready;
    }
    return sticky_error();
}

EXPORTED int cuStreamWaitEvent(uint64_t handle, uint64_t event_handle, unsigned flags) {
    if (int status = ready()) return status;
    auto target = stream(handle);
    auto event = events().find(event_handle);
    if (!target || !event || flags > 1) return invalid_handle;
    if (auto status = wait_in_capture(*target, *event)) return *status;
    std::shared_ptr<Stream> other;
    uint64_t number;
    {
        std::lock_guard lock(event->mutex);
        other = event->stream;
        number = event->number;
    }
    if (!other || other == target) return success;
    return submit(*target, [other, number] {
        other->wait(number);
        return int(success);
    });
}

EXPORTED int cuEventCreate(uint64_t *handle, unsigned flags) {
    if (int status = ready()) return status;
    if (flags > 7) return invalid_value;
    auto event = std::make_shared<Event>();
    event->measures_time = !(flags & 2);
    *handle = events().add(event);
    return success;
}

EXPORTED int cuEventDestroy_v2(uint64_t handle) {
    return events().remove(handle) ? sticky_error() : int(invalid_handle);
}

EXPORTED int cuEventRecord(uint64_t event_handle, uint64_t stream_handle) {
    if (int status = ready()) return status;
    auto target = stream(stream_handle);
    auto event = events().find(event_handle);
    if (!target || !event) return invalid_handle;
    {
        std::lock_guard lock(capture_mutex());
        if (target->capture) {
            if (target->capture->is_spoiled) return capture_invalidated;
            event->capture = target->capture;
            event->captured_in = target.get();
            return success;
        }
        event->capture.reset();
        event->captured_in = nullptr;
    }
    auto reached = std::make_shared<std::atomic<int64_t>>(0);
    std::lock_guard lock(event->mutex);
    event->number = target->submit([reached] {
        reached->store(now());
        return int(success);
    });
    event->stream = target;
    event->reached = reached;
    return success;
}

EXPORTED int cuEventQuery(uint64_t handle) {
    if (int status = ready()) return status;
    auto event = events().find(handle);
    if (!event) return invalid_handle;
    if (has_captured(*event)) return captured_event;
    std::lock_guard lock(event->mutex);
    if (event->stream && !event->stream->is_done(event->number)) {
        event->stream->permit(event->number);
        return not_ready;
    }
    return sticky_error();
}

EXPORTED int cuEventSynchronize(uint64_t handle) {
    if (int status = ready()) return status;
    auto event = events().find(handle);
    if (!event) return invalid_handle;
    if (has_captured(*event)) return captured_event;
    std::shared_ptr<Stream> target;
    uint64_t number;
    {
        std::lock_guard lock(event->mutex);
        target = event->stream;
        number = event->number;
    }
    if (target) target->wait(number);
    return sticky_error();
}

EXPORTED int cuEventElapsedTime(float *milliseconds, uint64_t begin_handle, uint64_t end_handle) {
    if (int status = ready()) return status;
    auto begin = events().find(begin_handle), end = events().find(end_handle);
    if (!begin || !end || !begin->measures_time || !end->measures_time) return invalid_handle;
    int64_t times[2];
    for (int i = 0; i < 2; i++) {
        auto &event = i == 0 ? begin : end;
        std::lock_guard lock(event->mutex);
        if (!event->stream) return invalid_handle;
        if (!event->stream->is_done(event->number)) return not_ready;
        times[i] = event->reached->load();
    }
    *milliseconds = float(times[1] - times[0]) * 1e-6f;
    return success;
}

EXPORTED int cuStreamBeginCapture_v2(uint64_t handle, int mode) {
    if (int status = ready()) return status;
    auto target = streams().find(handle);
    // The default stream cannot be captured.
    if (!target) return handle == 0 ? capture_unsupported : invalid_handle;
    if (mode < 0 || mode > 2) return invalid_value;
    std::lock_guard lock(capture_mutex());
    if (target->capture) return illegal_state;
    target->capture = std::make_shared<Graph>();
    target->capture->origin = target.get();
    target->capture->thread = std::this_thread::get_id();
    // 2: relaxed: everything is permitted.
    if (mode != 2) capture_of_thread() = target->capture;
    return success;
}

namespace cuda_double {
uint64_t add_graph(std::shared_ptr<Graph> graph);
}

EXPORTED int cuStreamEndCapture(uint64_t handle, uint64_t *graph_handle) {
    *graph_handle = 0;
    auto target = streams().find(handle);
    if (!target) return invalid_handle;
    std::lock_guard lock(capture_mutex());
    auto graph = target->capture;
    if (!graph) return illegal_state;
    if (graph->origin != target.get()) return capture_unmatched;
    if (graph->thread != std::this_thread::get_id()) return capture_wrong_thread;
    for (auto &other : all_streams()) {
        if (other->capture == graph) other->capture = nullptr;
    }
    capture_of_thread() = nullptr;
    if (graph->is_spoiled) return capture_invalidated;
    if (!graph->forked.empty()) return capture_unjoined;
    if (int error = sticky_error()) return error;
    graph->origin = nullptr;
    *graph_handle = add_graph(graph);
    return success;
}
