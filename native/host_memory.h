// How much memory this process may still take.
#pragma once
#include <cstdint>

namespace octavo {

struct HostMemory {
  uint64_t total = 0;      // bytes
  uint64_t available = 0;  // bytes; page cache that can be dropped counts as available
};

// The machine's memory, bounded by the limits of the process's control groups (v1 and v2).
HostMemory readHostMemory();

}  // namespace octavo
