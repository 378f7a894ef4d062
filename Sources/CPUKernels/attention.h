// Tandem — Apache-2.0

/* Paged attention of one KV head.
 *
 * Keys are taken in chunks of 64 at multiples of 64, whatever the rows' contexts, with a running maximum and sum per
 * row (online softmax). A key that a row does not see has probability exactly 0, and a chunk without a visible key
 * leaves maximum, sum and accumulator as they were; so the rows that share a chunk do not touch each other's bits.
 *
 * ATTENTION_ROWS     rows that share the reading of keys and values
 * ATTENTION_VECTORS  vectors of 16 keys (or 16 value components) per row held in registers */

enum { CHUNK_KEYS = 64, CHUNK_BLOCKS = 4 };

INLINE vf load_kv(const bool half, const char *base, ptrdiff_t element) {
    return half ? vf_from_half(base + 2 * element) : vf_load(base + 4 * element);
}

/* scores[r][key] = query_r · key for VECTORS of a chunk's blocks. */
INLINE void chunk_scores(const int R, const int VECTORS, const bool half, const float *const *queries,
                         const char *const *keys, ptrdiff_t head_dim, int first_vector, float (*scores)[CHUNK_KEYS]) {
    vf sums[ATTENTION_ROWS][ATTENTION_VECTORS];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < VECTORS; i++) sums[r][i] = vf_splat(0.0f);
    for (ptrdiff_t d = 0; d < head_dim; d++) {
        vf key[ATTENTION_VECTORS];
        UNROLL for (int i = 0; i < VECTORS; i++) key[i] = load_kv(half, keys[first_vector + i], 16 * d);
        UNROLL for (int r = 0; r < R; r++) {
            const vf q = vf_splat(queries[r][d]);
            UNROLL for (int i = 0; i < VECTORS; i++) sums[r][i] = vf_fma(q, key[i], sums[r][i]);
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int i = 0; i < VECTORS; i++) vf_store(scores[r] + 16 * (first_vector + i), sums[r][i]);
}

/* sums[r] = sums[r] * decay_r + probabilities_r · values over `blocks` blocks, for VECTORS vectors of components. */
INLINE void chunk_values(const int R, const int VECTORS, const bool half, const char *const *values, ptrdiff_t head_dim,
                         ptrdiff_t first_component, int first_block, int end_block, const float *decays,
                         float (*probabilities)[CHUNK_KEYS], float (*outputs)[TANDEM_MAX_HEAD_DIM]) {
    vf sums[ATTENTION_ROWS][ATTENTION_VECTORS];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int i = 0; i < VECTORS; i++)
            sums[r][i] = vf_load(outputs[r] + first_component + 16 * i) * decays[r];
    for (int block = first_block; block < end_block; block++) {
        const char *base = values[block];
        for (int t = 0; t < 16; t++) {
            vf value[ATTENTION_VECTORS];
            UNROLL for (int i = 0; i < VECTORS; i++)
                value[i] = load_kv(half, base, t * head_dim + first_component + 16 * i);
            UNROLL for (int r = 0; r < R; r++) {
                const vf p = vf_splat(probabilities[r][16 * block + t]);
                UNROLL for (int i = 0; i < VECTORS; i++) sums[r][i] = vf_fma(p, value[i], sums[r][i]);
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int i = 0; i < VECTORS; i++) vf_store(outputs[r] + first_component + 16 * i, sums[r][i]);
}

/* Scores of one row become probabilities relative to the new maximum; returns the factor of what was summed before. */
INLINE float chunk_softmax(const struct tandem_attention_row *row, float scale, int32_t first_key, float *scores,
                           float *maximum, float *sum) {
    const vi lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vf s[CHUNK_BLOCKS];
    UNROLL for (int i = 0; i < CHUNK_BLOCKS; i++) {
        const vi key = lanes + (first_key + 16 * i);
        const vi visible = (key >= row->window_start) & (key < row->context);
        s[i] = vf_select(visible, vf_load(scores + 16 * i) * scale, vf_splat(-__builtin_inff()));
    }
    const float chunk_maximum = vf_largest(vf_max(vf_max(s[0], s[1]), vf_max(s[2], s[3])));
    const float new_maximum = chunk_maximum > *maximum ? chunk_maximum : *maximum;
    const float decay = vf_exp(vf_splat(*maximum - new_maximum))[0];
    UNROLL for (int i = 0; i < CHUNK_BLOCKS; i++) {
        s[i] = vf_exp(s[i] - new_maximum);
        vf_store(scores + 16 * i, s[i]);
    }
    *sum = *sum * decay + vf_sum((s[0] + s[1]) + (s[2] + s[3]));
    *maximum = new_maximum;
    return decay;
}

INLINE void attention_group(const int R, const bool half, const struct tandem_attention *attention,
                            const struct tandem_attention_row *rows) {
    _Alignas(64) float scores[ATTENTION_ROWS][CHUNK_KEYS];
    _Alignas(64) float outputs[ATTENTION_ROWS][TANDEM_MAX_HEAD_DIM];
    float maxima[ATTENTION_ROWS], sums[ATTENTION_ROWS], decays[ATTENTION_ROWS];
    const float *queries[ATTENTION_ROWS];
    const ptrdiff_t head_dim = attention->head_dim;
    int32_t first_key = INT32_MAX, end_key = 0;
    for (int r = 0; r < R; r++) {
        queries[r] = rows[r].query;
        /* Finite, so that a chunk without a visible key computes exp(0) and not inf - inf. */
        maxima[r] = -1e30f;
        sums[r] = 0.0f;
        memset(outputs[r], 0, (size_t)head_dim * sizeof(float));
        first_key = rows[r].window_start < first_key ? rows[r].window_start : first_key;
        end_key = rows[r].context > end_key ? rows[r].context : end_key;
    }
    for (int32_t chunk = first_key / CHUNK_KEYS * CHUNK_KEYS; chunk < end_key; chunk += CHUNK_KEYS) {
        /* Blocks of the chunk that no row sees may not exist: a needed one stands in, its keys are masked. */
        const int32_t first_block = (first_key > chunk ? first_key - chunk : 0) / 16;
        const int32_t last_block = (end_key - chunk < CHUNK_KEYS ? end_key - chunk - 1 : CHUNK_KEYS - 1) / 16;
        const char *keys[CHUNK_BLOCKS], *values[CHUNK_BLOCKS];
        for (int32_t i = 0; i < CHUNK_BLOCKS; i++) {
            const int32_t block = i < first_block ? first_block : i > last_block ? last_block : i;
            const ptrdiff_t id = attention->block_table[chunk / 16 + block];
            keys[i] = (const char *)attention->keys + id * attention->key_block_stride;
            values[i] = (const char *)attention->values + id * attention->value_block_stride;
        }
        for (int i = 0; i < CHUNK_BLOCKS; i += ATTENTION_VECTORS)
            chunk_scores(R, ATTENTION_VECTORS, half, queries, keys, head_dim, i, scores);
        for (int r = 0; r < R; r++)
            decays[r] = chunk_softmax(&rows[r], attention->scale, chunk, scores[r], &maxima[r], &sums[r]);
        ptrdiff_t component = 0;
        for (; component + 16 * ATTENTION_VECTORS <= head_dim; component += 16 * ATTENTION_VECTORS)
            chunk_values(R, ATTENTION_VECTORS, half, values, head_dim, component, first_block, last_block + 1, decays,
                         scores, outputs);
        for (; component < head_dim; component += 16)
            chunk_values(R, 1, half, values, head_dim, component, first_block, last_block + 1, decays, scores, outputs);
    }
    for (int r = 0; r < R; r++) {
        const float factor = 1.0f / sums[r];
        /* Adding +0 turns -0 into +0: masked values may have changed a zero's sign. */
        for (ptrdiff_t i = 0; i < head_dim; i += 16)
            vf_store(rows[r].out + i, vf_load(outputs[r] + i) * factor + 0.0f);
    }
}

#define ATTENTION_GROUP(R) \
    static void attention_f16_##R(const struct tandem_attention *a, const struct tandem_attention_row *rows) { \
        attention_group(R, true, a, rows); \
    } \
    static void attention_f32_##R(const struct tandem_attention *a, const struct tandem_attention_row *rows) { \
        attention_group(R, false, a, rows); \
    }
