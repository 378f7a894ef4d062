// Tandem — Apache-2.0
#ifndef TANDEM_CPU_KERNELS_H
#define TANDEM_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/* Numeric kernels of the CPU executor.
 *
 * Nothing here allocates, locks or starts a thread. A kernel is a plain function of its arguments; the caller splits
 * work over threads by panels (16 output features), rows or heads.
 *
 * Exactness. The bits of one result row depend on the inner dimension, the context position and the instruction set
 * (`tandem_isa`) alone: never on how many rows are computed together, on how the caller splits panels, or on which
 * other rows share an attention call. Every output has one accumulator and one order of summation at all shapes.
 * `fma` below rounds once; plain C, where the processor may lack it, rounds the product and the sum.
 *
 * Alignment. Packed weight bases, KV block bases, int8 and bf16 activation bases: 64 bytes. Row strides of int8 and
 * bf16 activations come from the functions below and keep that alignment. Plain float rows: 4 bytes (64 is faster).
 * Pointers must not overlap unless a comment says "in place".
 */

/* MARK: - Weight panels
 *
 * A weight matrix has N rows (output features) and K columns (the inner dimension). It is stored as panels of 16
 * features; panel p holds the features 16p ..< 16p+16, and everything of one panel is contiguous along K, so that a
 * matrix-vector product reads one ascending stream. Features beyond N are zero. Panel p starts at
 * base + p * panel_bytes(K); every panel size is a multiple of 64 bytes.
 *
 * INT8, 4-bit weights (`u4`; from Q4_0 and Q4_1). K is a multiple of 32. w = d * u + m, u in 0...15, d and m are f16
 * per feature and block of 32 along K. One block of one panel is 320 bytes:
 *      0  256 bytes of quants: byte 64*j + 4*f + i (j, i in 0..<4, f = feature in 0..<16) holds k = 4*j + i in its low
 *         nibble and k = 16 + 4*j + i in its high nibble
 *    256  16 d (f16), 288  16 m (f16)
 * INT8, 5-bit weights (`u5`): as u4 with u in 0...31. One block of one panel is 384 bytes:
 *      0  256 bytes of the low four bits of the quants, as in u4
 *    256  8 words of 64 bits: bit 4*f + i of word j (j in 0..<8) is bit 4 of the quant of k = 4*j + i
 *    320  16 d (f16), 352  16 m (f16)
 * INT8, 8-bit weights (`u8`; from Q8_0 and floats): w = d * u + m, u in 0...255. K is padded to a multiple of 32 with
 * d = m = 0. One block of one panel is 576 bytes:
 *      0  512 bytes of quants: byte 64*j + 4*f + i (j in 0..<8) holds k = 4*j + i
 *    512  16 d (f16), 544  16 m (f16)
 * BF16: K is padded to an even number with zeros; pair j of one panel is 64 bytes: bf16 at 64*j + 4*f + 2*i holds
 *    k = 2*j + i.
 * F32: column k of one panel is 64 bytes: float at 64*k + 4*f.
 */

/** Output features in one panel. */
#define TANDEM_PANEL_FEATURES 16
/** Weights along K that share one scale. */
#define TANDEM_QUANT_BLOCK 32
/** Tokens in one KV block. */
#define TANDEM_KV_BLOCK_TOKENS 16
/** Largest head dimension the attention kernels take (a multiple of 16). */
#define TANDEM_MAX_HEAD_DIM 256
/** Largest k of `top_k`. */
#define TANDEM_MAX_TOP_K 64

/** The number of panels of a matrix with n output features. */
static inline ptrdiff_t tandem_panel_count(ptrdiff_t n) { return (n + 15) / 16; }
/** Bytes of one u4 panel; k must be a multiple of 32. */
static inline ptrdiff_t tandem_panel_bytes_u4(ptrdiff_t k) { return (k + 31) / 32 * 320; }
/** Bytes of one u5 panel; k must be a multiple of 32. */
static inline ptrdiff_t tandem_panel_bytes_u5(ptrdiff_t k) { return (k + 31) / 32 * 384; }
/** Bytes of one u8 panel. */
static inline ptrdiff_t tandem_panel_bytes_u8(ptrdiff_t k) { return (k + 31) / 32 * 576; }
/** Bytes of one bf16 panel. */
static inline ptrdiff_t tandem_panel_bytes_bf16(ptrdiff_t k) { return (k + 1) / 2 * 64; }
/** Bytes of one f32 panel. */
static inline ptrdiff_t tandem_panel_bytes_f32(ptrdiff_t k) { return k * 64; }

