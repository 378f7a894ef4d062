// Tandem — Apache-2.0
//
// Choosing tokens: temperature, top-k, top-p over what top-k kept, min-p relative to the largest probability; then the
// inverse of the cumulative distribution in order of id, at a random number that depends on the request's seed, its
// choice and the position alone. One block of 1024 threads a row.
//
// Probabilities are exp((logit - largest) / temperature), the largest is 1; their sums are taken as integers of 2^-44,
// exact and in any order the same.

// Its layout is that of `SampleRow` in Swift.
struct SampleRow {
    u64 seed;
    // Row of logits; negative rows are padding and choose nothing.
    int row;
    int slot;
    int position;
    u32 choice;
    // Below 1e-5 the largest logit is chosen.
    float temperature;
    // 0 keeps all.
    int topK;
    float topP;
    float minP;
    // First word of the row's mask of permitted tokens; negative if there is none.
    int maskOffset;
    // 1: the token does not become the slot's last one.
    u32 flags;
};

#define SAMPLE_IS_DRAFT 1u
#define WEIGHT_ONE 17592186044416.f

// As CounterRandom.uniform.
DEVICE double uniform_number(u64 seed, u32 choice, int position) {
    u64 word = mix(seed + 0x9E3779B97F4A7C15ull);
    word = mix(word ^ (u64)choice * 0xD6E8FEB86659FD93ull);
    word = mix(word ^ (u64)(long long)position * 0xA0761D6478BD642Full);
    return (double)(word >> 11) * 0x1p-53;
}

// Draws among the entries that a cut keeps. `weight(id, logit)` is 0 for all others.
template <typename Weight>
DEVICE int draw(Selection &selection, const float *row, const u32 *mask, int vocabulary, double uniform,
                Weight weight) {
    // One segment of the ids a thread in the scan; a warp sums a segment.
    const int lane = lane_index(), warp = warp_index();
    const int length = larger(256, divide_up(divide_up(vocabulary, ROW_THREADS), 128) * 128);
    const int segments = divide_up(vocabulary, length);
    clear_bins(selection);
    for (int segment = warp; segment < segments; segment += ROW_THREADS / 32) {
        u64 sum = 0;
        const int end = smaller(vocabulary, (segment + 1) * length);
        for (int i = segment * length + lane * 4; i < end; i += 128) {
            const float4 logits = load_floats(row + i);
            const float values[4] = {logits.x, logits.y, logits.z, logits.w};
            const u32 allowed = mask ? mask[i >> 5] >> (i & 31) : FULL_WARP;
            UNROLL
            for (int j = 0; j < 4; j++)
                if (i + j < end && (allowed >> j & 1)) sum += weight(i + j, values[j]);
        }
        UNROLL
        for (int distance = 16; distance > 0; distance >>= 1) sum += shuffle_xor(sum, distance);
        // Bins are scanned from the last one on, so the first segment is there.
        if (lane == 0) {
            selection.lowWeights[SELECTION_BINS - 1 - segment] = (u32)sum;
            selection.highWeights[SELECTION_BINS - 1 - segment] = (u32)(sum >> 32);
        }
    }
    BARRIER();
    u64 total = 0;
    for (int i = lane; i < segments; i += 32) {
        const int bin = SELECTION_BINS - 1 - i;
        total += (u64)selection.highWeights[bin] << 32 | selection.lowWeights[bin];
    }
    UNROLL
    for (int distance = 16; distance > 0; distance >>= 1) total += shuffle_xor(total, distance);
    // The entry at which the sum passes the goal, which is below the total.
    u64 goal = (u64)(uniform * (double)total);
    if (goal >= total) goal = total - 1;
    find_bin(selection, 0, goal + 1, 0, 0);
    const int segment = SELECTION_BINS - 1 - selection.foundBin;
    u64 before = selection.weightAbove;
    if (warp > 0) return 0;
    for (int start = segment * length; start < vocabulary; start += 32) {
        const int id = start + lane;
        const bool isAllowed = id < vocabulary && (!mask || (mask[id >> 5] >> (id & 31) & 1));
        u64 sum = isAllowed ? weight(id, row[id]) : 0;
        UNROLL
        for (int distance = 1; distance < 32; distance <<= 1) {
            const u64 other = shuffle_up(sum, distance);
            if (lane >= distance) sum += other;
        }
        const u32 passed = ballot(before + sum > goal);
        if (passed) return start + first_bit(passed);
        before += shuffle(sum, 31);
    }
    return 0;
}

// sampled[i] is the token of rows[i], and lastTokens[slot] too, unless the row is a draft.
KERNEL(ROW_THREADS, 1) sample_rows(const float *logits, int stride, int vocabulary, const SampleRow *rows,
                                   const u32 *masks, int *sampled, int *lastTokens) {
    SHARED(Selection, selections, [1]);
    Selection &selection = selections[0];
    const SampleRow request = rows[blockIdx.x];
    if (request.row < 0) return;
    const float *row = logits + (u64)request.row * stride;
    const u32 *mask = request.maskOffset >= 0 ? masks + request.maskOffset : (const u32 *)0;
    float largest;
    int token;
    largest_logit(row, mask, vocabulary, selection.warpWeights, largest, token);
    // Temperatures that are not numbers count as 0, and so does a row without a finite largest logit.
    const bool isGreedy = !(request.temperature >= 1e-5f) || !(larger(largest, -largest) < -NEGATIVE_INFINITY);
    if (!isGreedy) {
        const float factor = 1.44269504f / request.temperature;
        // At most 1, so that its bits leave two free below them.
        auto probability = [&](float logit) { return exp2_fast((logit - largest) * factor); };
        Cut cut = {0, 0x7fffffff};
        auto entries = [&](auto body) {
            for_each_logit(row, mask, vocabulary, [&](int id, float logit) {
                const float value = probability(logit);
                const u32 key = float_bits(value) << 2;
                if (value > 0.f && keeps(cut, key, id)) body(id, key, (u64)(value * WEIGHT_ONE));
            });
        };
        if (request.topK > 0 && request.topK < vocabulary)
            cut = select_cut(selection, (u32)request.topK, 0, cut, entries);
        if (request.topP < 1.f) {
            // The sum of what top-k kept comes from the first digit of the same search.
            clear_bins(selection);
            entries([&](int, u32 key, u64 weight) { add_to_bin(selection, key >> 22, weight); });
            BARRIER();
            u64 total = 0;
            for (int i = lane_index(); i < SELECTION_BINS; i += 32)
                total += (u64)selection.highWeights[i] << 32 | selection.lowWeights[i];
            UNROLL
            for (int distance = 16; distance > 0; distance >>= 1) total += shuffle_xor(total, distance);
            u64 goal = (u64)((double)request.topP * (double)total);
            if (goal < 1) goal = 1;
            BARRIER();
            cut = select_cut(selection, 0, goal, cut, entries);
        }
        if (request.minP > 0.f) {
            const u32 key = float_bits(request.minP < 1.f ? request.minP : 1.f) << 2;
            if (key > cut.key) cut.key = key, cut.id = 0x7fffffff;
        }
        token = draw(selection, row, mask, vocabulary,
                     uniform_number(request.seed, request.choice, request.position), [&](int id, float logit) {
                         const float value = probability(logit);
                         const bool isKept = value > 0.f && keeps(cut, float_bits(value) << 2, id);
                         return isKept ? (u64)(value * WEIGHT_ONE) : (u64)0;
                     });
    }
    if (threadIdx.x > 0) return;
    sampled[blockIdx.x] = token;
    if (!(request.flags & SAMPLE_IS_DRAFT)) lastTokens[request.slot] = token;
}
