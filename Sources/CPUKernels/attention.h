// Tandem — Apache-2.0

/* Paged attention of one KV head.
 *
 * Keys are taken in chunks of 64 at multiples of 64, whatever the rows' contexts, with a running maximum and sum per
 * row (online softmax). A key that a row does not see has probability exactly 0, and a chunk without a visible key
 * leaves maximum, sum and output as they were; so the rows that share a chunk do not touch each other's bits.
 *
 * All rows of a pass (up to 48) meet a chunk while it is in the cache, in groups that share registers. bf16 blocks hold
 * pairs (of components in keys, of tokens in values) where f32 blocks hold single numbers: a step of either is four
 * bytes of a query or of probabilities against 64 bytes of the block.
 *
 * ATTENTION_ROWS     rows that share the reading of keys and values
 * ATTENTION_VECTORS  vectors of 16 keys (or 16 value components) per row held in registers */

enum { CHUNK_KEYS = 64, CHUNK_BLOCKS = 4, PASS_ROWS = 48 };

/* The state of up to 48 rows between chunks. */
struct attention_pass {
    _Alignas(64) float outputs[PASS_ROWS * TANDEM_MAX_HEAD_DIM];
    _Alignas(64) uint16_t rounded[PASS_ROWS * TANDEM_MAX_HEAD_DIM];
    /* Room for loading a whole vector from any row on. */
    _Alignas(64) float maxima[PASS_ROWS + 16];
    vf sums[PASS_ROWS];
    /* Four bytes a step. */
    const uint8_t *queries[PASS_ROWS];
    /* Of the chunk. */
    const uint8_t *keys[CHUNK_BLOCKS], *values[CHUNK_BLOCKS];
    const struct tandem_attention_row *rows;
    ptrdiff_t head_dim;
    float scale;
};

/* Rows that go through a chunk together, and the keys that any of them sees. */
struct attention_group {
    ptrdiff_t first_row, rows;
    int32_t first_key, end_key;
    /* Keys that all of them see. */
    int32_t shared_first, shared_end;
};

INLINE vf multiply_add(const bool pairs, vf sum, vf block, vf splat) {
    return pairs ? dot_bf16(sum, as_vi(block), as_vi(splat)) : vf_fma(block, splat, sum);
}

/* scores[r][key] = query_r · key for VECTORS of a chunk's blocks. */
INLINE void chunk_scores(const int R, const int VECTORS, const bool pairs, const struct attention_pass *pass,
                         ptrdiff_t first_row, int first_block, float (*scores)[CHUNK_KEYS]) {
    vf sums[ATTENTION_ROWS][ATTENTION_VECTORS];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < VECTORS; i++) sums[r][i] = vf_splat(0.0f);
    const ptrdiff_t steps = pairs ? pass->head_dim / 2 : pass->head_dim;
    const uint8_t *keys[ATTENTION_VECTORS], *queries[ATTENTION_ROWS];
    UNROLL for (int i = 0; i < VECTORS; i++) keys[i] = pass->keys[first_block + i];
    UNROLL for (int r = 0; r < R; r++) queries[r] = pass->queries[first_row + r];
    for (ptrdiff_t step = 0; step < steps; step++) {
        vf key[ATTENTION_VECTORS];
        UNROLL for (int i = 0; i < VECTORS; i++) key[i] = vf_load(keys[i] + 64 * step);
        UNROLL for (int r = 0; r < R; r++) {
            const vf q = splat_at(queries[r] + 4 * step);
            UNROLL for (int i = 0; i < VECTORS; i++) sums[r][i] = multiply_add(pairs, sums[r][i], key[i], q);
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int i = 0; i < VECTORS; i++) vf_store(scores[r] + 16 * (first_block + i), sums[r][i]);
}

