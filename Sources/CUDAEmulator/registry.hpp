// Tandem — Apache-2.0
//
// Kernels by name, with what a launch must know of them.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

namespace emulator {

struct Kernel {
    const char *name;
    /// Most threads of a block.
    uint32_t threadLimit;
    std::vector<size_t> argumentSizes;
    void (*run)(void *const *arguments);
};

/// All kernels, in the order of their text.
const std::vector<Kernel> &kernels();

/// The kernel of a name, or null.
const Kernel *kernel(const char *name);

template <typename Function>
struct Signature;

template <typename... Arguments>
struct Signature<void (*)(Arguments...)> {
    static std::vector<size_t> sizes() { return {sizeof(Arguments)...}; }

    template <void (*function)(Arguments...)>
    static void run(void *const *arguments) {
        run<function>(arguments, std::index_sequence_for<Arguments...>());
    }

private:
    template <void (*function)(Arguments...), size_t... indices>
    static void run(void *const *arguments, std::index_sequence<indices...>) {
        function(*static_cast<Arguments *>(arguments[indices])...);
    }
};

template <auto function>
Kernel makeKernel(const char *name, uint32_t threadLimit) {
    typedef Signature<decltype(function)> Own;
    return {name, threadLimit, Own::sizes(), &Own::template run<function>};
}

}  // namespace emulator
