// Tandem — Apache-2.0

// NVRTC. Nothing is compiled: the image names the architecture, and the kernels are the emulator's, which were compiled
// from the same text. What a wrong call gets is an error all the same.

#include <cstdio>
#include <cstring>

#include "double.hpp"

namespace cuda_double {
namespace {
/// `nvrtcResult`.
enum CompilerStatus { fine = 0, no_memory = 1, bad_input = 3, bad_program = 4, bad_option = 5, no_compilation = 6 };

struct Program {
    std::string text, name, log, image;
};

Handles<Program> &programs() {
    static auto *handles = new Handles<Program>(11);
    return *handles;
}

constexpr int architectures[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};

bool is_architecture(const std::string &text) {
    int number = 0;
    char letter = 0;
    if (sscanf(text.c_str(), "sm_%d%c", &number, &letter) < 1 || (letter && letter != 'a')) return false;
    for (int known : architectures) {
        if (known == number) return true;
    }
    return false;
}

/// Names of the kernels in a text: what is between `__global__ void` (or the macro that stands for it) and `(`.
std::vector<std::string> kernel_names(const std::string &text) {
    std::vector<std::string> names;
    const std::string word = "__global__ void ";
    for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
        size_t begin = at + word.size(), end = text.find('(', begin);
        if (end != std::string::npos) names.push_back(text.substr(begin, end - begin));
    }
    return names;
}

/// An ELF header of machine 190 without tables; then the mark, the architecture and the names.
std::string image(const std::string &architecture, const std::vector<std::string> &names) {
    std::string bytes(64, '\0');
    memcpy(bytes.data(), "\177ELF\2\1\1", 7);
    bytes[16] = 2;
    bytes[18] = char(190);
    bytes += std::string(image_mark) + '\0' + architecture + '\0';
    for (auto &name : names) bytes += name + '\0';
    return bytes;
}

}  // namespace
}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int nvrtcVersion(int *major, int *minor) {
    *major = settings().driver_version / 1000;
    *minor = settings().driver_version % 1000 / 10;
    return fine;
}

EXPORTED const char *nvrtcGetErrorString(int status) {
    switch (status) {
    case fine: return "NVRTC_SUCCESS";
    case no_memory: return "NVRTC_ERROR_OUT_OF_MEMORY";
    case bad_input: return "NVRTC_ERROR_INVALID_INPUT";
    case bad_program: return "NVRTC_ERROR_INVALID_PROGRAM";
    case bad_option: return "NVRTC_ERROR_INVALID_OPTION";
    case no_compilation: return "NVRTC_ERROR_COMPILATION";
    case 7: return "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE";
    default: return "NVRTC_ERROR unknown";
    }
}

EXPORTED int nvrtcGetNumSupportedArchs(int *count) {
    *count = int(sizeof architectures / sizeof architectures[0]);
    return fine;
}

EXPORTED int nvrtcGetSupportedArchs(int *list) {
    memcpy(list, architectures, sizeof architectures);
    return fine;
}

EXPORTED int nvrtcCreateProgram(uint64_t *handle, const char *text, const char *name, int headers,
                                const char *const *header_texts, const char *const *) {
    if (!text || headers < 0 || (headers > 0 && !header_texts)) return bad_input;
    auto program = std::make_shared<Program>();
    program->text = text;
    for (int i = 0; i < headers; i++) program->text += header_texts[i];
    program->name = name ? name : "";
    *handle = programs().add(program);
    return fine;
}

EXPORTED int nvrtcDestroyProgram(uint64_t *handle) {
    bool existed = programs().remove(*handle) != nullptr;
    *handle = 0;
    return existed ? fine : bad_program;
}

EXPORTED int nvrtcCompileProgram(uint64_t handle, int count, const char *const *options) {
    auto program = programs().find(handle);
    if (!program) return bad_program;
    std::string architecture;
    for (int i = 0; i < count; i++) {
        const char *prefix = "--gpu-architecture=";
        if (strncmp(options[i], prefix, strlen(prefix)) == 0) architecture = options[i] + strlen(prefix);
    }
    if (!is_architecture(architecture)) {
        program->log = "error: invalid value for --gpu-architecture (-arch)\n";
        return bad_option;
    }
    if (int code = planned_fault("compile")) {
        program->log = program->name + "(1): error: a planned fault\n";
        return code;
    }
    auto names = kernel_names(program->text);
    for (auto &name : names) {
        program->log += "ptxas info    : Compiling entry function '" + name + "' for '" + architecture + "'\n";
        program->log += "ptxas info    : Used 64 registers, 0 bytes spill stores, 0 bytes spill loads\n";
    }
    program->image = image(architecture, names);
    return fine;
}

EXPORTED int nvrtcGetProgramLogSize(uint64_t handle, size_t *size) {
    auto program = programs().find(handle);
    if (!program) return bad_program;
    *size = program->log.size() + 1;
    return fine;
}

EXPORTED int nvrtcGetProgramLog(uint64_t handle, char *log) {
    auto program = programs().find(handle);
    if (!program) return bad_program;
    memcpy(log, program->log.c_str(), program->log.size() + 1);
    return fine;
}

EXPORTED int nvrtcGetCUBINSize(uint64_t handle, size_t *size) {
    auto program = programs().find(handle);
    if (!program) return bad_program;
    *size = program->image.size();
    return fine;
}

EXPORTED int nvrtcGetCUBIN(uint64_t handle, char *image) {
    auto program = programs().find(handle);
    if (!program) return bad_program;
    memcpy(image, program->image.data(), program->image.size());
    return fine;
}