/* outputs_r = outputs_r * decay_r + probabilities_r · values over the blocks, for VECTORS vectors of components. */
INLINE void chunk_values(const int R, const int VECTORS, const bool pairs, struct attention_pass *pass,
                         ptrdiff_t first_row, ptrdiff_t first_component, int first_block, int end_block, vf decays,
                         uint8_t (*probabilities)[4 * CHUNK_KEYS]) {
    const ptrdiff_t head_dim = pass->head_dim, steps = pairs ? 8 : 16;
    float *outputs = pass->outputs + first_row * head_dim + first_component;
    vf sums[ATTENTION_ROWS][ATTENTION_VECTORS];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int i = 0; i < VECTORS; i++) sums[r][i] = vf_load(outputs + r * head_dim + 16 * i) * decays[r];
    for (int block = first_block; block < end_block; block++) {
        const uint8_t *values = pass->values[block] + 4 * first_component;
        for (ptrdiff_t step = 0; step < steps; step++) {
            vf value[ATTENTION_VECTORS];
            UNROLL for (int i = 0; i < VECTORS; i++) value[i] = vf_load(values + 4 * step * head_dim + 64 * i);
            UNROLL for (int r = 0; r < R; r++) {
                const vf p = splat_at(probabilities[r] + 4 * (steps * block + step));
                UNROLL for (int i = 0; i < VECTORS; i++) sums[r][i] = multiply_add(pairs, sums[r][i], value[i], p);
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int i = 0; i < VECTORS; i++) vf_store(outputs + r * head_dim + 16 * i, sums[r][i]);
}

/* 2^x for x at most 0, relative error below 3e-6, exactly 1 at 0; 0 below the normal range. Probabilities that become
 * bf16 need no more. */
INLINE vf vf_exp2_coarse(vf x) {
    const vf shifted = x + ROUNDING_MAGIC;
    const vf f = x - (shifted - ROUNDING_MAGIC);
    vf p = vf_fma(f, vf_splat(0.009582852944731712f), vf_splat(0.055906426161527634f));
    p = vf_fma(p, f, vf_splat(0.24024099111557007f));
    p = vf_fma(p, f, vf_splat(0.6931241750717163f));
    p = vf_fma(p, f, vf_splat(1.0f));
    const vu exponent = __builtin_bit_cast(vu, shifted) << 23;
    return as_vf(__builtin_bit_cast(vi, __builtin_bit_cast(vu, p) + exponent) & (x >= -126.0f));
}

INLINE vf attention_exp(const bool pairs, vf x) { return pairs ? vf_exp2_coarse(x) : vf_exp(x); }

/* Scores become probabilities relative to the new maximum; returns, for each row, the factor of what was summed
 * before. bf16 scores are binary logarithms. */
INLINE vf chunk_softmax(const int R, const bool pairs, const bool masked, struct attention_pass *pass,
                        ptrdiff_t first_row, int32_t first_key, float (*scores)[CHUNK_KEYS],
                        uint8_t (*probabilities)[4 * CHUNK_KEYS]) {
    const vi lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    float *maxima = pass->maxima + first_row;
    const vf old_maxima = vf_load(maxima);
    UNROLL for (int r = 0; r < R; r++) {
        vf s[CHUNK_BLOCKS];
        UNROLL for (int i = 0; i < CHUNK_BLOCKS; i++) {
            s[i] = vf_load(scores[r] + 16 * i);
            if (!pairs) s[i] *= pass->scale;
            if (masked) {
                const vi key = lanes + (first_key + 16 * i);
                const vi visible = (key >= pass->rows[first_row + r].window_start) &
                                   (key < pass->rows[first_row + r].context);
                s[i] = vf_select(visible, s[i], vf_splat(-__builtin_inff()));
            }
            if (masked || !pairs) vf_store(scores[r] + 16 * i, s[i]);
        }
        const float largest = vf_largest(vf_max(vf_max(s[0], s[1]), vf_max(s[2], s[3])));
        maxima[r] = largest > maxima[r] ? largest : maxima[r];
    }
    const vf decays = attention_exp(pairs, old_maxima - vf_load(maxima));
    UNROLL for (int r = 0; r < R; r++) {
        vf p[CHUNK_BLOCKS], sum = pass->sums[first_row + r] * decays[r];
        UNROLL for (int i = 0; i < CHUNK_BLOCKS; i++) {
            p[i] = attention_exp(pairs, vf_load(scores[r] + 16 * i) - maxima[r]);
            if (pairs) store_bf16(probabilities[r] + 32 * i, p[i]);
            else vf_store(probabilities[r] + 64 * i, p[i]);
        }
        if (pairs) {
            /* What is summed is what values are multiplied by, so that rounding cancels where values agree. */
            const vi ones = vi_splat(0x3f803f80);
            sum = dot_bf16(sum, as_vi(vf_load(probabilities[r])), ones);
            sum = dot_bf16(sum, as_vi(vf_load(probabilities[r] + 64)), ones);
        } else {
            sum += (p[0] + p[1]) + (p[2] + p[3]);
        }
        pass->sums[first_row + r] = sum;
    }
    return decays;
}

INLINE void group_chunk(const int R, const bool pairs, struct attention_pass *pass,
                        const struct attention_group *group, int32_t chunk) {
    _Alignas(64) float scores[ATTENTION_ROWS][CHUNK_KEYS];
    _Alignas(64) uint8_t probabilities[ATTENTION_ROWS][4 * CHUNK_KEYS];
    const ptrdiff_t first_row = group->first_row;
    const int first_block = (group->first_key > chunk ? group->first_key - chunk : 0) / 16;
    const int end_block = group->end_key - chunk < CHUNK_KEYS ? (group->end_key - chunk + 15) / 16 : CHUNK_BLOCKS;
    const bool masked = group->shared_first > chunk || group->shared_end < chunk + CHUNK_KEYS;
    vf decays;
    if (masked) {
        enum { VECTORS = ATTENTION_VECTORS < 2 ? 1 : 2 };
        memset(scores, 0, sizeof scores);
        for (int block = first_block / VECTORS * VECTORS; block < end_block; block += VECTORS)
            chunk_scores(R, VECTORS, pairs, pass, first_row, block, scores);
        decays = chunk_softmax(R, pairs, true, pass, first_row, chunk, scores, probabilities);
    } else {
        for (int block = 0; block < CHUNK_BLOCKS; block += ATTENTION_VECTORS)
            chunk_scores(R, ATTENTION_VECTORS, pairs, pass, first_row, block, scores);
        decays = chunk_softmax(R, pairs, false, pass, first_row, chunk, scores, probabilities);
    }
    ptrdiff_t component = 0;
    for (; component + 16 * ATTENTION_VECTORS <= pass->head_dim; component += 16 * ATTENTION_VECTORS)
        chunk_values(R, ATTENTION_VECTORS, pairs, pass, first_row, component, first_block, end_block, decays,
                     probabilities);
    for (; component < pass->head_dim; component += 16)
        chunk_values(R, 1, pairs, pass, first_row, component, first_block, end_block, decays, probabilities);
}

typedef void (*group_chunk_function)(struct attention_pass *, const struct attention_group *, int32_t chunk);

#define ATTENTION_GROUP(R) \
    static void group_chunk_bf16_##R(struct attention_pass *pass, const struct attention_group *group, \
                                     int32_t chunk) { \
        group_chunk(R, true, pass, group, chunk); \
    } \
    static void group_chunk_f32_##R(struct attention_pass *pass, const struct attention_group *group, \
                                    int32_t chunk) { \
        group_chunk(R, false, pass, group, chunk); \
    }
