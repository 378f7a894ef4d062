// Tandem — Apache-2.0
//
// Clients in a closed loop, all on one thread: each sends a request on its own connection, takes the answer, compares it
// with what it must be, and sends the next one.
#define _GNU_SOURCE
#include "Internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

// MARK: Distributions

/// Buckets of 1/64 of a power of two, of nanoseconds.
enum { BUCKETS = 64 * 64 };

typedef struct {
    uint64_t counts[BUCKETS];
    uint64_t count, maximum;
} distribution;

static int bucket(uint64_t value) {
    if (value < 64) return (int)value;
    int exponent = 63 - __builtin_clzll(value);
    return (exponent - 5) * 64 + (int)(value >> (exponent - 6) & 63);
}

static double middle(int bucket) {
    if (bucket < 64) return bucket;
    int exponent = bucket / 64 + 5;
    return (double)(64 + bucket % 64) * (double)(1ull << (exponent - 6)) + (double)(1ull << (exponent - 6)) / 2;
}

static void note(distribution *self, uint64_t value) {
    self->counts[bucket(value)]++;
    self->count++;
    if (value > self->maximum) self->maximum = value;
}

static double quantile(const distribution *self, double share) {
    uint64_t rank = (uint64_t)(share * (double)self->count), seen = 0;
    for (int index = 0; index < BUCKETS; index++) {
        seen += self->counts[index];
        if (seen > rank) return middle(index) / 1e3;
    }
    return (double)self->maximum / 1e3;
}

static gateway_load_quantiles quantiles(const distribution *self) {
    return (gateway_load_quantiles){
        quantile(self, 0.5), quantile(self, 0.9), quantile(self, 0.99), (double)self->maximum / 1e3};
}

// MARK: Clients

enum { EVENT_BYTES = 4096, READ_BYTES = 256 * 1024, MAXIMUM_HEAD = 8192 };

typedef enum { IN_HEAD, IN_BODY, IN_CHUNK_SIZE, IN_CHUNK, AFTER_CHUNK, IN_TRAILER } framing_state;

typedef struct {
    int fd;
    uint64_t slot;
    char *request;
    uint32_t request_count;
    uint64_t sent_at;
    framing_state state;
    /// Of a body or chunk, or matched of what ends it.
    uint64_t remaining;
    bool keep_alive, any_body, done;
    uint32_t position;
    uint64_t last_one_way;
    char *text;
    uint32_t text_count, text_capacity;
} client;

typedef struct {
    const gateway_load_plan *plan;
    gateway_load_result result;
    int poll;
    bool measures;
    distribution *latency, *first_token, *one_way, *jitter;
    char *expected;
    uint32_t expected_count;
    uint32_t waiting_for_first;
} load;

