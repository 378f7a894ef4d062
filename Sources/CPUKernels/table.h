// Tandem — Apache-2.0

/* Ends each instruction set's file: its kernels as one table. */
#define TABLE(VARIABLE, ISA, NAME) \
    const struct tandem_kernels VARIABLE = { \
        .isa = ISA, \
        .name = NAME, \
        .pack_u4_from_q4_0 = pack_u4_from_q4_0, \
        .pack_u4_from_q4_1 = pack_u4_from_q4_1, \
        .pack_u8_from_q8_0 = pack_u8_from_q8_0, \
        .pack_u8_from_f32 = pack_u8_from_f32, \
        .pack_u4_from_affine = pack_u4_from_affine, \
        .pack_u5_from_affine = pack_u5_from_affine, \
        .pack_u8_from_affine = pack_u8_from_affine, \
        .pack_bf16_from_f32 = pack_bf16_from_f32, \
        .pack_f32_from_f32 = pack_f32_from_f32, \
        .unpack_row_u4 = unpack_row_u4, \
        .unpack_row_u5 = unpack_row_u5, \
        .unpack_row_u8 = unpack_row_u8, \
        .unpack_row_bf16 = unpack_row_bf16, \
        .unpack_row_f32 = unpack_row_f32, \
        .quantize_row_int8 = quantize_row_int8, \
        .quantize_row_int16 = quantize_row_int16, \
        .round_row_bf16 = round_row_bf16, \
        .matmul_int8_u4 = matmul_int8_u4, \
        .matmul_int8_u5 = matmul_int8_u5, \
        .matmul_int8_u8 = matmul_int8_u8, \
        .matmul_bf16 = matmul_bf16, \
        .matmul_f32 = matmul_f32, \
        .rmsnorm = rmsnorm, \
        .rope_rows = rope_rows, \
        .silu_mul = silu_mul, \
        .gelu_tanh_mul = gelu_tanh_mul, \
        .add = add, \
        .f16_from_f32 = f16_from_f32, \
        .f32_from_f16 = f32_from_f16, \
        .f32_from_bf16 = f32_from_bf16, \
        .kv_store_bf16 = kv_store_bf16, \
        .kv_store_f32 = kv_store_f32, \
        .attention_bf16 = attention_bf16, \
        .attention_f32 = attention_f32, \
        .argmax = argmax, \
        .max = row_max, \
        .log_sum_exp = log_sum_exp, \
        .softmax_row = softmax_row, \
        .exp_row = exp_row, \
        .top_k = top_k, \
    };

/* Each is defined where its instruction set can be compiled. */
extern const struct tandem_kernels tandem_kernels_portable;
extern const struct tandem_kernels tandem_kernels_avx2;
extern const struct tandem_kernels tandem_kernels_avx512;