ATTENTION_GROUP(1)
ATTENTION_GROUP(2)
#if ATTENTION_ROWS >= 4
ATTENTION_GROUP(3)
ATTENTION_GROUP(4)
#endif
#if ATTENTION_ROWS >= 6
ATTENTION_GROUP(5)
ATTENTION_GROUP(6)
#endif

/* bf16 queries take the scale along, with the factor that makes logarithms binary. */
INLINE void start_row(const bool pairs, struct attention_pass *pass, ptrdiff_t row) {
    const ptrdiff_t head_dim = pass->head_dim;
    const float *query = pass->rows[row].query;
    pass->queries[row] = (const uint8_t *)query;
    if (pairs) {
        uint16_t *rounded = pass->rounded + row * head_dim;
        for (ptrdiff_t d = 0; d < head_dim; d += 16)
            store_bf16(rounded + d, vf_load(query + d) * (pass->scale * 1.44269504088896341f));
        pass->queries[row] = (const uint8_t *)rounded;
    }
    /* Finite, so that a chunk without a visible key computes exp(0) and not inf - inf. */
    pass->maxima[row] = -1e30f;
    pass->sums[row] = vf_splat(0.0f);
    memset(pass->outputs + row * head_dim, 0, (size_t)head_dim * sizeof(float));
}

INLINE struct attention_group make_group(const struct tandem_attention_row *rows, ptrdiff_t first, ptrdiff_t end) {
    struct attention_group group = {
        .first_row = first, .rows = end - first, .first_key = INT32_MAX, .shared_end = INT32_MAX};
    for (ptrdiff_t r = first; r < end; r++) {
        const int32_t start = rows[r].window_start, context = rows[r].context;
        group.first_key = start < group.first_key ? start : group.first_key;
        group.shared_first = start > group.shared_first ? start : group.shared_first;
        group.end_key = context > group.end_key ? context : group.end_key;
        group.shared_end = context < group.shared_end ? context : group.shared_end;
    }
    return group;
}

