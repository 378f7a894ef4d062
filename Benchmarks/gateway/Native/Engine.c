// Tandem — Apache-2.0
//
// An OpenAI server of few words: any GET gets a small object, any POST an answer or a stream as its body asks. All streams
// get a token a step; the first one comes at once.
#define _GNU_SOURCE
#include "Internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { INPUT_BYTES = 64 * 1024, ANSWER_BYTES = 1 << 20 };

typedef struct connection {
    int fd;
    uint32_t used;
    char *input;
    /// What the socket did not take.
    char *pending;
    uint32_t pending_count, pending_capacity;
    bool streams, blocked;
    uint64_t slot;
    uint32_t position, tokens;
    /// Among the streams of its engine.
    int place;
} connection;

typedef struct {
    int poll, listener, timer;
    uint64_t interval;
    connection **streams;
    int stream_count, stream_capacity;
    char *answer;
    uint32_t answer_count, answer_bytes;
} engine;

static void stop_stream(engine *self, connection *link) {
    if (link->place < 0) return;
    connection *last = self->streams[--self->stream_count];
    self->streams[link->place] = last;
    last->place = link->place;
    link->place = -1;
    link->streams = false;
}

static void drop(engine *self, connection *link) {
    stop_stream(self, link);
    close(link->fd);
    free(link->input);
    free(link->pending);
    free(link);
}

static void watch(engine *self, connection *link, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = link};
    epoll_ctl(self->poll, EPOLL_CTL_MOD, link->fd, &event);
}

