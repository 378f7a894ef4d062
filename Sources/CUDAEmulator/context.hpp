// Tandem — Apache-2.0
//
// A place to go on from: the callee-saved state of a function that was left in its middle.
#pragma once
#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

#if defined(__x86_64__)
struct Context {
    void *stackPointer = nullptr;
};
#else
struct Context {
    ucontext_t state;
};
#endif

/// Makes a context that starts `entry` on a stack; `entry` must not return.
void prepare(Context &context, unsigned char *stack, size_t size, void (*entry)());

/// Leaves off in `from` and goes on in `to`.
void change(Context &from, Context &to);

}  // namespace emulator
