// Tandem — Apache-2.0
#ifndef GATEWAY_LOAD_INTERNAL_H
#define GATEWAY_LOAD_INTERNAL_H

#include "GatewayLoad.h"

#include <stddef.h>

/// When a token was sent.
uint64_t gateway_load_sent_at(uint64_t slot, uint32_t position);
/// So many tokens of a slot's answer have arrived.
void gateway_load_arrived(uint64_t slot, uint32_t count);
const char *gateway_load_token_text(uint32_t index, uint32_t *count);

/// Longest event that an HTTP engine sends.
#define MAXIMUM_EVENT_BYTES 512

/// The event of a token, without chunk framing. Returns its length.
size_t gateway_load_event(char *bytes, uint64_t slot, uint32_t position);
/// The text of an answer that is no stream. Returns its length.
size_t gateway_load_answer(char *bytes, uint32_t count);

#endif