/// Sends, or keeps what the socket does not take. Returns false if the connection is broken.
static bool send_bytes(engine *self, connection *link, const char *bytes, size_t count) {
    if (link->pending_count == 0) {
        ssize_t sent = send(link->fd, bytes, count, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return false;
        if (sent < 0) sent = 0;
        bytes += sent;
        count -= (size_t)sent;
    }
    if (count == 0) return true;
    if (link->pending_count + count > link->pending_capacity) {
        link->pending_capacity = (uint32_t)(link->pending_count + count + 4096);
        link->pending = realloc(link->pending, link->pending_capacity);
    }
    memcpy(link->pending + link->pending_count, bytes, count);
    link->pending_count += (uint32_t)count;
    if (!link->blocked) {
        link->blocked = true;
        watch(self, link, EPOLLIN | EPOLLOUT);
    }
    return true;
}

static bool send_token(engine *self, connection *link) {
    char bytes[MAXIMUM_EVENT_BYTES + 160];
    char event[MAXIMUM_EVENT_BYTES];
    size_t length = gateway_load_event(event, link->slot, link->position);
    size_t count = (size_t)snprintf(bytes, 16, "%zx\r\n", length);
    memcpy(bytes + count, event, length);
    count += length;
    memcpy(bytes + count, "\r\n", 2);
    count += 2;
    gateway_load_sent(link->slot, link->position);
    link->position++;
    if (link->position == link->tokens) {
        static const char end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
        memcpy(bytes + count, end, sizeof end - 1);
        count += sizeof end - 1;
        stop_stream(self, link);
    }
    return send_bytes(self, link, bytes, count);
}

static uint64_t number(const char *body, size_t count, const char *name, uint64_t otherwise) {
    const char *found = memmem(body, count, name, strlen(name));
    if (!found) return otherwise;
    const char *end = body + count;
    found += strlen(name);
    while (found < end && (*found == ':' || *found == ' ')) found++;
    uint64_t value = 0;
    bool any = false;
    for (; found < end && *found >= '0' && *found <= '9'; found++, any = true) value = value * 10 + (uint64_t)(*found - '0');
    return any ? value : otherwise;
}

static void make_answer(engine *self, uint32_t bytes) {
    if (self->answer_count > 0 && self->answer_bytes == bytes) return;
    char *text = malloc(bytes + 1);
    gateway_load_answer(text, bytes);
    static const char head[] =
        "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,"
        "\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
    static const char tail[] =
        "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":16,\"completion_tokens\":16,\"total_tokens\":32}}";
    size_t length = sizeof head - 1 + bytes + sizeof tail - 1;
    int written = snprintf(
        self->answer, ANSWER_BYTES,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s%.*s%s", length, head,
        (int)bytes, text, tail);
    free(text);
    self->answer_count = (uint32_t)written;
    self->answer_bytes = bytes;
}

static bool answer(engine *self, connection *link, bool is_post, const char *body, size_t count) {
    if (!is_post) {
        static const char text[] =
            "{\"object\":\"list\",\"status\":\"ok\",\"model_path\":\"mock\",\"model_id\":\"mock\",\"served_model_name\":\"mock\","
            "\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\",\"max_model_len\":8192}]}";
        char bytes[512];
        int length = snprintf(
            bytes, sizeof bytes, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
            sizeof text - 1, text);
        return send_bytes(self, link, bytes, (size_t)length);
    }
    const char *stream = memmem(body, count, "\"stream\":", 9);
    bool streams = stream && (size_t)(body + count - stream) > 13 && memmem(stream, 14, "true", 4);
    if (!streams) {
        make_answer(self, gateway_load_settings().answer_bytes);
        return send_bytes(self, link, self->answer, self->answer_count);
    }
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
        "Transfer-Encoding: chunked\r\n\r\n";
    link->slot = number(body, count, "\"seed\"", 0);
    // A router may write the newer name.
    link->tokens = (uint32_t)number(
        body, count, "\"max_tokens\"", number(body, count, "\"max_completion_tokens\"", 16));
    link->position = 0;
    link->streams = true;
    if (self->stream_count == self->stream_capacity) {
        self->stream_capacity = self->stream_capacity * 2 + 64;
        self->streams = realloc(self->streams, (size_t)self->stream_capacity * sizeof *self->streams);
    }
    link->place = self->stream_count;
    self->streams[self->stream_count++] = link;
    return send_bytes(self, link, head, sizeof head - 1) && send_token(self, link);
}

/// Handles the requests that are there. Returns false if the connection is over.
static bool requests(engine *self, connection *link) {
    while (!link->streams && link->used > 0) {
        char *end = memmem(link->input, link->used, "\r\n\r\n", 4);
        if (!end) return link->used < INPUT_BYTES;
        size_t head = (size_t)(end + 4 - link->input);
        end[2] = 0;
        const char *field = strcasestr(link->input, "\r\ncontent-length:");
        end[2] = '\r';
        size_t body = field && field < end ? strtoul(field + 17, NULL, 10) : 0;
        if (head + body > INPUT_BYTES) return false;
        if (link->used < head + body) return true;
        bool is_post = memcmp(link->input, "POST", 4) == 0;
        if (!answer(self, link, is_post, link->input + head, body)) return false;
        link->used -= (uint32_t)(head + body);
        memmove(link->input, link->input + head + body, link->used);
    }
    return true;
}

static bool receive(engine *self, connection *link) {
    ssize_t count = recv(link->fd, link->input + link->used, INPUT_BYTES - link->used, 0);
    if (count == 0 || (count < 0 && errno != EAGAIN)) return false;
    if (count < 0) return true;
    link->used += (uint32_t)count;
    return requests(self, link);
}

static bool drain(engine *self, connection *link) {
    ssize_t sent = send(link->fd, link->pending, link->pending_count, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    link->pending_count -= (uint32_t)sent;
    memmove(link->pending, link->pending + sent, link->pending_count);
    if (link->pending_count > 0) return true;
    link->blocked = false;
    watch(self, link, EPOLLIN);
    return requests(self, link);
}

static void accept_all(engine *self) {
    int fd;
    while ((fd = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection *link = calloc(1, sizeof *link);
        link->fd = fd;
        link->place = -1;
        link->input = malloc(INPUT_BYTES);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
        epoll_ctl(self->poll, EPOLL_CTL_ADD, fd, &event);
    }
}

/// A token for every stream whose socket takes one. Returns whether any did.
static bool step(engine *self, bool all) {
    bool any = false;
    for (int index = self->stream_count - 1; index >= 0; index--) {
        connection *link = self->streams[index];
        if (!all && (link->pending_count > 0 || !gateway_load_has_room(link->slot, link->position))) continue;
        any = true;
        // A broken connection is dropped when it is read from.
        if (!send_token(self, link)) stop_stream(self, link);
    }
    return any;
}

static void set_timer(engine *self, uint64_t interval) {
    self->interval = interval;
    struct timespec each = {(time_t)(interval / 1000000000u), (long)(interval % 1000000000u)};
    struct itimerspec timer = {.it_interval = each, .it_value = each};
    timerfd_settime(self->timer, 0, &timer, NULL);
}

static void *run(void *argument) {
    engine *self = argument;
    struct epoll_event events[256];
    bool busy = false, idle = false;
    for (;;) {
        // Nothing tells that a window opened.
        if (idle) usleep(20);
        int count = epoll_wait(self->poll, events, 256, busy || idle ? 0 : 100);
        uint64_t interval = gateway_load_settings().interval;
        if (interval != self->interval) set_timer(self, interval);
        for (int index = 0; index < count; index++) {
            void *target = events[index].data.ptr;
            if (target == &self->listener) {
                accept_all(self);
            } else if (target == &self->timer) {
                uint64_t expirations;
                if (read(self->timer, &expirations, sizeof expirations) == sizeof expirations && self->interval > 0) {
                    step(self, true);
                }
            } else {
                connection *link = target;
                bool alive = !(events[index].events & (EPOLLERR | EPOLLHUP));
                if (alive && events[index].events & EPOLLOUT) alive = drain(self, link);
                if (alive && events[index].events & EPOLLIN) alive = receive(self, link);
                if (!alive) drop(self, link);
            }
        }
        bool flat_out = interval == 0 && self->stream_count > 0;
        busy = flat_out && step(self, false);
        idle = flat_out && !busy;
    }
    return NULL;
}

int gateway_load_start_engine(uint16_t port) {
    engine *self = calloc(1, sizeof *self);
    self->answer = malloc(ANSWER_BYTES);
    self->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(self->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(self->listener, (struct sockaddr *)&address, size) < 0 || listen(self->listener, 4096) < 0) return -errno;
    getsockname(self->listener, (struct sockaddr *)&address, &size);
    self->poll = epoll_create1(EPOLL_CLOEXEC);
    self->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &self->listener};
    epoll_ctl(self->poll, EPOLL_CTL_ADD, self->listener, &event);
    event.data.ptr = &self->timer;
    epoll_ctl(self->poll, EPOLL_CTL_ADD, self->timer, &event);
    pthread_t thread;
    int failure = pthread_create(&thread, NULL, run, self);
    return failure ? -failure : ntohs(address.sin_port);
}
