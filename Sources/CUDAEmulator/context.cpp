// Tandem — Apache-2.0
#include "context.hpp"

#include <cstdint>

#if defined(__x86_64__)

// Saves what the System V calling convention asks a callee to keep ("System V ABI, AMD64 supplement", 3.2.1), but for
// the floating-point control words, which no kernel changes.
extern "C" void tandem_emulator_change(void **from, void *to);
asm(R"(
.text
.globl tandem_emulator_change
.hidden tandem_emulator_change
.type tandem_emulator_change, @function
tandem_emulator_change:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size tandem_emulator_change, .-tandem_emulator_change
)");

namespace emulator {

void prepare(Context &context, unsigned char *stack, size_t size, void (*entry)()) {
    void **top = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(stack + size) & ~uintptr_t{15});
    // A return address that is never used keeps the stack aligned as a call would.
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(entry);
    for (int registers = 0; registers < 6; registers++) *--top = nullptr;
    context.stackPointer = top;
}

void change(Context &from, Context &to) { tandem_emulator_change(&from.stackPointer, to.stackPointer); }

}  // namespace emulator

#else

namespace emulator {

void prepare(Context &context, unsigned char *stack, size_t size, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = size;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

void change(Context &from, Context &to) { swapcontext(&from.state, &to.state); }

}  // namespace emulator

#endif
