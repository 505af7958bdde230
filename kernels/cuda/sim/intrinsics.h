// device.h for a host compiler: every wrapper in the simulator. Collectives carry the file and line of their
// call, by which the simulator tells two of them apart.
#pragma once
#include <cmath>
#include <cstring>

#include "../types.h"
#include "simulator.h"

#define KERNEL static void
#define DEVICE static inline
#define HOST_DEVICE static inline
#define DEVICE_MEMBER inline
#define HOST_DEVICE_MEMBER inline
#define LAUNCH_BOUNDS(threads, blocksPerSm)
#define RESTRICT __restrict

#define SIM_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace octavo::cuda {

inline int threadX() {
  return static_cast<int>(sim::self().index);
}
inline int blockX() {
  return static_cast<int>(sim::self().block->index.x);
}
inline int blockY() {
  return static_cast<int>(sim::self().block->index.y);
}
inline int blockZ() {
  return static_cast<int>(sim::self().block->index.z);
}
inline int gridX() {
  return static_cast<int>(sim::gridSize().x);
}
inline int gridY() {
  return static_cast<int>(sim::gridSize().y);
}
inline int blockThreads() {
  return static_cast<int>(sim::blockSize());
}
inline unsigned char* sharedMemory() {
  return sim::self().block->shared;
}

inline void syncThreads(SIM_SITE) {
  sim::barrier({"syncThreads", file, line});
}
inline void syncWarp(SIM_SITE) {
  sim::collective({"syncWarp", file, line}, nullptr, [](void* const*) {});
}

template <class V>
struct ShuffleOperand {
  V value, result;
  int source;  // lane
};

template <class V>
inline V shuffleFrom(V value, int source, const sim::Site& site) {
  ShuffleOperand<V> operand{value, value, source};
  sim::collective(site, &operand, [](void* const* operands) {
    for (int lane = 0; lane < sim::kWarpSize; ++lane) {
      auto* mine = static_cast<ShuffleOperand<V>*>(operands[lane]);
      mine->result = static_cast<ShuffleOperand<V>*>(operands[mine->source & (sim::kWarpSize - 1)])->value;
    }
  });
  return operand.result;
}

template <class V>
inline V shuffleXor(V value, int mask, SIM_SITE) {
  return shuffleFrom(value, sim::self().lane ^ mask, {"shuffleXor", file, line});
}
template <class V>
inline V shuffle(V value, int lane, SIM_SITE) {
  return shuffleFrom(value, lane, {"shuffle", file, line});
}

struct BallotOperand {
  bool predicate;
  uint32_t result;
};

inline uint32_t ballot(bool predicate, SIM_SITE) {
  BallotOperand operand{predicate, 0};
  sim::collective({"ballot", file, line}, &operand, [](void* const* operands) {
    uint32_t votes = 0;
    for (int lane = 0; lane < sim::kWarpSize; ++lane)
      votes |= static_cast<uint32_t>(static_cast<BallotOperand*>(operands[lane])->predicate) << lane;
    for (int lane = 0; lane < sim::kWarpSize; ++lane)
      static_cast<BallotOperand*>(operands[lane])->result = votes;
  });
  return operand.result;
}

struct MmaOperand {
  float* c;           // [4]
  const uint32_t* a;  // [4]
  uint32_t b[2];
};

struct LdmatrixOperand {
  uint32_t* r;    // [4]
  const void* p;  // 16 bytes of shared memory
};

void runMmaHalf(void* const* operands);
void runMmaBf16(void* const* operands);
void runLdmatrix(void* const* operands);
void runLdmatrixTrans(void* const* operands);

template <class T>
inline void mma16816(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, SIM_SITE);
template <>
inline void mma16816<Half>(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, const char* file,
                           int line) {
  MmaOperand operand{c, a, {b0, b1}};
  sim::collective({"mma.f16", file, line}, &operand, runMmaHalf);
}
template <>
inline void mma16816<Bf16>(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, const char* file,
                           int line) {
  MmaOperand operand{c, a, {b0, b1}};
  sim::collective({"mma.bf16", file, line}, &operand, runMmaBf16);
}

