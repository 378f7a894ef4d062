// Tandem — Apache-2.0
//
// Bans, biases and penalties of rows that have any, in place before tokens are chosen, and taken back afterwards so that
// what is reported is the model's own. The order and the arithmetic are those of LogitAdjuster. Which tokens a sequence
// holds is counted on the device, because a sampled token may not have reached the host when the next step starts.

// Their layouts are those of the structures of the same names in Swift.
struct TokenBias {
    int token;
    float bias;
};
// A token of the sequence, and how often it was generated; tokens of the prompt alone have 0.
struct TokenCount {
    int token;
    int generated;
};
struct AdjustRow {
    // Row of logits; negative rows are padding.
    int row;
    // Index of the row's token in what `sample_rows` writes.
    int sample;
    // Tokens that are ruled out.
    int bannedOffset, bannedCount;
    int biasOffset, biasCount;
    // First of the sequence's counts, and the place of their number in `countLengths`; negative without penalties.
    int countOffset, countLength;
    // Most counts that the sequence has room for.
    int countCapacity;
    // First place for what the logits were: bannedCount + biasCount + the number of counts.
    int savedOffset;
    float repetition, frequency, presence;
    int reserved;
};

// One block a row.
KERNEL(256, 1) adjust_logits(float *logits, int stride, int vocabulary, const AdjustRow *rows, const int *banned,
                             const TokenBias *biases, const TokenCount *counts, const int *countLengths,
                             float *saved) {
    const AdjustRow request = rows[blockIdx.x];
    if (request.row < 0) return;
    float *row = logits + (u64)request.row * stride;
    float *before = saved + request.savedOffset;
    for (int i = threadIdx.x; i < request.bannedCount; i += blockDim.x) {
        const int token = banned[request.bannedOffset + i];
        if (token < 0 || token >= vocabulary) continue;
        before[i] = row[token];
        row[token] = NEGATIVE_INFINITY;
    }
    before += request.bannedCount;
    BARRIER();
    for (int i = threadIdx.x; i < request.biasCount; i += blockDim.x) {
        const TokenBias entry = biases[request.biasOffset + i];
        if (entry.token < 0 || entry.token >= vocabulary) continue;
        before[i] = row[entry.token];
        row[entry.token] += entry.bias;
    }
    before += request.biasCount;
    BARRIER();
    if (request.countOffset < 0) return;
    const int length = smaller(countLengths[request.countLength], request.countCapacity);
    for (int i = threadIdx.x; i < length; i += blockDim.x) {
        const TokenCount entry = counts[request.countOffset + i];
        if (entry.token < 0 || entry.token >= vocabulary) continue;
        float logit = row[entry.token];
        before[i] = logit;
        if (request.repetition != 1.f) logit = logit > 0.f ? logit / request.repetition : logit * request.repetition;
        if (entry.generated > 0) {
            logit -= multiply_rounded(request.frequency, (float)entry.generated);
            logit -= request.presence;
        }
        row[entry.token] = logit;
    }
}

// Takes back what `adjust_logits` did, in the opposite order, with the same arguments, before `note_tokens`.
KERNEL(256, 1) restore_logits(float *logits, int stride, int vocabulary, const AdjustRow *rows, const int *banned,
                              const TokenBias *biases, const TokenCount *counts, const int *countLengths,
                              const float *saved) {
    const AdjustRow request = rows[blockIdx.x];
    if (request.row < 0) return;
    float *row = logits + (u64)request.row * stride;
    const float *ofBanned = saved + request.savedOffset, *ofBiases = ofBanned + request.bannedCount;
    const float *ofCounts = ofBiases + request.biasCount;
    if (request.countOffset >= 0) {
        const int length = smaller(countLengths[request.countLength], request.countCapacity);
        for (int i = threadIdx.x; i < length; i += blockDim.x) {
            const int token = counts[request.countOffset + i].token;
            if (token >= 0 && token < vocabulary) row[token] = ofCounts[i];
        }
    }
    BARRIER();
    for (int i = threadIdx.x; i < request.biasCount; i += blockDim.x) {
        const int token = biases[request.biasOffset + i].token;
        if (token >= 0 && token < vocabulary) row[token] = ofBiases[i];
    }
    BARRIER();
    for (int i = threadIdx.x; i < request.bannedCount; i += blockDim.x) {
        const int token = banned[request.bannedOffset + i];
        if (token >= 0 && token < vocabulary) row[token] = ofBanned[i];
    }
}

// Counts the tokens that were chosen, for rows with penalties. One block a row. A sequence without room for a new token
// goes without it.
KERNEL(256, 1) note_tokens(const AdjustRow *rows, const int *sampled, TokenCount *counts, int *countLengths) {
    SHARED(int, isKnown, [1]);
    const AdjustRow request = rows[blockIdx.x];
    if (request.row < 0 || request.countOffset < 0) return;
    const int token = sampled[request.sample];
    TokenCount *own = counts + request.countOffset;
    const int length = smaller(countLengths[request.countLength], request.countCapacity);
    if (threadIdx.x == 0) isKnown[0] = 0;
    BARRIER();
    for (int i = threadIdx.x; i < length; i += blockDim.x)
        if (own[i].token == token) own[i].generated += 1, isKnown[0] = 1;
    BARRIER();
    if (threadIdx.x > 0 || isKnown[0] || length >= request.countCapacity) return;
    own[length] = TokenCount{token, 1};
    countLengths[request.countLength] = length + 1;
}
