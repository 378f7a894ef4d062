// Tandem — Apache-2.0
#include "Internal.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static _Atomic uint64_t times[GATEWAY_LOAD_SLOTS][GATEWAY_LOAD_DEPTH];
static _Atomic uint32_t arrived[GATEWAY_LOAD_SLOTS];
static _Atomic uint64_t interval;
static _Atomic uint32_t answer_bytes = 64, window = 8;

static struct {
    char bytes[32];
    uint32_t count;
} texts[GATEWAY_LOAD_TOKENS];

void gateway_load_configure(gateway_load_engine_settings settings) {
    atomic_store(&interval, settings.interval);
    atomic_store(&answer_bytes, settings.answer_bytes);
    atomic_store(&window, settings.window);
}

gateway_load_engine_settings gateway_load_settings(void) {
    return (gateway_load_engine_settings){
        .interval = atomic_load_explicit(&interval, memory_order_relaxed),
        .answer_bytes = atomic_load_explicit(&answer_bytes, memory_order_relaxed),
        .window = atomic_load_explicit(&window, memory_order_relaxed),
    };
}

uint64_t gateway_load_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void gateway_load_sent(uint64_t slot, uint32_t position) {
    atomic_store_explicit(
        &times[slot % GATEWAY_LOAD_SLOTS][position % GATEWAY_LOAD_DEPTH], gateway_load_now(), memory_order_release);
}

uint64_t gateway_load_sent_at(uint64_t slot, uint32_t position) {
    return atomic_load_explicit(
        &times[slot % GATEWAY_LOAD_SLOTS][position % GATEWAY_LOAD_DEPTH], memory_order_acquire);
}

void gateway_load_arrived(uint64_t slot, uint32_t count) {
    atomic_store_explicit(&arrived[slot % GATEWAY_LOAD_SLOTS], count, memory_order_relaxed);
}

bool gateway_load_has_room(uint64_t slot, uint32_t position) {
    uint32_t count = atomic_load_explicit(&arrived[slot % GATEWAY_LOAD_SLOTS], memory_order_relaxed);
    return position < count + atomic_load_explicit(&window, memory_order_relaxed);
}

void gateway_load_set_token(uint32_t index, const char *bytes, uint32_t count) {
    if (index >= GATEWAY_LOAD_TOKENS || count > sizeof texts[0].bytes) return;
    memcpy(texts[index].bytes, bytes, count);
    texts[index].count = count;
}

uint32_t gateway_load_token(uint64_t slot, uint32_t position) {
    return (uint32_t)((slot * 7 + position) % GATEWAY_LOAD_TOKENS);
}

const char *gateway_load_token_text(uint32_t index, uint32_t *count) {
    *count = texts[index % GATEWAY_LOAD_TOKENS].count;
    return texts[index % GATEWAY_LOAD_TOKENS].bytes;
}

static char *digits(char *bytes, uint32_t number, int count) {
    for (int index = count - 1; index >= 0; index--, number /= 10) bytes[index] = (char)('0' + number % 10);
    return bytes + count;
}

size_t gateway_load_event(char *bytes, uint64_t slot, uint32_t position) {
    static const char head[] =
        "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
        "\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" ";
    static const char tail[] = "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    char *end = bytes;
    memcpy(end, head, sizeof head - 1);
    end += sizeof head - 1;
    end = digits(end, (uint32_t)(slot * 1000000 + position % 1000000), 10);
    memcpy(end, tail, sizeof tail - 1);
    return (size_t)(end + sizeof tail - 1 - bytes);
}

size_t gateway_load_answer(char *bytes, uint32_t count) {
    for (uint32_t index = 0; index < count; index++) bytes[index] = (char)('a' + index % 26);
    return count;
}
