#include "fiber.h"

#include <new>

#if defined(__x86_64__)
// void octavo_sim_switch(void** from, void* to): saves the callee-saved registers on the running stack and
// takes those of the other one.
extern "C" void octavo_sim_switch(void** from, void* to);
asm(R"(
.text
.globl octavo_sim_switch
octavo_sim_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");
#endif

namespace octavo::sim {

void Fiber::start(void (*entry)()) {
  if (!stack_) stack_ = std::aligned_alloc(64, kStackBytes);
  if (!stack_) throw std::bad_alloc();
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(stack_, kStackBytes);  // frames of a launch that ended in a fault
  fakeStack_ = nullptr;
  bottom_ = stack_;
  size_ = kStackBytes;
#endif
#if defined(__x86_64__)
  constexpr int kSavedRegisters = 6;
  auto** top = reinterpret_cast<void**>(static_cast<char*>(stack_) + kStackBytes);
  *--top = nullptr;  // keeps the stack 16-byte aligned at entry, and is where entry would return to
  *--top = reinterpret_cast<void*>(entry);
  stackPointer_ = top - kSavedRegisters;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#endif
}

void Fiber::switchFrom(Fiber& from) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fakeStack_, bottom_, size_);
#endif
#if defined(__x86_64__)
  octavo_sim_switch(&from.stackPointer_, stackPointer_);
#else
  swapcontext(&from.context_, &context_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fakeStack_, nullptr, nullptr);
#endif
}

void Fiber::entered([[maybe_unused]] Fiber& scheduler) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t size;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!scheduler.bottom_) {  // the first fiber is always entered from the scheduler
    scheduler.bottom_ = bottom;
    scheduler.size_ = size;
  }
#endif
}

}  // namespace octavo::sim