/* MARK: - Activation rows
 *
 * INT8 row: for each block of 32 along K (the last one zero padded) 40 bytes: 32 signed quants a, a float scale s
 * (max|x| / 127), a float s * sum(a). The row is padded to a multiple of 64 bytes.
 * INT16 row: two INT8 rows, the second for what the rounding of the first left; a product is that of one plus that of
 * the other, so the INT8 products take it in two calls.
 * BF16 row: K bf16, zero padded to a multiple of 64 bytes.
 * F32 row: K floats, used as they are.
 */

/** Bytes from one int8 activation row to the next. */
static inline ptrdiff_t tandem_row_bytes_int8(ptrdiff_t k) { return ((k + 31) / 32 * 40 + 63) / 64 * 64; }
/** Bytes from one bf16 activation row to the next. */
static inline ptrdiff_t tandem_row_bytes_bf16(ptrdiff_t k) { return (2 * k + 63) / 64 * 64; }

/* MARK: - KV blocks
 *
 * One block of one layer and KV head holds 16 tokens, in bf16 or f32. f32: keys as [head_dim][16 tokens], values as
 * [16 tokens][head_dim]. bf16, in pairs: keys as [head_dim / 2][16 tokens][2 components], values as
 * [8 pairs of tokens][head_dim][2 tokens]. Pools are zeroed by the caller once; stored values are always finite (the
 * store clamps), so stale slots are harmless.
 */

/** Bytes of the keys (and as many for the values) of one block of one KV head. */
static inline ptrdiff_t tandem_kv_block_bytes_bf16(ptrdiff_t head_dim) { return head_dim * 16 * 2; }
/** See `tandem_kv_block_bytes_bf16`. */
static inline ptrdiff_t tandem_kv_block_bytes_f32(ptrdiff_t head_dim) { return head_dim * 16 * 4; }

/** One query row of an attention call: one token and one query head. */
struct tandem_attention_row {
    /** head_dim floats, already rotated. */
    const float *query;
    /** head_dim floats; may be the same memory as `query`. */
    float *out;
    /** The row sees the keys window_start ..< context; context = its position + 1, at least 1. */
    int32_t context;
    /** The first visible key; 0 without a sliding window. Must be less than context. */
    int32_t window_start;
};

/** One attention call: one sequence, one layer, one KV head. */
struct tandem_attention {
    /** Block ids of the sequence: key t lives in block block_table[t / 16], slot t % 16. Only entries that hold a
     *  visible key of some row are read. */
    const int32_t *block_table;
    /** Keys of block b of this layer and head: (const char *)keys + b * key_block_stride. 64-byte aligned. */
    const void *keys;
    /** Values likewise. */
    const void *values;
    /** Bytes between consecutive block ids in the key pool; a multiple of 32. */
    ptrdiff_t key_block_stride;
    /** Bytes between consecutive block ids in the value pool; a multiple of 32. */
    ptrdiff_t value_block_stride;
    /** A multiple of 16, at most 256. */
    ptrdiff_t head_dim;
    /** Factor of query·key, usually 1 / sqrt(head_dim). */
    float scale;
};

/* MARK: - Dispatch */

/** Instruction sets, ascending. */
enum tandem_isa {
    /** Plain C; the only one on other than x86-64 machines. */
    tandem_isa_portable = 0,
    /** AVX2 with FMA and F16C. */
    tandem_isa_avx2 = 1,
    /** AVX-512 F, BW, VL, DQ, VNNI and BF16. */
    tandem_isa_avx512 = 2,
};

/** Flags of the matrix products: 0 stores the dot product; `TANDEM_MATMUL_ACCUMULATE` adds it to what `out` holds, as
 *  one float addition after the whole dot product (a residual connection). */
#define TANDEM_MATMUL_ACCUMULATE 1

/* out[m * out_stride + n] for m in 0 ..< rows and the features n of the panels panel_begin ..< panel_end that are less
 * than `n` (the true feature count; nothing is written beyond it).
 *   packed       base of the whole packed matrix (panel 0)
 *   k            inner dimension, as given to the pack function
 *   activations  row 0; activation_stride bytes to the next row
 *   out          row 0, feature 0 of the matrix; out_stride floats to the next row */
