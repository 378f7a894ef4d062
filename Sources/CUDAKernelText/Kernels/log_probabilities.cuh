// Tandem — Apache-2.0
//
// What is reported of rows of logits. Blocks of 1024 threads take one row each.

// Largest logit and logarithm of the sum of exponentials of row rows[i], into stats[2 i] and stats[2 i + 1].
KERNEL(ROW_THREADS, 1) logit_statistics(const float *logits, int stride, int vocabulary, const int *rows,
                                        float *stats) {
    SHARED(float, maxima, [32]);
    SHARED(float, sums, [32]);
    const float *row = logits + (u64)rows[blockIdx.x] * stride;
    float largest = NEGATIVE_INFINITY, sum = 0.f;
    for_each_logit(row, (const u32 *)0, vocabulary, [&](int, float logit) {
        const float scaled = logit * 1.44269504f;
        if (scaled > largest) {
            sum *= exp2_fast(largest - scaled);
            largest = scaled;
        }
        if (largest > NEGATIVE_INFINITY) sum += exp2_fast(scaled - largest);
    });
    float warpLargest = largest;
    UNROLL
    for (int mask = 16; mask > 0; mask >>= 1) warpLargest = larger(warpLargest, shuffle_xor(warpLargest, mask));
    sum = warp_sum(largest == NEGATIVE_INFINITY ? 0.f : sum * exp2_fast(largest - warpLargest));
    if (lane_index() == 0) maxima[warp_index()] = warpLargest, sums[warp_index()] = sum;
    BARRIER();
    if (threadIdx.x > 0) return;
    for (int warp = 0; warp < ROW_THREADS / 32; warp++) largest = larger(largest, maxima[warp]);
    double total = 0;
    for (int warp = 0; warp < ROW_THREADS / 32; warp++)
        if (maxima[warp] > NEGATIVE_INFINITY) total += sums[warp] * exp2_fast(maxima[warp] - largest);
    const float natural = largest * 0.6931471806f;
    stats[2 * blockIdx.x] = natural;
    stats[2 * blockIdx.x + 1] = largest == NEGATIVE_INFINITY ? largest : natural + logf((float)total);
}

// Log-probability of one token each, and its rank from 1 where `ranks` is given: one more than logits above its own.
// A pair is {row of logits, index of the row's statistics, token}; a token below 0 stands for sampled[-1 - token].
KERNEL(ROW_THREADS, 1) gather_log_probabilities(const float *logits, int stride, int vocabulary, const float *stats,
                                                const int *pairs, const int *sampled, float *logProbabilities,
                                                int *ranks) {
    SHARED(u32, counts, [32]);
    const int *pair = pairs + 3 * blockIdx.x;
    if (pair[0] < 0) return;
    const float *row = logits + (u64)pair[0] * stride;
    const int token = pair[2] < 0 ? sampled[-1 - pair[2]] : pair[2];
    const float own = row[token];
    if (threadIdx.x == 0) logProbabilities[blockIdx.x] = own - stats[2 * pair[1] + 1];
    if (!ranks) return;
    u32 above = 0;
    for_each_logit(row, (const u32 *)0, vocabulary, [&](int, float logit) { above += logit > own ? 1 : 0; });
    UNROLL
    for (int mask = 16; mask > 0; mask >>= 1) above += shuffle_xor(above, mask);
    if (lane_index() == 0) counts[warp_index()] = above;
    BARRIER();
    if (threadIdx.x > 0) return;
    u32 total = 0;
    for (int warp = 0; warp < ROW_THREADS / 32; warp++) total += counts[warp];
    ranks[blockIdx.x] = (int)total + 1;
}

#define TOP_MOST 64

// The likeliest tokens of rows, likeliest first, equal ones by id. A request is {row of logits, index of the row's
// statistics, how many (at most 64)}; its results start at 64 times its index, `found` says how many there are.
KERNEL(ROW_THREADS, 1) top_log_probabilities(const float *logits, int stride, int vocabulary, const float *stats,
                                             const int *requests, int *tokens, float *logProbabilities, int *found) {
    SHARED(Selection, selection, [1]);
    SHARED(u64, best, [TOP_MOST]);
    SHARED(u32, count, [1]);
    const int *request = requests + 3 * blockIdx.x;
    if (request[0] < 0) return;
    const float *row = logits + (u64)request[0] * stride;
    const int wanted = smaller(request[2], TOP_MOST);
    auto entries = [&](auto body) {
        for_each_logit(row, (const u32 *)0, vocabulary, [&](int id, float logit) {
            if (logit == logit) body(id, ordered_key(logit), (u64)0);
        });
    };
    const Cut cut = select_cut<32>(selection[0], (u32)larger(wanted, 1), 0, Cut{0, 0x7fffffff}, entries);
    if (threadIdx.x == 0) count[0] = 0;
    BARRIER();
    entries([&](int id, u32 key, u64) {
        if (!keeps(cut, key, id)) return;
        const u32 place = add_shared(&count[0], 1);
        if (place < TOP_MOST) best[place] = (u64)key << 32 | (u32)~id;
    });
    BARRIER();
    const int total = smaller((int)count[0], wanted);
    if (threadIdx.x == 0) found[blockIdx.x] = total;
    if ((int)threadIdx.x >= total) return;
    // An entry's place is the number of those before it.
    const u64 own = best[threadIdx.x];
    int place = 0;
    for (int i = 0; i < total; i++) place += best[i] > own ? 1 : 0;
    const int token = (int)~(u32)own;
    tokens[blockIdx.x * TOP_MOST + place] = token;
    logProbabilities[blockIdx.x * TOP_MOST + place] = row[token] - stats[2 * request[1] + 1];
}