ATTENTION_GROUP(1)
ATTENTION_GROUP(2)
#if ATTENTION_ROWS >= 6
ATTENTION_GROUP(3)
ATTENTION_GROUP(4)
ATTENTION_GROUP(5)
ATTENTION_GROUP(6)
#endif

typedef void (*attention_group_function)(const struct tandem_attention *, const struct tandem_attention_row *);

INLINE void attention_groups(const attention_group_function *groups, const struct tandem_attention *attention,
                             const struct tandem_attention_row *rows, ptrdiff_t count) {
    for (ptrdiff_t left = count; left > 0;) {
        /* As even as possible: 8 rows are 4 + 4, not 6 + 2. */
        const ptrdiff_t group_count = (left + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
        const ptrdiff_t group = (left + group_count - 1) / group_count;
        groups[group - 1](attention, rows);
        rows += group;
        left -= group;
    }
}

static void attention_f16(const struct tandem_attention *attention, const struct tandem_attention_row *rows,
                          ptrdiff_t count) {
    static const attention_group_function groups[] = {
        attention_f16_1, attention_f16_2,
#if ATTENTION_ROWS >= 6
        attention_f16_3, attention_f16_4, attention_f16_5, attention_f16_6,
#endif
    };
    attention_groups(groups, attention, rows, count);
}

static void attention_f32(const struct tandem_attention *attention, const struct tandem_attention_row *rows,
                          ptrdiff_t count) {
    static const attention_group_function groups[] = {
        attention_f32_1, attention_f32_2,
#if ATTENTION_ROWS >= 6
        attention_f32_3, attention_f32_4, attention_f32_5, attention_f32_6,
#endif
    };
    attention_groups(groups, attention, rows, count);
}

static void kv_store_f16(const float *key, const float *value, ptrdiff_t head_dim, ptrdiff_t slot, void *key_block,
                         void *value_block) {
    uint16_t *keys = (uint16_t *)key_block + slot, *values = (uint16_t *)value_block + slot * head_dim;
    for (ptrdiff_t d = 0; d < head_dim; d += 16) {
        uint16_t halves[16];
        vf_to_half(halves, vf_clamp(vf_load(key + d), HALF_LARGEST));
        UNROLL for (int i = 0; i < 16; i++) keys[16 * (d + i)] = halves[i];
        vf_to_half(values + d, vf_clamp(vf_load(value + d), HALF_LARGEST));
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
