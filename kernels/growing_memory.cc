// See growing_memory.h.
//
// Large memory lies in huge pages: KV blocks are read all over it, and with small pages each read would miss the
// processor's address cache. A block has a part in every layer's memory. Did these all begin alike, the token
// that enters a new huge page in one layer would enter one in every layer, and its step would wait until the
// system has zeroed all of them. So each begins at a place of its own:
//
//   boundaries of huge pages   |         |         |         |
//   layer 0                    [==================== ...
//   layer 1                          [---|========== ...        = huge pages, - small ones
//   layer 2                    .  [================= ...        . huge, unused
//
// Huge pages begin and end at the nearest boundary: neither does much beside the memory become resident, nor lies
// much of what is used first, and so most, in small pages.
#include "growing_memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "host.h"

namespace octavo {

#if defined(__linux__)
namespace {

constexpr uintptr_t kPage = 4096;
constexpr uintptr_t kHugePage = 2 << 20;
// In less, what is touched here and there would all become resident.
constexpr size_t kLeastBytes = 4 * kHugePage;
constexpr size_t kMostBytes = SIZE_MAX - 4 * kHugePage;

// Where memory `index` begins in a huge page. Multiples of the golden ratio, less their whole part, lie evenly
// however many there are.
uintptr_t offsetOf(uint64_t index) {
  constexpr uint64_t kGoldenRatio = 0x9e3779b97f4a7c15u;  // 2^64 / 1.618...
  static_assert(kHugePage == uintptr_t{1} << (64 - 43), "the upper bits count bytes of a huge page");
  return (index * kGoldenRatio >> 43) / kPage * kPage;
}

uintptr_t nearestBoundary(uintptr_t address) {
  return (address + kHugePage / 2) / kHugePage * kHugePage;
}

}  // namespace
#endif

GrowingMemory::GrowingMemory(size_t bytes, uint64_t index) {
#if defined(__linux__)
  if (bytes >= kLeastBytes && bytes <= kMostBytes) {
    // Room to begin anywhere in a huge page, and for what the last one has beside the memory.
    const size_t wanted = (bytes + kPage - 1) / kPage * kPage + 3 * kHugePage;
    void* start = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return;
    mapping_ = start;
    mapped_ = wanted;
    const uintptr_t boundary = (reinterpret_cast<uintptr_t>(start) + kHugePage - 1) / kHugePage * kHugePage;
    const uintptr_t begin = boundary + offsetOf(index), first = nearestBoundary(begin);
    madvise(reinterpret_cast<void*>(first), nearestBoundary(begin + bytes) - first, MADV_HUGEPAGE);
    data_ = reinterpret_cast<void*>(begin);
    return;
  }
#endif
  static_cast<void>(index);
  data_ = allocateAligned(bytes);
}

GrowingMemory::~GrowingMemory() {
#if defined(__linux__)
  if (mapped_ > 0) {
    munmap(mapping_, mapped_);
    return;
  }
#endif
  freeAligned(data_);
}

}  // namespace octavo
