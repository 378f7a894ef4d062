// Tandem — Apache-2.0
//
// Mock engines that speak HTTP, and clients that load what stands before them. Both live in one process, so that a client
// knows when each token it gets was sent: a request names its client's slot as its `seed`, and an engine notes the time of
// each token in that slot.
#ifndef GATEWAY_LOAD_H
#define GATEWAY_LOAD_H

#include <stdbool.h>
#include <stdint.h>

/// Clients that may be told apart.
#define GATEWAY_LOAD_SLOTS 2048
/// Tokens of a slot that may be under way.
#define GATEWAY_LOAD_DEPTH 4096
/// Different tokens that engines behind a link send.
#define GATEWAY_LOAD_TOKENS 1024

/// What engines do, all of them alike. May change between two loads.
typedef struct {
    /// Nanoseconds between two steps; 0: as fast as they are taken.
    uint64_t interval;
    /// Bytes of the text in an answer that is no stream.
    uint32_t answer_bytes;
    /// Without an interval: tokens of a stream that may be under way.
    uint32_t window;
} gateway_load_engine_settings;

void gateway_load_configure(gateway_load_engine_settings settings);
gateway_load_engine_settings gateway_load_settings(void);

/// Nanoseconds of the monotonic clock.
uint64_t gateway_load_now(void);
/// A token leaves its engine now.
void gateway_load_sent(uint64_t slot, uint32_t position);
/// Whether a stream may get its next token at once: fewer are under way than the window permits.
bool gateway_load_has_room(uint64_t slot, uint32_t position);

/// The text of a token that engines behind a link send; `bytes` are copied.
void gateway_load_set_token(uint32_t index, const char *bytes, uint32_t count);
/// Which of these tokens stands at a position of a slot's answer.
uint32_t gateway_load_token(uint64_t slot, uint32_t position);

/// Starts an engine that speaks HTTP on a thread of its own; port 0 lets the system choose.
///
/// Returns its port, or -errno.
int gateway_load_start_engine(uint16_t port);

typedef struct {
    uint16_t port;
    const char *model;
    bool stream;
    /// Whether answers come from engines behind a link: their tokens are those of `gateway_load_set_token`, and what
    /// stands around them is the gateway's affair.
    bool over_link;
    uint32_t connections;
    /// Tokens an answer.
    uint32_t tokens;
    double warm_seconds;
    double seconds;
    /// Processes whose time is measured.
    const int32_t *processes;
    uint32_t process_count;
} gateway_load_plan;

typedef struct {
    double median, p90, p99, maximum;
} gateway_load_quantiles;

typedef struct {
    double seconds;
    uint64_t requests, tokens;
    /// Those before the time that is measured, too.
    uint64_t all_requests, all_tokens;
    /// Answers other than 200, cut or short ones, connections that could not be made.
    uint64_t errors;
    /// Events and answers whose bytes are not those that the engine sent; over a link, other tokens.
    uint64_t wrong;
    double user_seconds, system_seconds;
    uint64_t resident_bytes;
    /// Microseconds: whole requests, time to first token, one way of a token, change of that between a stream's tokens.
    gateway_load_quantiles latency, first_token, one_way, jitter;
    char error[160];
} gateway_load_result;

/// Loads a port until the time is over, on the calling thread.
gateway_load_result gateway_load_run(const gateway_load_plan *plan);

#endif
