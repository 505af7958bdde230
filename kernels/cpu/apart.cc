// See apart.h.
#include "apart.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace octavo::cpu {

#if defined(__linux__)

namespace {

constexpr uint16_t kNowhere = 0xffff;

}  // namespace

void Apart::start(int threads) {
  threads_ = threads;
  for (int t = 0; t < threads; ++t) processors_[t].store(kNowhere, std::memory_order_relaxed);
  cpu_set_t usable;
  on_ = threads > 1 && sched_getaffinity(0, sizeof usable, &usable) == 0 && threads <= CPU_COUNT(&usable);
}

void Apart::place(int thread) {
  if (!on_) return;
  const int found = sched_getcpu();
  if (found < 0) return;
  const auto processor = static_cast<uint16_t>(found);
  if (processors_[thread].load(std::memory_order_relaxed) != processor)
    processors_[thread].store(processor, std::memory_order_relaxed);
  if (thread > 0 && collides(thread, processor)) move(thread);
}

bool Apart::collides(int thread, uint16_t processor) const {
  for (int t = 0; t < thread; ++t)
    if (processors_[t].load(std::memory_order_relaxed) == processor) return true;
  return false;
}

// By forbidding, for a moment, the processors of the others: the scheduler chooses among those that are left.
void Apart::move(int thread) {
  const Time now = std::chrono::steady_clock::now();
  if (now - moved_[thread] < kPause) return;
  moved_[thread] = now;
  cpu_set_t usable, left;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return;
  left = usable;
  for (int t = 0; t < threads_; ++t) {
    const uint16_t other = processors_[t].load(std::memory_order_relaxed);
    if (t != thread && other < CPU_SETSIZE) CPU_CLR(other, &left);
  }
  if (CPU_COUNT(&left) == 0 || sched_setaffinity(0, sizeof left, &left) != 0) return;
  sched_setaffinity(0, sizeof usable, &usable);
  processors_[thread].store(static_cast<uint16_t>(sched_getcpu()), std::memory_order_relaxed);
}

#else

void Apart::start(int) {}
void Apart::place(int) {}

#endif

}  // namespace octavo::cpu
