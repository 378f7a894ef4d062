// Tandem — Apache-2.0

// cuBLASLt: descriptors, choices and products, of the kinds that Tandem asks for. Numbers: cublasLt's documentation.

#include <cstring>

#include "double.hpp"
#include "products.hpp"

namespace cuda_double {
namespace {

/// `cublasStatus_t`.
enum LibraryStatus { fine = 0, no_context = 1, bad_value = 7, failed = 13, unsupported = 15 };

/// `cudaDataType`.
enum Type { float32 = 0, bfloat16 = 14 };

struct Library {};

struct Description {
    int compute_type, scale_type;
    int transposes_left = 0, transposes_right = 0, epilogue = 1;
    uint64_t bias = 0;
    int multiprocessors = 0;
};

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t stride;
};

struct Preference {
    size_t workspace_bytes = 0;
    uint32_t alignment = 256;
};

struct Algorithm {
    uint64_t words[8];
};

struct Choice {
    Algorithm algorithm;
    size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
};

Handles<Library> &libraries() {
    static auto *handles = new Handles<Library>(7);
    return *handles;
}
Handles<Description> &descriptions() {
    static auto *handles = new Handles<Description>(8);
    return *handles;
}
Handles<Layout> &layouts() {
    static auto *handles = new Handles<Layout>(9);
    return *handles;
}
Handles<Preference> &preferences() {
    static auto *handles = new Handles<Preference>(10);
    return *handles;
}

constexpr uint64_t algorithm_mark = 0x616c'676f'7269'7468;
/// Algorithms that are told apart; all compute the same.
constexpr int algorithm_count = 3;

/// What is needed of a product; no value if it is not of a kind that this double computes.
std::optional<Product> product(uint64_t description_handle, uint64_t left, uint64_t right, uint64_t result) {
    auto description = descriptions().find(description_handle);
    auto a = layouts().find(left), b = layouts().find(right), d = layouts().find(result);
    if (!description || !a || !b || !d) return std::nullopt;
    if (description->compute_type != 68 || description->scale_type != float32) return std::nullopt;
    if (!description->transposes_left || description->transposes_right) return std::nullopt;
    if (description->epilogue != 1 && description->epilogue != 4) return std::nullopt;
    if (a->type != bfloat16 || b->type != bfloat16 || (d->type != bfloat16 && d->type != float32)) return std::nullopt;
    // Left, transposed: [inputs, outputs]; right: [inputs, rows]; result: [outputs, rows]; all column-major.
    if (a->rows != b->rows || d->rows != a->columns || d->columns != b->columns) return std::nullopt;
    if (a->stride < int64_t(a->rows) || b->stride < int64_t(b->rows) || d->stride < int64_t(d->rows))
        return std::nullopt;
    // cuBLASLt's fast algorithms need whole groups of 16 bytes.
    if (a->rows % 8 || a->stride % 8 || b->stride % 8) return std::nullopt;
    Product p = {};
    p.rows = b->columns;
    p.outputs = a->columns;
    p.inputs = a->rows;
    p.weight_stride = size_t(a->stride);
    p.input_stride = size_t(b->stride);
    p.output_stride = size_t(d->stride);
    p.is_float = d->type == float32;
    return p;
}

Choice choice(const Product &p, int index) {
    Choice made = {};
    made.algorithm.words[0] = algorithm_mark;
    made.algorithm.words[1] = uint64_t(index);
    // The second splits sums, for which it needs room.
    made.workspace_bytes = index == 1 ? p.rows * p.outputs * 4 : 0;
    size_t tiles = ((p.rows + 127) / 128) * ((p.outputs + 127) / 128);
    made.waves = float(tiles) / float(settings().multiprocessors);
    return made;
}

/// What a product reads and writes lies in device memory.
bool is_in_memory(const Product &p) {
    auto reaches = [](size_t rows, size_t stride, size_t columns) { return (rows - 1) * stride + columns; };
    return is_device_range(uint64_t(p.weight), reaches(p.outputs, p.weight_stride, p.inputs) * 2, false) &&
           is_device_range(uint64_t(p.input), reaches(p.rows, p.input_stride, p.inputs) * 2, false) &&
           is_device_range(uint64_t(p.output), reaches(p.rows, p.output_stride, p.outputs) * (p.is_float ? 4 : 2),
                           true) &&
           (!p.bias || is_device_range(uint64_t(p.bias), p.outputs * 2, false));
}

template <class Value> int take(Value &value, const void *from, size_t size) {
    if (size != sizeof value) return bad_value;
    memcpy(&value, from, size);
    return fine;
}

}  // namespace
}  // namespace cuda_double

using namespace cuda_double;

EXPORTED size_t cublasLtGetVersion(void) { return 130100; }

EXPORTED const char *cublasLtGetStatusName(int status) {
    switch (status) {
    case 0: return "CUBLAS_STATUS_SUCCESS";
    case 1: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case 3: return "CUBLAS_STATUS_ALLOC_FAILED";
    case 7: return "CUBLAS_STATUS_INVALID_VALUE";
    case 8: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case 13: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case 14: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case 15: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "";
    }
}

EXPORTED int cublasLtCreate(uint64_t *handle) {
    if (ready() != success) return no_context;
    *handle = libraries().add(std::make_shared<Library>());
    return fine;
}

EXPORTED int cublasLtDestroy(uint64_t handle) { return libraries().remove(handle) ? fine : no_context; }

EXPORTED int cublasLtMatmulDescCreate(uint64_t *handle, int compute_type, int scale_type) {
    *handle = descriptions().add(std::make_shared<Description>(Description{compute_type, scale_type}));
    return fine;
}