typedef void (*tandem_matmul)(const void *packed, ptrdiff_t k, ptrdiff_t n, ptrdiff_t panel_begin, ptrdiff_t panel_end,
                              const void *activations, ptrdiff_t rows, ptrdiff_t activation_stride, float *out,
                              ptrdiff_t out_stride, uint32_t flags);

/* Packs panels panel_begin ..< panel_end of an n x k matrix. Feature f is read from source row
 * row_order ? row_order[f] : f, which starts at (const char *)source + row * source_stride (bytes) and holds k weights
 * in the named format (GGUF block bytes, or floats). `packed` is the base of the whole packed matrix (panel 0). To pack
 * from a scratch of 16 rows pass the panel's own address, n = rows in the scratch and the panels 0 ..< 1. */
typedef void (*tandem_pack)(const void *source, ptrdiff_t source_stride, const int32_t *_Nullable row_order,
                            ptrdiff_t n, ptrdiff_t k, ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed);

/* Packs panels panel_begin ..< panel_end of an n x k matrix given as w = scale * quant + minimum, with a scale and a
 * minimum for each 32 weights along K. As in `tandem_pack`, feature f is read from source row
 * row_order ? row_order[f] : f, and one panel may be packed from a scratch of 16 rows.
 *   quants           one byte a weight, row r at quants + r * k; bits that the panel format lacks are dropped
 *   scales, minima   row r at r * b floats, b = (k + 31) / 32 blocks a row; clamped to finite f16 (NaN too) */
typedef void (*tandem_pack_affine)(const uint8_t *quants, const float *scales, const float *minima,
                                   const int32_t *_Nullable row_order, ptrdiff_t n, ptrdiff_t k,
                                   ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed);

/* Reads feature `feature` of a packed matrix back as k floats (a tied head is the embedding table too). */
typedef void (*tandem_unpack_row)(const void *packed, ptrdiff_t k, ptrdiff_t feature, float *out);

/** One instruction set's kernels. */
struct tandem_kernels {
    /** Which instruction set this is. */
    enum tandem_isa isa;
    /** Its name: "portable", "avx2", "avx512". */
    const char *name;

    /* Packing. */
    /** Q4_0 (18-byte blocks) to u4 panels: m = -8 d. */
    tandem_pack pack_u4_from_q4_0;
    /** Q4_1 (20-byte blocks) to u4 panels. */
    tandem_pack pack_u4_from_q4_1;
    /** Q8_0 (34-byte blocks) to u8 panels: u = q + 128, m = -128 d. */
    tandem_pack pack_u8_from_q8_0;
    /** Floats to u8 panels: per block d = max|w| / 127 rounded to f16, u = round(w / d) + 128. */
    tandem_pack pack_u8_from_f32;
    /** Affine blocks to u4 panels; k is a multiple of 32. */
    tandem_pack_affine pack_u4_from_affine;
    /** Affine blocks to u5 panels; k is a multiple of 32. */
    tandem_pack_affine pack_u5_from_affine;
    /** Affine blocks to u8 panels. */
    tandem_pack_affine pack_u8_from_affine;
    /** Floats to bf16 panels, round to nearest even. */
    tandem_pack pack_bf16_from_f32;
    /** Floats to f32 panels. */
    tandem_pack pack_f32_from_f32;

    /** A feature of u4 panels as floats. */
    tandem_unpack_row unpack_row_u4;
    /** A feature of u5 panels as floats. */
    tandem_unpack_row unpack_row_u5;
    /** A feature of u8 panels as floats. */
    tandem_unpack_row unpack_row_u8;
    /** A feature of bf16 panels as floats. */
    tandem_unpack_row unpack_row_bf16;
    /** A feature of f32 panels as floats. */
    tandem_unpack_row unpack_row_f32;

    /* Activations. */
    /** k floats to an int8 activation row (see above), round to nearest even. */
    void (*quantize_row_int8)(const float *x, ptrdiff_t k, void *out);
    /** k floats to two int8 activation rows, one after the other: the second one holds what the first one's rounding
     *  left, so that their products add up to those of a row of about 16 bits. */
    void (*quantize_row_int16)(const float *x, ptrdiff_t k, void *out);
    /** k floats to a bf16 activation row, round to nearest even, padding written. */
    void (*round_row_bf16)(const float *x, ptrdiff_t k, void *out);

