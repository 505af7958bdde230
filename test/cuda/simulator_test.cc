// The simulator against planted faults: each must be found, and sound kernels must not be blamed.
#include "../../kernels/cuda/device.h"
#include "harness.h"

namespace octavo::test {
namespace {

using namespace octavo::cuda;

// The fault's text, or "" if there was none.
template <class... P, class... A>
std::string faultOf(void (*kernel)(P...), int threads, size_t sharedBytes, A... args) {
  try {
    launch(kernel, Grid{2, 1, 1}, threads, sharedBytes, nullptr, args...);
  } catch (const sim::Fault& fault) {
    return fault.what();
  }
  return "";
}

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

KERNEL reverseThroughShared(const float* in, float* out, bool withBarrier) {
  auto* shared = reinterpret_cast<float*>(sharedMemory());
  shared[threadX()] = in[threadX()];
  if (withBarrier) syncThreads();
  out[threadX()] = shared[blockThreads() - 1 - threadX()];
}

TEST(sim_dropped_barrier_reads_poison) {
  std::vector<float> in(128), out(128);
  for (int i = 0; i < 128; ++i) in[i] = static_cast<float>(i);
  launch(reverseThroughShared, Grid{}, 128, 512, nullptr, in.data(), out.data(), true);
  for (int i = 0; i < 128; ++i) CHECK(out[i] == 127.0f - i, "%d: %g", i, out[i]);
  launch(reverseThroughShared, Grid{}, 128, 512, nullptr, in.data(), out.data(), false);
  CHECK(std::isnan(out[0]), "%g", out[0]);
}

KERNEL divergentShuffle(int* out) {
  int v = threadX();
  if (laneOf(threadX()) < 16) v = shuffleXor(v, 1);
  if (laneOf(threadX()) >= 8) v = shuffleXor(v, 2);
  out[threadX()] = v;
}

KERNEL partialShuffle(int* out) {
  if (laneOf(threadX()) < 16) out[threadX()] = shuffleXor(threadX(), 1);
  syncThreads();
}

KERNEL earlyExit(int* out) {
  if (threadX() == 5) return;
  out[threadX()] = shuffleXor(threadX(), 1);
}

KERNEL divergentBarriers(int* out) {
  if (threadX() < 32) {
    syncThreads();
  } else {
    syncThreads();
  }
  out[threadX()] = 1;
}

KERNEL missingBarrier(int* out) {
  if (threadX() < 32) syncThreads();
  out[threadX()] = ballot(true) != 0;
}

TEST(sim_divergence_is_named) {
  std::vector<int> out(64);
  std::string fault = faultOf(divergentShuffle, 64, 0, out.data());
  CHECK(has(fault, "divergence: shuffleXor") && has(fault, "simulator_test.cc:"), "%s", fault.c_str());
  fault = faultOf(partialShuffle, 64, 0, out.data());
  CHECK(has(fault, "deadlock: 16 of 32 lanes wait in shuffleXor"), "%s", fault.c_str());
  fault = faultOf(earlyExit, 64, 0, out.data());
  CHECK(has(fault, "exit"), "%s", fault.c_str());
  fault = faultOf(divergentBarriers, 64, 0, out.data());
  CHECK(has(fault, "divergent barriers"), "%s", fault.c_str());
  fault = faultOf(missingBarrier, 64, 0, out.data());
  CHECK(has(fault, "exit") && has(fault, "syncThreads"), "%s", fault.c_str());
}

KERNEL pipeline(const uint32_t* in, uint32_t* out, bool waitForAll) {
  unsigned char* shared = sharedMemory();
  copyAsync16(shared + threadX() * 16, in + threadX() * 4, true);
  commitCopies();
  copyAsync16(shared + 512 + threadX() * 16, in + threadX() * 4, threadX() % 2 == 0);
  commitCopies();
  if (waitForAll) {
    waitCopies<0>();
  } else {
    waitCopies<1>();
  }
  syncThreads();
  const int other = (threadX() + 1) % blockThreads();
  out[threadX()] =
      reinterpret_cast<uint32_t*>(shared + 512)[other * 4] + reinterpret_cast<uint32_t*>(shared)[other * 4];
  waitCopies<0>();
}

TEST(sim_copies_land_late) {
  std::vector<uint32_t> in(128), out(32);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint32_t>(i);
  for (const bool lazy : {false, true}) {
    sim::options().lazyCopies = lazy;
    launch(pipeline, Grid{}, 32, 1024, nullptr, in.data(), out.data(), true);
    CHECK(out[1] == 16 && out[0] == 4, "lazy %d: %u %u", lazy, out[1], out[0]);
    launch(pipeline, Grid{}, 32, 1024, nullptr, in.data(), out.data(), false);
    CHECK((out[1] == 16) == !lazy, "lazy %d: %u", lazy, out[1]);
  }
}

KERNEL leavesCopies(const uint32_t* in) {
  copyAsync16(sharedMemory(), in, true);
}
KERNEL copiesOutside(const uint32_t* in) {
  copyAsync16(sharedMemory() + 1024 - 8 * (threadX() == 31), in, true);
}
KERNEL copiesFromMisaligned(const uint32_t* in) {
  copyAsync16(sharedMemory(), in + 1, true);
}
[[maybe_unused]] KERNEL writesOutside() {
  sharedMemory()[1024 + threadX()] = 1;
}
[[maybe_unused]] KERNEL writesBefore() {
  sharedMemory()[-1 - threadX()] = 1;
}
KERNEL loadsOutside(uint32_t* out) {
  ldmatrix4(out + threadX() * 4, sharedMemory() + 32 * threadX() + 48);
}

TEST(sim_shared_memory_bounds) {
  alignas(16) uint32_t in[8] = {};
  std::vector<uint32_t> out(128);
  CHECK(has(faultOf(leavesCopies, 32, 1024, in), "in flight"), "copies left in flight");
  CHECK(has(faultOf(copiesOutside, 32, 1024, in), "outside shared"), "copy outside");
  CHECK(has(faultOf(copiesFromMisaligned, 32, 1024, in), "misaligned"), "misaligned source");
  CHECK(has(faultOf(loadsOutside, 32, 1024, out.data()), "ldmatrix outside"), "ldmatrix outside");
#if !defined(__SANITIZE_ADDRESS__)  // which reports these two itself, and ends the process
  CHECK(has(faultOf(writesOutside, 32, 1024), "write outside"), "write behind");
  CHECK(has(faultOf(writesBefore, 32, 1024), "write outside"), "write before");
#endif
}

KERNEL loadColumns(uint32_t* out, int stride) {
  auto* shared = sharedMemory();
  for (int i = threadX(); i < 32 * stride / 2; i += 32) reinterpret_cast<uint16_t*>(shared)[i] = 0;
  syncWarp();
  ldmatrix4(out + threadX() * 4, shared + threadX() * stride);
}

TEST(sim_counts_bank_conflicts) {
  std::vector<uint32_t> out(128);
  sim::counters() = {};
  launch(loadColumns, Grid{}, 32, 32 * 128, nullptr, out.data(), 128);
  CHECK(sim::counters().bankConflicts == 28, "%d", static_cast<int>(sim::counters().bankConflicts));
  sim::counters() = {};
  launch(loadColumns, Grid{}, 32, 32 * 144, nullptr, out.data(), 144);
  CHECK(sim::counters().bankConflicts == 0, "%d", static_cast<int>(sim::counters().bankConflicts));
}

KERNEL lastBlockSums(const float* in, float* partial, float* out, int* counter) {
  auto* flag = reinterpret_cast<int*>(sharedMemory());
  if (threadX() == 0) partial[blockX()] = in[blockX()];
  fence();
  syncThreads();
  if (threadX() == 0) *flag = atomicAdd(counter, 1) == gridX() - 1;
  syncThreads();
  if (!*flag || threadX() != 0) return;
  float sum = 0;
  for (int i = 0; i < gridX(); ++i) sum += loadThrough(&partial[i]);
  *out = sum;
}

KERNEL assumesLastIsLast(float* partial, float* out) {
  if (threadX() == 0) partial[blockX()] = 1;
  if (blockX() != gridX() - 1 || threadX() != 0) return;
  *out = 0;
  for (int i = 0; i < gridX(); ++i) *out += partial[i];
}

TEST(sim_block_order_is_seeded) {
  const std::vector<float> in = {1, 2, 3, 4, 5, 6, 7, 8};
  for (uint32_t seed = 0; seed < 4; ++seed) {
    for (int resident : {0, 1, 3}) {
      sim::options().seed = seed;
      sim::options().residentBlocks = resident;
      std::vector<float> partial(8, NAN);
      float out = NAN;
      int counter = 0;
      launch(lastBlockSums, Grid{8, 1, 1}, 64, 16, nullptr, in.data(), partial.data(), &out, &counter);
      CHECK(out == 36, "seed %u resident %d: %g", seed, resident, out);
    }
  }
  bool found = false;
  for (uint32_t seed = 1; seed < 4; ++seed) {
    sim::options() = {true, true, seed, 1};
    std::vector<float> partial(8, NAN);
    float out = NAN;
    launch(assumesLastIsLast, Grid{8, 1, 1}, 64, 16, nullptr, partial.data(), &out);
    found = found || !(out == 8);
  }
  CHECK(found, "a wrong assumption about block order went unseen");
}

KERNEL halfArithmetic(const uint32_t* a, const uint32_t* b, uint32_t* out) {
  const int i = threadX();
  out[i] = half2Fma(a[i], b[i], a[i]);
  out[32 + i] = packHalf2(toFloat(Half{static_cast<uint16_t>(a[i])}), 70000.0f);
  out[64 + i] = lop3<0x96>(a[i], b[i], 0x55555555u);
}

TEST(sim_arithmetic) {
  std::vector<uint32_t> a(32), b(32), out(96);
  for (int i = 0; i < 32; ++i) {
    a[i] = floatToHalf(0.1f * i) | static_cast<uint32_t>(floatToHalf(-3.0f + i)) << 16;
    b[i] = floatToHalf(1.5f) | static_cast<uint32_t>(floatToHalf(0.25f)) << 16;
  }
  launch(halfArithmetic, Grid{}, 32, 0, nullptr, a.data(), b.data(), out.data());
  for (int i = 0; i < 32; ++i) {
    const double high = (-3.0 + i) * 1.25;
    CHECK(halfToFloat(static_cast<uint16_t>(out[i] >> 16)) == high, "%d", i);
    CHECK(out[32 + i] == ((a[i] & 0xffffu) | 0x7c000000u), "%d: %08x", i, out[32 + i]);
    CHECK(out[64 + i] == (a[i] ^ b[i] ^ 0x55555555u), "%d", i);
  }
}

}  // namespace
}  // namespace octavo::test