EXPORTED int cublasLtMatmulDescDestroy(uint64_t handle) { return descriptions().remove(handle) ? fine : bad_value; }

EXPORTED int cublasLtMatmulDescSetAttribute(uint64_t handle, int attribute, const void *value, size_t size) {
    auto description = descriptions().find(handle);
    if (!description) return bad_value;
    switch (attribute) {
    case 3: return take(description->transposes_left, value, size);
    case 4: return take(description->transposes_right, value, size);
    case 7: return take(description->epilogue, value, size);
    case 8: return take(description->bias, value, size);
    case 15: return take(description->multiprocessors, value, size);
    default: return bad_value;
    }
}

EXPORTED int cublasLtMatrixLayoutCreate(uint64_t *handle, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    *handle = layouts().add(std::make_shared<Layout>(Layout{type, rows, columns, stride}));
    return fine;
}

EXPORTED int cublasLtMatrixLayoutDestroy(uint64_t handle) { return layouts().remove(handle) ? fine : bad_value; }

EXPORTED int cublasLtMatmulPreferenceCreate(uint64_t *handle) {
    *handle = preferences().add(std::make_shared<Preference>());
    return fine;
}

EXPORTED int cublasLtMatmulPreferenceDestroy(uint64_t handle) {
    return preferences().remove(handle) ? fine : bad_value;
}

EXPORTED int cublasLtMatmulPreferenceSetAttribute(uint64_t handle, int attribute, const void *value, size_t size) {
    auto preference = preferences().find(handle);
    if (!preference) return bad_value;
    if (attribute == 1) return take(preference->workspace_bytes, value, size);
    if (attribute >= 5 && attribute <= 8) return take(preference->alignment, value, size);
    return bad_value;
}

EXPORTED int cublasLtMatmulAlgoGetHeuristic(uint64_t library, uint64_t description, uint64_t left, uint64_t right,
                                            uint64_t, uint64_t result, uint64_t preference_handle, int wanted,
                                            Choice *choices, int *found) {
    *found = 0;
    if (!libraries().find(library)) return no_context;
    auto preference = preferences().find(preference_handle);
    if (!preference || wanted < 1) return bad_value;
    if (int code = planned_fault("algorithm")) return code;
    // Asking during a capture works with some versions and spoils it with others: never do it.
    if (refuse_in_capture()) return failed;
    auto p = product(description, left, right, result);
    if (!p || preference->alignment < 16) return unsupported;
    for (int index = 0; index < algorithm_count && *found < wanted; index++) {
        Choice made = choice(*p, index);
        if (made.workspace_bytes <= preference->workspace_bytes) choices[(*found)++] = made;
    }
    return *found > 0 ? fine : unsupported;
}

EXPORTED int cublasLtMatmulAlgoCheck(uint64_t library, uint64_t description, uint64_t left, uint64_t right, uint64_t,
                                     uint64_t result, const Algorithm *algorithm, Choice *checked) {
    if (!libraries().find(library)) return no_context;
    auto p = product(description, left, right, result);
    if (!p || algorithm->words[0] != algorithm_mark || algorithm->words[1] >= uint64_t(algorithm_count))
        return unsupported;
    *checked = choice(*p, int(algorithm->words[1]));
    return fine;
}

EXPORTED int cublasLtMatmul(uint64_t library, uint64_t description_handle, const float *alpha, uint64_t left,
                            uint64_t left_layout, uint64_t right, uint64_t right_layout, const float *beta, uint64_t,
                            uint64_t, uint64_t result, uint64_t result_layout, const Algorithm *algorithm,
                            uint64_t workspace, size_t workspace_bytes, uint64_t stream_handle) {
    if (!libraries().find(library)) return no_context;
    if (ready() != success) return failed;
    auto p = product(description_handle, left_layout, right_layout, result_layout);
    auto description = descriptions().find(description_handle);
    auto target = stream(stream_handle);
    if (!p || !target || *alpha != 1 || *beta != 0) return unsupported;
    if (algorithm->words[0] != algorithm_mark || algorithm->words[1] >= uint64_t(algorithm_count)) return unsupported;
    if ((left | right | result | description->bias) % 16) return unsupported;
    size_t needed = choice(*p, int(algorithm->words[1])).workspace_bytes;
    if (needed > workspace_bytes) return bad_value;
    p->weight = reinterpret_cast<const uint16_t *>(left);
    p->input = reinterpret_cast<const uint16_t *>(right);
    p->output = reinterpret_cast<void *>(result);
    if (description->epilogue == 4) {
        if (description->bias == 0) return bad_value;
        p->bias = reinterpret_cast<const uint16_t *>(description->bias);
    }
    int code = planned_fault("multiply");
    // Such a fault is seen at once; others later.
    if (code && !loses_context(code)) return code;
    int status = submit(*target, [p = *p, workspace, needed, code] {
        counters().products++;
        if (code) return code;
        if (!is_in_memory(p)) {
            complain("a product of %zux%zux%zu leaves the allocation", p.rows, p.outputs, p.inputs);
            return int(illegal_address);
        }
        if (needed && !is_device_range(workspace, needed, true)) {
            complain("a product's workspace of %zu bytes is not device memory", needed);
            return int(illegal_address);
        }
        // What is in the workspace is nobody's.
        if (needed) memset(reinterpret_cast<void *>(workspace), 0xee, needed);
        multiply(p);
        return int(success);
    });
    return status == success ? fine : failed;
}