    /* Matrix products. */
    /** u4 panels times int8 rows. Per block in order: acc = fma(float(sum u*a), d*s, acc), then
     *  acc = fma(m, s*sum(a), acc). */
    tandem_matmul matmul_int8_u4;
    /** u5 panels times int8 rows; the same order. */
    tandem_matmul matmul_int8_u5;
    /** u8 panels times int8 rows; the same order. */
    tandem_matmul matmul_int8_u8;
    /** bf16 panels times bf16 rows, f32 accumulation, pairs of k in order. */
    tandem_matmul matmul_bf16;
    /** f32 panels times float rows, k in order. activation_stride is in bytes here too. */
    tandem_matmul matmul_f32;

    /* Row operations. `out` may be `x` (or `gate`). */
    /** out = x / sqrt(mean(x^2) + epsilon) * weight. */
    void (*rmsnorm)(const float *x, const float *weight, ptrdiff_t n, float epsilon, float *out);
    /** Rotates `count` consecutive heads of head_dim floats in place (half-split layout: x[i] with x[i + head_dim/2])
     *  by the head_dim/2 cosines and sines of one position. */
    void (*rope_rows)(float *x, ptrdiff_t count, ptrdiff_t head_dim, const float *cosines, const float *sines);
    /** out = silu(gate) * up. */
    void (*silu_mul)(const float *gate, const float *up, ptrdiff_t n, float *out);
    /** out = gelu(gate) * up, tanh approximation. */
    void (*gelu_tanh_mul)(const float *gate, const float *up, ptrdiff_t n, float *out);
    /** x += y. */
    void (*add)(float *x, const float *y, ptrdiff_t n);
    /** Floats to f16, round to nearest even. */
    void (*f16_from_f32)(const float *x, ptrdiff_t n, uint16_t *out);
    /** f16 to floats. */
    void (*f32_from_f16)(const uint16_t *x, ptrdiff_t n, float *out);
    /** bf16 to floats. */
    void (*f32_from_bf16)(const uint16_t *x, ptrdiff_t n, float *out);

    /* Attention. */
    /** Stores one token's key and value (head_dim floats each) of one KV head into slot 0..<16 of a block, rounded to
     *  nearest even. Infinity and NaN are clamped to finite values. Different slots may be stored at the same time. */
    void (*kv_store_bf16)(const float *key, const float *value, ptrdiff_t head_dim, ptrdiff_t slot, void *key_block,
                          void *value_block);
    /** The same for f32 blocks. */
    void (*kv_store_f32)(const float *key, const float *value, ptrdiff_t head_dim, ptrdiff_t slot, void *key_block,
                         void *value_block);
    /** Softmax attention of `count` query rows over bf16 KV blocks; queries (times `scale`) and probabilities are
     *  rounded to bf16 too, sums are f32. Neighbouring rows share the reading of keys and values (48 rows from memory,
     *  6 from the cache), so order rows by position, with the query heads of one token together. */
    void (*attention_bf16)(const struct tandem_attention *attention, const struct tandem_attention_row *rows,
                           ptrdiff_t count);
    /** The same over f32 blocks, nothing rounded. */
    void (*attention_f32)(const struct tandem_attention *attention, const struct tandem_attention_row *rows,
                          ptrdiff_t count);

    /* Sampling over one row of logits; NaN is never selected. */
    /** Index of the largest value, the lowest index on ties; 0 when there is none. */
    ptrdiff_t (*argmax)(const float *x, ptrdiff_t n);
    /** The largest value; -infinity when there is none. */
    float (*max)(const float *x, ptrdiff_t n);
    /** log(sum(exp(x * inverse_temperature))). */
    float (*log_sum_exp)(const float *x, ptrdiff_t n, float inverse_temperature);
    /** out = softmax(x * inverse_temperature); `out` may be `x`. */
    void (*softmax_row)(const float *x, ptrdiff_t n, float inverse_temperature, float *out);
    /** out = exp(x), relative error at most 1e-6; results below the normal range are 0, x is capped at 88.37. `out` may
     *  be `x`. */
    void (*exp_row)(const float *x, ptrdiff_t n, float *out);
    /** The k (at most 64) largest values, descending, ties to the lower index. Returns how many were written:
     *  min(k, values that are not NaN). */
    ptrdiff_t (*top_k)(const float *x, ptrdiff_t n, ptrdiff_t k, int32_t *indices, float *values);
};

/** The kernels of the best instruction set of this CPU. */
const struct tandem_kernels *tandem_kernels_best(void);
/** The kernels of one instruction set; NULL when this CPU lacks it. */
const struct tandem_kernels *_Nullable tandem_kernels_for(enum tandem_isa isa);

/** Tells the CPU that the caller spins. */
static inline void tandem_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