inline void ldmatrix4(uint32_t* r, const void* p, SIM_SITE) {
  sim::checkShared(p, 16, 16, "ldmatrix");
  LdmatrixOperand operand{r, p};
  sim::collective({"ldmatrix", file, line}, &operand, runLdmatrix);
}
inline void ldmatrix4Trans(uint32_t* r, const void* p, SIM_SITE) {
  sim::checkShared(p, 16, 16, "ldmatrix.trans");
  LdmatrixOperand operand{r, p};
  sim::collective({"ldmatrix.trans", file, line}, &operand, runLdmatrixTrans);
}

inline void copyAsync16(void* to, const void* from, bool valid) {
  sim::copyAsync(to, from, 16, valid);
}
inline void copyAsync16Once(void* to, const void* from, bool valid) {
  sim::copyAsync(to, from, 16, valid);
}
inline void commitCopies() {
  sim::commitCopies();
}
template <int N>
inline void waitCopies() {
  sim::waitCopies(N);
}

template <int kTable>
inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t r = 0;
  for (int i = 0; i < 8; ++i) {
    if (kTable >> i & 1) r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  }
  return r;
}

uint16_t halfBits(float value);
float halfValue(uint16_t bits);

uint32_t half2Sub(uint32_t a, uint32_t b);
uint32_t half2Mul(uint32_t a, uint32_t b);
uint32_t half2Fma(uint32_t a, uint32_t b, uint32_t c);

inline uint32_t floatBits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float bitsFloat(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline uint32_t multiplyHigh(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32);
}

inline uint16_t bf16Bits(float x) {
  const uint32_t bits = floatBits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // NaN, as cvt.rn.bf16.f32 has it
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline float toFloat(Half h) {
  return halfValue(h.bits);
}
inline float toFloat(Bf16 b) {
  return bitsFloat(static_cast<uint32_t>(b.bits) << 16);
}
inline float toFloat(float x) {
  return x;
}

template <class T>
inline T fromFloat(float x);
template <>
inline Half fromFloat<Half>(float x) {
  return Half{halfBits(x)};
}
template <>
inline Bf16 fromFloat<Bf16>(float x) {
  return Bf16{bf16Bits(x)};
}
template <>
inline float fromFloat<float>(float x) {
  return x;
}

template <class T>
inline uint32_t packPair(float low, float high) {
  return fromFloat<T>(low).bits | static_cast<uint32_t>(fromFloat<T>(high).bits) << 16;
}
inline uint32_t packHalf2(float low, float high) {
  return packPair<Half>(low, high);
}

// Flushes subnormal results to zero, as ex2.approx.ftz does.
inline float exp2Approx(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}

// One host thread runs the whole grid: plain operations are atomic.
template <class V>
inline V atomicAdd(V* p, V v) {
  const V old = *p;
  *p = old + v;
  return old;
}
template <class V>
inline V atomicMin(V* p, V v) {
  const V old = *p;
  if (v < old) *p = v;
  return old;
}
template <class V>
inline V atomicMax(V* p, V v) {
  const V old = *p;
  if (v > old) *p = v;
  return old;
}
template <class V>
inline V atomicOr(V* p, V v) {
  const V old = *p;
  *p = old | v;
  return old;
}

inline void fence() {}

template <class V>
inline V loadThrough(const V* p) {
  return *p;
}

constexpr size_t kMostLaunchShared = 99 << 10;  // a block's limit on sm_86

template <class... P, class... A>
inline int launch(void (*kernel)(P...), Grid grid, int threads, size_t sharedBytes, Stream stream,
                  A... args) {
  if (sharedBytes > kMostLaunchShared) throw sim::Fault("more shared memory than a block of sm_86 may have");
  const sim::Dim3 size{grid.x, grid.y, grid.z};
  const auto work = [=] {
    sim::launch(size, static_cast<uint32_t>(threads), sharedBytes, [=] { kernel(args...); });
  };
  if (stream) return sim::streamSubmitter()(stream, work);
  work();
  return 0;
}

}  // namespace octavo::cuda