INLINE void attention_rows(const bool pairs, const group_chunk_function *functions,
                           const struct tandem_attention *attention, const struct tandem_attention_row *rows,
                           ptrdiff_t count) {
    struct attention_pass pass;
    struct attention_group groups[PASS_ROWS];
    const ptrdiff_t head_dim = attention->head_dim;
    pass.rows = rows;
    pass.head_dim = head_dim;
    pass.scale = attention->scale;
    memset(pass.maxima + count, 0, 16 * sizeof(float));
    for (ptrdiff_t row = 0; row < count; row++) start_row(pairs, &pass, row);
    /* As even as possible: 8 rows are 4 + 4, not 6 + 2. */
    const ptrdiff_t group_count = (count + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    for (ptrdiff_t i = 0; i < group_count; i++)
        groups[i] = make_group(rows, count * i / group_count, count * (i + 1) / group_count);
    const struct attention_group all = make_group(rows, 0, count);
    for (int32_t chunk = all.first_key / CHUNK_KEYS * CHUNK_KEYS; chunk < all.end_key; chunk += CHUNK_KEYS) {
        /* Blocks of the chunk that no row sees may not exist: a needed one stands in, its keys are masked. */
        const int32_t first_block = (all.first_key > chunk ? all.first_key - chunk : 0) / 16;
        const int32_t last_block = (all.end_key - chunk < CHUNK_KEYS ? all.end_key - chunk - 1 : CHUNK_KEYS - 1) / 16;
        for (int32_t i = 0; i < CHUNK_BLOCKS; i++) {
            const int32_t block = i < first_block ? first_block : i > last_block ? last_block : i;
            const ptrdiff_t id = attention->block_table[chunk / 16 + block];
            pass.keys[i] = (const uint8_t *)attention->keys + id * attention->key_block_stride;
            pass.values[i] = (const uint8_t *)attention->values + id * attention->value_block_stride;
        }
        for (ptrdiff_t i = 0; i < group_count; i++)
            if (groups[i].first_key < chunk + CHUNK_KEYS && groups[i].end_key > chunk)
                functions[groups[i].rows - 1](&pass, &groups[i], chunk);
    }
    for (ptrdiff_t row = 0; row < count; row++) {
        const float factor = 1.0f / vf_sum(pass.sums[row]);
        /* Adding +0 turns -0 into +0: masked values may have changed a zero's sign. */
        for (ptrdiff_t i = 0; i < head_dim; i += 16)
            vf_store(rows[row].out + i, vf_load(pass.outputs + row * head_dim + i) * factor + 0.0f);
    }
}

INLINE void attention_passes(const bool pairs, const group_chunk_function *functions,
                             const struct tandem_attention *attention, const struct tandem_attention_row *rows,
                             ptrdiff_t count) {
    for (ptrdiff_t row = 0; row < count; row += PASS_ROWS)
        attention_rows(pairs, functions, attention, rows + row, count - row < PASS_ROWS ? count - row : PASS_ROWS);
}

static void attention_bf16(const struct tandem_attention *attention, const struct tandem_attention_row *rows,
                           ptrdiff_t count) {
    static const group_chunk_function functions[] = {
        group_chunk_bf16_1, group_chunk_bf16_2,
#if ATTENTION_ROWS >= 4
        group_chunk_bf16_3, group_chunk_bf16_4,
#endif
#if ATTENTION_ROWS >= 6
        group_chunk_bf16_5, group_chunk_bf16_6,
#endif
    };
    attention_passes(true, functions, attention, rows, count);
}

static void attention_f32(const struct tandem_attention *attention, const struct tandem_attention_row *rows,
                          ptrdiff_t count) {
    static const group_chunk_function functions[] = {
        group_chunk_f32_1, group_chunk_f32_2,
#if ATTENTION_ROWS >= 4
        group_chunk_f32_3, group_chunk_f32_4,
#endif
#if ATTENTION_ROWS >= 6
        group_chunk_f32_5, group_chunk_f32_6,
#endif
    };
    attention_passes(false, functions, attention, rows, count);
}

static void kv_store_bf16(const float *key, const float *value, ptrdiff_t head_dim, ptrdiff_t slot, void *key_block,
                          void *value_block) {
    /* Pairs of components of one key, and one half of the pairs of a value: the other half is another token's, which
     * another thread may be storing. */
    uint8_t *keys = (uint8_t *)key_block + 4 * slot;
    uint16_t *values = (uint16_t *)value_block + slot / 2 * 2 * head_dim + slot % 2;
    for (ptrdiff_t d = 0; d < head_dim; d += 16) {
        uint16_t rounded[16];
        store_bf16(rounded, vf_clamp(vf_load(key + d), BF16_LARGEST));
        UNROLL for (int i = 0; i < 8; i++) memcpy(keys + 64 * (d / 2 + i), rounded + 2 * i, 4);
        store_bf16(rounded, vf_clamp(vf_load(value + d), BF16_LARGEST));
        UNROLL for (int i = 0; i < 16; i++) values[2 * (d + i)] = rounded[i];
    }
}

static void kv_store_f32(const float *key, const float *value, ptrdiff_t head_dim, ptrdiff_t slot, void *key_block,
                         void *value_block) {
    float *keys = (float *)key_block + slot, *values = (float *)value_block + slot * head_dim;
    for (ptrdiff_t d = 0; d < head_dim; d += 16) {
        const vf k = vf_clamp(vf_load(key + d), 0x1.fffffep127f);
        UNROLL for (int i = 0; i < 16; i++) keys[16 * (d + i)] = k[i];
        vf_store(values + d, vf_clamp(vf_load(value + d), 0x1.fffffep127f));
    }
}
