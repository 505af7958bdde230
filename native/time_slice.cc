// See time_slice.h.
#include "time_slice.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace octavo {

#if defined(__linux__) && defined(SYS_sched_setattr) && defined(SYS_sched_getattr)

namespace {

// The first version of the kernel's structure: every kernel knows it, and C libraries don't declare it.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;  // the slice in nanoseconds; 0: the system's own
  uint64_t deadline = 0;
  uint64_t period = 0;
};
static_assert(sizeof(SchedulingAttributes) == 48, "the kernel's layout");

constexpr uint64_t kShortest = 100'000;
// Threads that it starts have the system's own slice: they may be there to compute.
constexpr uint64_t kNotInherited = 1;  // SCHED_FLAG_RESET_ON_FORK

}  // namespace

bool shortenTimeSlice() {
  SchedulingAttributes attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return false;
  if (attributes.policy != SCHED_OTHER) return false;
  attributes.runtime = kShortest;
  attributes.flags |= kNotInherited;
  return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

#else

bool shortenTimeSlice() { return false; }

#endif

}  // namespace octavo
