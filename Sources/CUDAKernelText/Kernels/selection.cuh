// Tandem — Apache-2.0
//
// Which entries of a row of logits rank first: by a 32-bit key, equal keys by id, the lower first. A radix select: the
// row is read once for each ten bits of the key, and a histogram says where the last entry that is kept lies. Weights
// are integers and their sums exact, so that nothing depends on the order in which threads add them.

#define ROW_THREADS 1024
#define SELECTION_BINS 1024

struct Selection {
    u32 counts[SELECTION_BINS], lowWeights[SELECTION_BINS], highWeights[SELECTION_BINS];
    // Sums of the warps, in a scan over the block.
    u32 warpCounts[32];
    u64 warpWeights[32];
    // What the last scan found.
    int foundBin;
    u32 foundCount, countAbove;
    u64 weightAbove;
};

// The last entry that is kept: those with a larger key, and of those with its key the ids up to `id`.
struct Cut {
    u32 key;
    int id;
};

DEVICE bool keeps(Cut cut, u32 key, int id) { return key > cut.key || (key == cut.key && id <= cut.id); }

// Keys order as the floats do; zeros of both signs are equal, what is not a number comes last.
DEVICE u32 ordered_key(float value) {
    if (value != value) return 0;
    const u32 bits = float_bits(value + 0.f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Calls `body(id, logit)` for the row's entries, those that a mask forbids with minus infinity. A thread takes four
// neighbours at a time; every row of logits is a multiple of eight long and aligned.
template <typename Body>
DEVICE void for_each_logit(const float *row, const u32 *mask, int vocabulary, Body body) {
    for (int i = threadIdx.x * 4; i < vocabulary; i += ROW_THREADS * 4) {
        const float4 logits = load_floats(row + i);
        const float values[4] = {logits.x, logits.y, logits.z, logits.w};
        const u32 allowed = mask ? mask[i >> 5] >> (i & 31) : FULL_WARP;
        UNROLL
        for (int j = 0; j < 4; j++)
            if (i + j < vocabulary) body(i + j, allowed >> j & 1 ? values[j] : NEGATIVE_INFINITY);
    }
}

// The row's largest logit and the lowest id that has it, in every thread. Id 0 where there is none.
DEVICE void largest_logit(const float *row, const u32 *mask, int vocabulary, u64 *warpBest, float &value, int &id) {
    // The complement of the id makes the lower one the larger of two equal ones.
    u64 best = 0;
    for_each_logit(row, mask, vocabulary, [&](int i, float logit) {
        if (logit != logit) return;
        const u64 candidate = (u64)ordered_key(logit) << 32 | (u32)~i;
        if (candidate > best) best = candidate;
    });
    UNROLL
    for (int distance = 16; distance > 0; distance >>= 1) {
        const u64 other = shuffle_xor(best, distance);
        if (other > best) best = other;
    }
    if (lane_index() == 0) warpBest[warp_index()] = best;
    BARRIER();
    for (int warp = 0; warp < ROW_THREADS / 32; warp++)
        if (warpBest[warp] > best) best = warpBest[warp];
    if (best == 0) {
        value = NEGATIVE_INFINITY, id = 0;
    } else {
        const u32 key = (u32)(best >> 32);
        value = bits_float(key >> 31 ? key & 0x7fffffffu : ~key);
        id = (int)~(u32)best;
    }
}

// Adds an entry to a bin; the weight in two halves with the carry between them.
DEVICE void add_to_bin(Selection &selection, int bin, u64 weight) {
    add_shared(&selection.counts[bin], 1);
    const u32 low = (u32)weight;
    const u32 before = add_shared(&selection.lowWeights[bin], low);
    const u32 high = (u32)(weight >> 32) + (before + low < before ? 1 : 0);
    if (high) add_shared(&selection.highWeights[bin], high);
}

DEVICE void clear_bins(Selection &selection) {
    const int bin = threadIdx.x;
    selection.counts[bin] = selection.lowWeights[bin] = selection.highWeights[bin] = 0;
    if (threadIdx.x == 0) selection.foundBin = -1, selection.foundCount = 0;
    BARRIER();
}

// Goes through the bins from the last to the first and finds the one in which a count or a weight is reached, beyond
// what lies above them. Thread i has bin 1023 - i. `goal` of zero means a goal of counts.
DEVICE void find_bin(Selection &selection, u32 countGoal, u64 weightGoal, u32 countAbove, u64 weightAbove) {
    const int bin = SELECTION_BINS - 1 - threadIdx.x, lane = lane_index(), warp = warp_index();
    const u32 count = selection.counts[bin];
    const u64 weight = (u64)selection.highWeights[bin] << 32 | selection.lowWeights[bin];
    u32 countSum = count;
    u64 weightSum = weight;
    UNROLL
    for (int distance = 1; distance < 32; distance <<= 1) {
        const u32 otherCount = shuffle_up(countSum, distance);
        const u64 otherWeight = shuffle_up(weightSum, distance);
        if (lane >= distance) countSum += otherCount, weightSum += otherWeight;
    }
    if (lane == 31) selection.warpCounts[warp] = countSum, selection.warpWeights[warp] = weightSum;
    BARRIER();
    countSum += countAbove, weightSum += weightAbove;
    for (int w = 0; w < warp; w++) countSum += selection.warpCounts[w], weightSum += selection.warpWeights[w];
    const bool reachesAfter = weightGoal ? weightSum >= weightGoal : countSum >= countGoal;
    const bool reachesBefore = weightGoal ? weightSum - weight >= weightGoal : countSum - count >= countGoal;
    if (reachesAfter && !reachesBefore) {
        selection.foundBin = bin, selection.foundCount = count;
        selection.countAbove = countSum - count, selection.weightAbove = weightSum - weight;
    }
    BARRIER();
}

// Among entries that start in order of id: the id at which the count or the weight is reached.
//
// `Entries` calls a body with (id, weight) for every entry that takes part; ids are below 2^20. Negative if the goal is
// not reached.
template <typename Entries>
DEVICE int select_id(Selection &selection, u32 countGoal, u64 weightGoal, u32 countAbove, u64 weightAbove,
                     Entries entries) {
    u32 prefix = 0;
    for (int shift = 10; shift >= 0; shift -= 10) {
        clear_bins(selection);
        entries([&](int id, u64 weight) {
            // The lower ids are in the higher bins, which are scanned first.
            const u32 reversed = 0xfffffu - (u32)id;
            if (shift == 10 || reversed >> 10 == prefix) add_to_bin(selection, reversed >> shift & 1023, weight);
        });
        BARRIER();
        find_bin(selection, countGoal, weightGoal, countAbove, weightAbove);
        if (selection.foundBin < 0) return -1;
        prefix = prefix << 10 | selection.foundBin;
        countAbove = selection.countAbove, weightAbove = selection.weightAbove;
        // Everybody has read what was found before it is cleared.
        BARRIER();
    }
    return (int)(0xfffffu - prefix);
}

// Finds the last entry of the likeliest `countGoal`, or of those whose weights reach `weightGoal`. `Entries` calls a
// body with (id, key, weight) for every entry that takes part; keys have `keyBits` bits. If all entries together do not
// reach the goal, the cut is `otherwise`.
template <int keyBits, typename Entries>
DEVICE Cut select_cut(Selection &selection, u32 countGoal, u64 weightGoal, Cut otherwise, Entries entries) {
    u32 prefix = 0, countAbove = 0, equal = 0;
    u64 weightAbove = 0;
    int remaining = keyBits;
    while (remaining > 0) {
        const int bits = remaining >= 10 ? 10 : remaining, shift = remaining - bits;
        clear_bins(selection);
        entries([&](int, u32 key, u64 weight) {
            if (remaining == keyBits || key >> remaining == prefix)
                add_to_bin(selection, key >> shift & ((1u << bits) - 1), weight);
        });
        BARRIER();
        find_bin(selection, countGoal, weightGoal, countAbove, weightAbove);
        if (selection.foundBin < 0) return otherwise;
        prefix = prefix << bits | selection.foundBin;
        countAbove = selection.countAbove, weightAbove = selection.weightAbove;
        remaining = shift, equal = selection.foundCount;
        // Everybody has read what was found before it is cleared.
        BARRIER();
    }
    Cut cut = {prefix, 0x7fffffff};
    if (equal <= 1) return cut;
    // Of entries with equal keys those with lower ids come first.
    const int id = select_id(selection, countGoal, weightGoal, countAbove, weightAbove, [&](auto body) {
        entries([&](int id, u32 key, u64 weight) {
            if (key == prefix) body(id, weight);
        });
    });
    if (id >= 0) cut.id = id;
    return cut;
}

// Sum of the weights of entries, in every thread.
template <typename Entries>
DEVICE u64 total_weight(Selection &selection, Entries entries) {
    u64 sum = 0;
    entries([&](int, u32, u64 weight) { sum += weight; });
    UNROLL
    for (int distance = 16; distance > 0; distance >>= 1) sum += shuffle_xor(sum, distance);
    if (lane_index() == 0) selection.warpWeights[warp_index()] = sum;
    BARRIER();
    u64 total = 0;
    for (int warp = 0; warp < ROW_THREADS / 32; warp++) total += selection.warpWeights[warp];
    return total;
}
