// A fiber: one simulated CUDA thread with a stack of its own. Switching is a dozen instructions on x86-64 and
// ucontext elsewhere; AddressSanitizer is told about every switch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace octavo::sim {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 512 << 10;  // red zones make frames several times larger
#else
constexpr size_t kStackBytes = 64 << 10;
#endif

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber() { std::free(stack_); }

  // Makes the next switchTo(this) call entry(), which must never return.
  void start(void (*entry)());

  // Leaves `from`, which must be the running fiber, and continues this one.
  void switchFrom(Fiber& from);

  // To be called first in an entry function.
  static void entered(Fiber& scheduler);

 private:
  void* stack_ = nullptr;  // null: the scheduler's own, the thread's stack
#if defined(__x86_64__)
  void* stackPointer_ = nullptr;
#else
  ucontext_t context_;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fakeStack_ = nullptr;
  const void* bottom_ = nullptr;
  size_t size_ = 0;
#endif
};

}  // namespace octavo::sim
