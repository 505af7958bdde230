// See placement.h.
#include "placement.h"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace octavo::cpu {

#if defined(__linux__)

namespace {

using std::chrono::nanoseconds;

constexpr uint16_t kNowhere = 0xffff;
// A thread is looked at for so long, and runs if it had half of it.
constexpr nanoseconds kLook{10'000};

struct Self {
  int id = static_cast<int>(syscall(SYS_gettid));
  clockid_t clock = 0;
  Self() { pthread_getcpuclockid(pthread_self(), &clock); }
};

nanoseconds now(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
}

bool runs(clockid_t clock) {
  const nanoseconds begin = now(CLOCK_MONOTONIC), before = now(clock);
  nanoseconds passed{0};
  while (passed < kLook) passed = now(CLOCK_MONOTONIC) - begin;
  return 2 * (now(clock) - before) >= passed;
}

}  // namespace

void Placement::start(int threads) {
  count_ = threads;
  for (int t = 0; t < threads; ++t) threads_[t].processor.store(kNowhere, std::memory_order_relaxed);
  cpu_set_t usable;
  on_ = threads > 1 && sched_getaffinity(0, sizeof usable, &usable) == 0 && threads <= CPU_COUNT(&usable);
}

void Placement::place(int thread) {
  if (!on_) return;
  thread_local const Self self;
  Thread& record = threads_[thread];
  // Whoever calls a pool need not be the same thread each time.
  if (record.id.load(std::memory_order_relaxed) != self.id) {
    record.clock.store(self.clock, std::memory_order_relaxed);
    record.id.store(self.id, std::memory_order_relaxed);
  }
  const int found = sched_getcpu();
  if (found < 0) return;
  const auto processor = static_cast<uint16_t>(found);
  if (record.processor.load(std::memory_order_relaxed) != processor)
    record.processor.store(processor, std::memory_order_relaxed);
  if (thread > 0 && collides(thread, processor)) move(thread);
}

bool Placement::collides(int thread, uint16_t processor) const {
  for (int t = 0; t < thread; ++t)
    if (threads_[t].processor.load(std::memory_order_relaxed) == processor) return true;
  return false;
}

// By forbidding, for a moment, the processors of the others: the scheduler chooses among those that are left.
void Placement::move(int thread) {
  Thread& record = threads_[thread];
  const Time now = std::chrono::steady_clock::now();
  if (now - record.moved < kPause) return;
  record.moved = now;
  cpu_set_t usable, left;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return;
  left = usable;
  for (int t = 0; t < count_; ++t) {
    const uint16_t other = threads_[t].processor.load(std::memory_order_relaxed);
    if (t != thread && other < CPU_SETSIZE) CPU_CLR(other, &left);
  }
  if (CPU_COUNT(&left) == 0 || sched_setaffinity(0, sizeof left, &left) != 0) return;
  sched_setaffinity(0, sizeof usable, &usable);
  record.processor.store(static_cast<uint16_t>(sched_getcpu()), std::memory_order_relaxed);
}

// By allowing it, for a moment, this processor alone. One that the caller may not see (a clock that can't be read
// stands still) or move stays where it is.
bool Placement::fetch(int thread) {
  Thread& record = threads_[thread];
  const int id = record.id.load(std::memory_order_relaxed);
  if (!on_ || id == 0 || record.fetched.exchange(true, std::memory_order_acquire)) return false;
  const bool stalled = !runs(record.clock.load(std::memory_order_relaxed));
  cpu_set_t usable, here;
  const int processor = sched_getcpu();
  if (stalled && processor >= 0 && processor < CPU_SETSIZE && sched_getaffinity(id, sizeof usable, &usable) == 0) {
    CPU_ZERO(&here);
    CPU_SET(processor, &here);
    if (sched_setaffinity(id, sizeof here, &here) == 0) sched_setaffinity(id, sizeof usable, &usable);
  }
  record.fetched.store(false, std::memory_order_release);
  return stalled;
}

#else

void Placement::start(int) {}
void Placement::place(int) {}
bool Placement::fetch(int) { return false; }

#endif

}  // namespace octavo::cpu