static void fail(load *self, const char *format, ...) {
    self->result.errors++;
    if (self->result.error[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(self->result.error, sizeof self->result.error, format, arguments);
    va_end(arguments);
}

static void send_request(load *self, client *link) {
    link->sent_at = gateway_load_now();
    link->state = IN_HEAD;
    link->position = 0;
    link->text_count = 0;
    link->done = false;
    link->any_body = false;
    link->last_one_way = 0;
    // The tokens of an answer that is no stream arrive together.
    gateway_load_arrived(link->slot, self->plan->stream ? 0 : self->plan->tokens);
    // A request of some hundred bytes fits into an empty socket.
    if (send(link->fd, link->request, link->request_count, MSG_NOSIGNAL) != link->request_count) {
        fail(self, "a request could not be sent: %s", strerror(errno));
    }
}

static bool open_connection(load *self, client *link) {
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(self->plan->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(link->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        fail(self, "cannot connect: %s", strerror(errno));
        close(link->fd);
        link->fd = -1;
        return false;
    }
    int one = 1;
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
    epoll_ctl(self->poll, EPOLL_CTL_ADD, link->fd, &event);
    return true;
}

static void reopen(load *self, client *link) {
    close(link->fd);
    if (open_connection(self, link)) send_request(self, link);
}

static void token_arrived(load *self, client *link, uint64_t now) {
    uint64_t sent = gateway_load_sent_at(link->slot, link->position);
    uint64_t one_way = now > sent ? now - sent : 0;
    if (link->position == 0) {
        if (self->measures) note(self->first_token, now - link->sent_at);
        if (self->waiting_for_first > 0) self->waiting_for_first--;
    }
    self->result.all_tokens++;
    if (self->measures) {
        self->result.tokens++;
        note(self->one_way, one_way);
        if (link->position > 0) {
            note(self->jitter, one_way > link->last_one_way ? one_way - link->last_one_way : link->last_one_way - one_way);
        }
    }
    link->last_one_way = one_way;
    link->position++;
    gateway_load_arrived(link->slot, link->position);
}

static bool equal(const char *bytes, size_t count, const char *expected, size_t expected_count) {
    return count == expected_count && memcmp(bytes, expected, count) == 0;
}

/// One event, with the empty line that ends it.
static void take_event(load *self, client *link, const char *bytes, size_t count, uint64_t now) {
    if (count == 14 && memcmp(bytes, "data: [DONE]", 12) == 0) {
        link->done = true;
        return;
    }
    if (!self->plan->over_link) {
        char expected[MAXIMUM_EVENT_BYTES];
        size_t length = gateway_load_event(expected, link->slot, link->position);
        if (!equal(bytes, count, expected, length)) self->result.wrong++;
        token_arrived(self, link, now);
        return;
    }
    const char *text = memmem(bytes, count, "\"content\":\"", 11);
    if (!text || text[11] == '"') {
        // Beside tokens there are only a stream's beginning and its end.
        if (memmem(bytes, count, "\"error\"", 7)) fail(self, "%.*s", (int)(count > 120 ? 120 : count), bytes);
        return;
    }
    text += 11;
    const char *end = memchr(text, '"', count - (size_t)(text - bytes));
    uint32_t length;
    const char *expected = gateway_load_token_text(gateway_load_token(link->slot, link->position), &length);
    if (!end || !equal(text, (size_t)(end - text), expected, length)) self->result.wrong++;
    token_arrived(self, link, now);
}

/// Bytes of a body, without framing.
static void take_body(load *self, client *link, const char *bytes, size_t count, uint64_t now) {
    link->any_body = true;
    if (self->plan->stream && link->text_count == 0) {
        // Whole events need not be gathered first.
        const char *end;
        while (count > 0 && (end = memmem(bytes, count, "\n\n", 2))) {
            size_t length = (size_t)(end + 2 - bytes);
            take_event(self, link, bytes, length, now);
            bytes += length;
            count -= length;
        }
    }
    if (count == 0) return;
    if (link->text_count + count > link->text_capacity) {
        link->text_capacity = (uint32_t)(link->text_count + count + EVENT_BYTES);
        link->text = realloc(link->text, link->text_capacity);
    }
    memcpy(link->text + link->text_count, bytes, count);
    link->text_count += (uint32_t)count;
    if (!self->plan->stream) return;
    char *start = link->text, *end;
    uint32_t left = link->text_count;
    while ((end = memmem(start, left, "\n\n", 2))) {
        size_t length = (size_t)(end + 2 - start);
        take_event(self, link, start, length, now);
        start += length;
        left -= (uint32_t)length;
    }
    memmove(link->text, start, left);
    link->text_count = left;
}

static void check_answer(load *self, client *link) {
    if (self->plan->stream) {
        if (!link->done || link->position != self->plan->tokens) {
            fail(self, "a stream ended after %u of %u tokens", link->position, self->plan->tokens);
        }
        return;
    }
    if (self->plan->over_link) {
        const char *text = memmem(link->text, link->text_count, "\"content\":\"", 11);
        char expected[64 * 1024];
        size_t count = 0;
        for (uint32_t position = 0; position < self->plan->tokens && count < sizeof expected - 64; position++) {
            uint32_t length;
            const char *token = gateway_load_token_text(gateway_load_token(link->slot, position), &length);
            memcpy(expected + count, token, length);
            count += length;
        }
        expected[count++] = '"';
        if (!text || link->text + link->text_count - (text + 11) < (ptrdiff_t)count || memcmp(text + 11, expected, count)) {
            self->result.wrong++;
        }
    } else if (
        !memmem(link->text, link->text_count, self->expected, self->expected_count)
        || link->text[link->text_count - 1] != '}') {
        self->result.wrong++;
    }
}

static void end_answer(load *self, client *link, uint64_t now) {
    check_answer(self, link);
    self->result.all_requests++;
    if (self->measures) {
        self->result.requests++;
        note(self->latency, now - link->sent_at);
    }
    if (link->keep_alive) send_request(self, link);
    else reopen(self, link);
}

/// Reads a head that is whole. Returns false if the answer is none that counts.
static bool take_head(load *self, client *link, const char *head, size_t count) {
    char text[MAXIMUM_HEAD + 1];
    if (count > MAXIMUM_HEAD) return false;
    memcpy(text, head, count);
    text[count] = 0;
    if (memcmp(text, "HTTP/1.1 200", 12) != 0) {
        fail(self, "an answer: %.*s", (int)strcspn(text, "\r"), text);
        return false;
    }
    link->keep_alive = !strcasestr(text, "\r\nconnection: close");
    link->text_count = 0;
    const char *length = strcasestr(text, "\r\ncontent-length:");
    if (strcasestr(text, "\r\ntransfer-encoding: chunked")) {
        link->state = IN_CHUNK_SIZE;
        link->remaining = 0;
    } else if (length) {
        link->state = IN_BODY;
        link->remaining = strtoull(length + 17, NULL, 10);
    } else {
        fail(self, "an answer has neither a length nor chunks");
        return false;
    }
    return true;
}

/// Returns false if the connection was given up.
static bool take(load *self, client *link, const char *bytes, size_t count, uint64_t now) {
    while (count > 0) {
        switch (link->state) {
        case IN_HEAD: {
            // Heads come whole but for rare cases, in which the beginning waits.
            const char *head = bytes;
            size_t available = count;
            if (link->text_count > 0) {
                link->text = realloc(link->text, link->text_count + count);
                memcpy(link->text + link->text_count, bytes, count);
                head = link->text;
                available = link->text_count + count;
            }
            const char *end = memmem(head, available, "\r\n\r\n", 4);
            if (!end) {
                if (link->text_count == 0) {
                    link->text = realloc(link->text, available);
                    memcpy(link->text, bytes, available);
                }
                link->text_count = link->text_capacity = (uint32_t)available;
                return true;
            }
            size_t length = (size_t)(end + 4 - head), from_here = length - (available - count);
            if (!take_head(self, link, head, length)) return false;
            bytes += from_here;
            count -= from_here;
            break;
        }
        case IN_BODY: {
            size_t piece = count < link->remaining ? count : link->remaining;
            take_body(self, link, bytes, piece, now);
            bytes += piece;
            count -= piece;
            link->remaining -= piece;
            if (link->remaining == 0) {
                end_answer(self, link, now);
                return true;
            }
            break;
        }
        case IN_CHUNK_SIZE: {
            char byte = *bytes++;
            count--;
            if (byte == '\n') {
                link->state = link->remaining > 0 ? IN_CHUNK : IN_TRAILER;
            } else if (byte != '\r') {
                link->remaining = link->remaining * 16 + (uint64_t)(byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10);
            }
            break;
        }
        case IN_CHUNK: {
            size_t piece = count < link->remaining ? count : link->remaining;
            take_body(self, link, bytes, piece, now);
            bytes += piece;
            count -= piece;
            link->remaining -= piece;
            if (link->remaining == 0) link->state = AFTER_CHUNK;
            break;
        }
        case AFTER_CHUNK:
            if (*bytes == '\n') {
                link->state = IN_CHUNK_SIZE;
                link->remaining = 0;
            }
            bytes++;
            count--;
            break;
        case IN_TRAILER:
            // No server here sends trailers: the next line is the empty one.
            if (*bytes == '\n') {
                end_answer(self, link, now);
                return true;
            }
            bytes++;
            count--;
            break;
        }
    }
    return true;
}

// MARK: Processes

static void add_times(const gateway_load_plan *plan, double sign, gateway_load_result *result) {
    double ticks = (double)sysconf(_SC_CLK_TCK);
    for (uint32_t index = 0; index < plan->process_count; index++) {
        char path[64], text[1024];
        snprintf(path, sizeof path, "/proc/%d/stat", plan->processes[index]);
        FILE *file = fopen(path, "r");
        if (!file) continue;
        size_t count = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[count] = 0;
        const char *fields = strrchr(text, ')');
        unsigned long user, system;
        long resident;
        if (fields
            && sscanf(
                   fields + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %*u %*u %ld",
                   &user, &system, &resident) == 3) {
            result->user_seconds += sign * (double)user / ticks;
            result->system_seconds += sign * (double)system / ticks;
            if (sign > 0) result->resident_bytes += (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
        }
    }
}

// MARK: The whole

static void make_request(client *link, const gateway_load_plan *plan) {
    char body[2048];
    int length = snprintf(
        body, sizeof body,
        "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant. Answer in one short "
        "paragraph.\"},{\"role\":\"user\",\"content\":\"Client %llu asks: what is the difference between a process and a "
        "thread, and when would you use one rather than the other?\"}],\"max_tokens\":%u,\"temperature\":0,\"seed\":%llu%s}",
        plan->model, (unsigned long long)link->slot, plan->tokens, (unsigned long long)link->slot,
        plan->stream ? ",\"stream\":true" : "");
    link->request = malloc((size_t)length + 512);
    link->request_count = (uint32_t)snprintf(
        link->request, (size_t)length + 512,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUser-Agent: gateway-benchmark\r\nAccept: */*\r\n"
        "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
        plan->port, length, body);
}

gateway_load_result gateway_load_run(const gateway_load_plan *plan) {
    load self = {.plan = plan};
    self.latency = calloc(1, sizeof *self.latency);
    self.first_token = calloc(1, sizeof *self.first_token);
    self.one_way = calloc(1, sizeof *self.one_way);
    self.jitter = calloc(1, sizeof *self.jitter);
    self.expected = malloc(gateway_load_settings().answer_bytes + 1);
    self.expected_count = (uint32_t)gateway_load_answer(self.expected, gateway_load_settings().answer_bytes);
    self.poll = epoll_create1(EPOLL_CLOEXEC);
    uint32_t count = plan->connections < GATEWAY_LOAD_SLOTS ? plan->connections : GATEWAY_LOAD_SLOTS;
    client *clients = calloc(count, sizeof *clients);
    char *bytes = malloc(READ_BYTES);
    self.waiting_for_first = plan->stream ? count : 0;
    for (uint32_t index = 0; index < count; index++) {
        client *link = &clients[index];
        link->slot = index;
        make_request(link, plan);
        if (open_connection(&self, link)) send_request(&self, link);
    }
    uint64_t began = gateway_load_now(), measured = 0, end = UINT64_MAX;
    uint64_t warm = (uint64_t)(plan->warm_seconds * 1e9), patience = 20000000000u;
    struct epoll_event events[256];
    while (true) {
        uint64_t now = gateway_load_now();
        // From the time on that all streams run.
        if (!self.measures && now - began >= warm && (self.waiting_for_first == 0 || now - began > warm + patience)) {
            if (self.waiting_for_first > 0) fail(&self, "%u streams have not begun", self.waiting_for_first);
            self.measures = true;
            measured = now;
            end = now + (uint64_t)(plan->seconds * 1e9);
            add_times(plan, -1, &self.result);
        }
        if (now >= end) break;
        int ready = epoll_wait(self.poll, events, 256, 5);
        for (int index = 0; index < ready; index++) {
            client *link = events[index].data.ptr;
            ssize_t got = recv(link->fd, bytes, READ_BYTES, MSG_DONTWAIT);
            now = gateway_load_now();
            if (got > 0) {
                if (!take(&self, link, bytes, (size_t)got, now)) reopen(&self, link);
            } else if (got == 0 || errno != EAGAIN) {
                fail(&self, got == 0 ? "a connection was closed in the middle of an answer" : "%s", strerror(errno));
                reopen(&self, link);
            }
            if (self.result.errors > 1000) goto over;
        }
    }
over:
    add_times(plan, 1, &self.result);
    self.result.seconds = (double)(gateway_load_now() - measured) / 1e9;
    self.result.latency = quantiles(self.latency);
    self.result.first_token = quantiles(self.first_token);
    self.result.one_way = quantiles(self.one_way);
    self.result.jitter = quantiles(self.jitter);
    for (uint32_t index = 0; index < count; index++) {
        if (clients[index].fd >= 0) close(clients[index].fd);
        free(clients[index].request);
        free(clients[index].text);
    }
    close(self.poll);
    free(clients);
    free(bytes);
    free(self.expected);
    free(self.latency);
    free(self.first_token);
    free(self.one_way);
    free(self.jitter);
    return self.result;
}
