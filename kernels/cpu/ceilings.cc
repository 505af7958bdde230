// What this machine can do at most, measured: the figures that every kernel bench is a share of. Reads of
// memory far larger than any cache, and multiply-adds, of f32 and of bytes, that never leave the registers.
#include <algorithm>
#include <chrono>

#include "../host.h"
#include "cpu.h"
#include "thread_pool.h"

#ifdef OCTAVO_ISA
namespace octavo::cpu::OCTAVO_ISA {
namespace {

// Independent chains: enough to hide the latency of an FMA (4 cycles on two ports) within 16 registers.
constexpr int kChains = 10;

// Reads `count` floats, a multiple of 8 * kLanes.
float readAll(const float* data, int64_t count) {
  V sums[8];
  for (V& sum : sums) sum = zero();
  for (int64_t i = 0; i < count; i += 8 * kLanes)
    for (int c = 0; c < 8; ++c) sums[c] = add(sums[c], load(data + i + c * kLanes));
  V total = zero();
  for (const V& sum : sums) total = add(total, sum);
  float lanes[kLanes];
  store(lanes, total);
  return lanes[0];
}

// rounds * kChains multiply-adds of all lanes. The factor keeps the values near 1: no denormals.
float multiplyAdd(int64_t rounds, int* lanesOfOne) {
  const V factor = set1(0.5f), term = set1(0.5f);
  V chains[kChains];
  for (int c = 0; c < kChains; ++c) chains[c] = set1(1.0f + static_cast<float>(c));
  for (int64_t i = 0; i < rounds; ++i)
    for (int c = 0; c < kChains; ++c) chains[c] = fma(chains[c], factor, term);
  V total = zero();
  for (const V& chain : chains) total = add(total, chain);
  float lanes[kLanes];
  store(lanes, total);
  *lanesOfOne = kChains * kLanes;
  return lanes[0];
}

// rounds * 8 * kChains dot products of all lanes' bytes, made 32-bit as often as the 8-bit matmul does. The
// operands differ by chain and step, so that none can be computed once for several.
float multiplyAddBytes(int64_t rounds, int* productsOfOne) {
  I values = setInt(0x01020304);
  I codes[kChains], totals[kChains];
  for (int c = 0; c < kChains; ++c) codes[c] = setInt(0x04030201 + c);
  for (I& total : totals) total = zeroInt();
  for (int64_t i = 0; i < rounds; ++i) {
    I sums[kChains];
    for (I& sum : sums) sum = zeroInt();
    for (int step = 0; step < 8; ++step) {
      values = addInt(values, setInt(0x01030101));
      for (int c = 0; c < kChains; ++c) sums[c] = dotBytes(sums[c], codes[c], values);
    }
    for (int c = 0; c < kChains; ++c) totals[c] = addInt(totals[c], laneSums(sums[c]));
  }
  I all = zeroInt();
  for (const I& total : totals) all = addInt(all, total);
  *productsOfOne = 8 * kChains * kLanes * 4;
  return static_cast<float>(sumOfLanes(all));
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
#else
#define OCTAVO_VNNI
#define OCTAVO_KERNEL_FILE "ceilings.cc"
#include "foreach_isa.h"

namespace octavo {
namespace cpu {
namespace {

constexpr int64_t kReadFloats = 1 << 26;   // 256 MiB
constexpr int64_t kChunkFloats = 1 << 18;  // 1 MiB: a multiple of every instruction set's step
constexpr int64_t kRounds = 1 << 18;

double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The best of as many runs as fit into `seconds`, at least three: what disturbs only ever slows down.
template <class Body>
double bestTime(double seconds, const Body& body) {
  double best = 1e300;
  const auto start = std::chrono::steady_clock::now();
  for (int run = 0; run < 3 || secondsSince(start) < seconds; ++run) {
    const auto before = std::chrono::steady_clock::now();
    body();
    best = std::min(best, secondsSince(before));
  }
  return best;
}

}  // namespace
}  // namespace cpu

bool measureCpuCeilings(int threads, double seconds, CpuCeilings* ceilings) {
  using namespace cpu;
  ThreadPool pool;
  if (!pool.start(threads > 0 ? threads : physicalCores())) return false;
  const Isa isa = currentIsa();
  Buffer<float> memory;
  if (!memory.allocate(kReadFloats)) return false;
  std::fill(memory.data(), memory.data() + kReadFloats, 1.0f);
  Buffer<float> results;  // so that nothing is computed in vain
  if (!results.allocate(static_cast<size_t>(pool.threads()))) return false;

  const auto read = OCTAVO_SELECT(isa, readAll);
  const double readTime = bestTime(seconds, [&] {
    pool.run(kReadFloats / kChunkFloats, [&](int64_t item, int thread) {
      results[static_cast<size_t>(thread)] += read(memory.data() + item * kChunkFloats, kChunkFloats);
    });
  });
  ceilings->readBytesPerSecond = static_cast<double>(kReadFloats * sizeof(float)) / readTime;

  // Operations a second of a kernel that says how many multiply-adds one of its rounds is.
  const auto rate = [&](float (*kernel)(int64_t, int*), int64_t rounds) {
    const int64_t items = int64_t(pool.threads()) * 16;
    std::atomic<int> ofOne{0};
    const double time = bestTime(seconds, [&] {
      pool.run(items, [&](int64_t, int thread) {
        int count = 0;
        results[static_cast<size_t>(thread)] += kernel(rounds, &count);
        ofOne.store(count, std::memory_order_relaxed);
      });
    });
    return 2.0 * static_cast<double>(items * rounds) * ofOne.load() / time;
  };
  ceilings->flopPerSecond = rate(OCTAVO_SELECT(isa, multiplyAdd), kRounds);
  ceilings->int8OpPerSecond = rate(OCTAVO_SELECT(isa, multiplyAddBytes), kRounds / 8);
  ceilings->threads = pool.threads();
  return true;
}

}  // namespace octavo
#endif
