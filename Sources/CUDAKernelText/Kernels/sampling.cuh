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

// The goal of a draw: the entry is drawn at which the sum of weights passes it. It is below the total.
DEVICE u64 draw_goal(double uniform, u64 total) {
    const u64 goal = (u64)(uniform * (double)total);
    return goal < total ? goal : total - 1;
}

// Draws among all tokens. A warp sums the weights of one segment of the ids after the other; then one warp goes through
// the segment in which the goal lies.
template <typename Weight>
DEVICE int draw_from_row(Selection &selection, const float *row, const u32 *mask, int vocabulary, double uniform,
                         Weight weight) {
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
                if (i + j < end && (allowed >> j & 1)) sum += weight(values[j]);
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
    const u64 goal = draw_goal(uniform, total);
    find_bin(selection, 0, goal + 1, 0, 0);
    const int segment = SELECTION_BINS - 1 - selection.foundBin;
    u64 before = selection.weightAbove;
    if (warp > 0) return 0;
    for (int start = segment * length; start < vocabulary; start += 32) {
        const int id = start + lane;
        const bool isAllowed = id < vocabulary && (!mask || (mask[id >> 5] >> (id & 31) & 1));
        u64 sum = isAllowed ? weight(row[id]) : 0;
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

#define CANDIDATES 2048

// Tokens that may pass the filters, in no order.
struct Candidates {
    u32 keys[CANDIDATES];
    int ids[CANDIDATES];
    u32 count;
};

// Draws among the tokens that the filters keep.
//
// The row is read twice where few tokens can pass: for a histogram of the first ten bits of the keys, and to collect
// the tokens from the lowest bin on that matters. All else is done with these.
template <typename Probability>
DEVICE int draw_filtered(Selection &selection, Candidates &candidates, const SampleRow &request, const float *row,
                         const u32 *mask, int vocabulary, double uniform, Probability probability) {
    // Positive floats order as their bits do; at most 1, so that 30 bits hold them.
    clear_bins(selection);
    if (threadIdx.x == 0) candidates.count = 0;
    for_each_logit(row, mask, vocabulary, [&](int, float logit) {
        const float value = probability(logit);
        if (value > 0.f) add_to_bin(selection, float_bits(value) >> 20, (u64)(value * WEIGHT_ONE));
    });
    BARRIER();
    const bool hasTopK = request.topK > 0 && request.topK < vocabulary, hasTopP = request.topP < 1.f;
    const u32 minKey = float_bits(request.minP < 1.f ? request.minP : 1.f);
    const bool hasMinP = request.minP > 0.f;
    u64 total = 0;
    for (int i = lane_index(); i < SELECTION_BINS; i += 32)
        total += (u64)selection.highWeights[i] << 32 | selection.lowWeights[i];
    UNROLL
    for (int distance = 16; distance > 0; distance >>= 1) total += shuffle_xor(total, distance);
    auto goal_of = [&](u64 total) {
        const u64 goal = (u64)((double)request.topP * (double)total);
        return goal > 0 ? goal : 1;
    };
    int lowest = 0;
    if (hasTopK || hasTopP) {
        find_bin(selection, hasTopK ? (u32)request.topK : 0, hasTopK ? 0 : goal_of(total), 0, 0);
        lowest = larger(0, selection.foundBin);
    }
    if (hasMinP) lowest = larger(lowest, (int)(minKey >> 20));
    u32 count = 0;
    for (int i = lowest + lane_index(); i < SELECTION_BINS; i += 32) count += selection.counts[i];
    UNROLL
    for (int distance = 16; distance > 0; distance >>= 1) count += shuffle_xor(count, distance);
    const bool isList = count <= CANDIDATES;
    if (isList) {
        for_each_logit(row, mask, vocabulary, [&](int id, float logit) {
            const float value = probability(logit);
            const u32 key = float_bits(value);
            if (!(value > 0.f) || (int)(key >> 20) < lowest) return;
            const u32 place = add_shared(&candidates.count, 1);
            candidates.keys[place] = key, candidates.ids[place] = id;
        });
    }
    // The bins have been read and the candidates are there.
    BARRIER();
    Cut cut = {0, 0x7fffffff};
    auto entries = [&](auto body) {
        const int end = isList ? (int)count : vocabulary;
        for (int i = threadIdx.x; i < end; i += ROW_THREADS) {
            int id = i;
            u32 key;
            if (isList) {
                id = candidates.ids[i], key = candidates.keys[i];
            } else {
                const float value = probability(row[i]);
                const bool isAllowed = value > 0.f && (!mask || (mask[i >> 5] >> (i & 31) & 1));
                key = isAllowed ? float_bits(value) : 0;
            }
            if (key > 0 && keeps(cut, key, id)) body(id, key, (u64)(bits_float(key) * WEIGHT_ONE));
        }
    };
    if (hasTopK) {
        cut = select_cut<30>(selection, (u32)request.topK, 0, cut, entries);
        if (hasTopP) total = total_weight(selection, entries);
    }
    if (hasTopP) cut = select_cut<30>(selection, 0, goal_of(total), cut, entries);
    if (hasMinP && minKey > cut.key) cut.key = minKey, cut.id = 0x7fffffff;
    const u64 goal = draw_goal(uniform, total_weight(selection, entries));
    return select_id(selection, 0, goal + 1, 0, 0, [&](auto body) {
        entries([&](int id, u32, u64 weight) { body(id, weight); });
    });
}

// sampled[i] is the token of rows[i], and lastTokens[slot] too, unless the row is a draft.
KERNEL(ROW_THREADS, 1) sample_rows(const float *logits, int stride, int vocabulary, const SampleRow *rows,
                                   const u32 *masks, int *sampled, int *lastTokens) {
    SHARED(Selection, selections, [1]);
    SHARED(Candidates, candidates, [1]);
    Selection &selection = selections[0];
    const SampleRow &request = rows[blockIdx.x];
    if (request.row < 0) return;
    const float *row = logits + (u64)request.row * stride;
    const u32 *mask = request.maskOffset >= 0 ? masks + request.maskOffset : (const u32 *)0;
    float largest;
    int token;
    largest_logit(row, mask, vocabulary, selection.warpWeights, largest, token);
    // Temperatures that are not numbers count as 0, and so does a row without a finite largest logit.
    if (request.temperature >= 1e-5f && larger(largest, -largest) < -NEGATIVE_INFINITY) {
        const float factor = 1.44269504f / request.temperature;
        auto probability = [&](float logit) { return exp2_fast((logit - largest) * factor); };
        const double uniform = uniform_number(request.seed, request.choice, request.position);
        const bool isFiltered = (request.topK > 0 && request.topK < vocabulary) || request.topP < 1.f ||
                                request.minP > 0.f;
        token = isFiltered
                    ? draw_filtered(selection, candidates[0], request, row, mask, vocabulary, uniform, probability)
                    : draw_from_row(selection, row, mask, vocabulary, uniform, [&](float logit) {
                          const float value = probability(logit);
                          return value > 0.f ? (u64)(value * WEIGHT_ONE) : (u64)0;
                      });
    }
    if (threadIdx.x > 0) return;
    sampled[blockIdx.x] = token;
    if (!(request.flags & SAMPLE_IS_DRAFT)) lastTokens[request.slot] = token;
}
