// The one header that kernels include: the device as they see it. nvcc compiles each name below to one or two
// PTX instructions (ptx.h); a host compiler runs the same kernels in the simulator (sim/intrinsics.h).
//
//   KERNEL, LAUNCH_BOUNDS(threads, blocksPerSm)     declare a kernel; DEVICE, HOST_DEVICE its helpers,
//                                                   DEVICE_MEMBER, HOST_DEVICE_MEMBER those of a struct
//   threadX() blockX() blockY() blockZ() gridX() gridY() blockThreads()
//   sharedMemory()                                  the block's dynamic shared memory, 128-byte aligned
//   syncThreads() syncWarp()                        barriers; every thread must reach them
//   shuffleXor(v, mask) shuffle(v, lane) ballot(p)  collectives of a full warp
//   mma16816<T>(c, a, b0, b1)                       c[16x8] += a[16x16] b[16x8], fp32 accumulation, T Half or
//   Bf16 ldmatrix4(r, p) ldmatrix4Trans(r, p)            four 8x8 matrices of 16-bit values; lane l gives row
//   l's address copyAsync16(to, from, valid)                    16 bytes to shared memory, zeros unless valid
//   copyAsync16Once(to, from, valid)                the same for data that is read once: first to leave the
//   L2 commitCopies() waitCopies<N>()                  all but the newest N groups of this thread have landed
//   lop3<table>(a, b, c)  half2Sub, half2Mul, half2Fma, packHalf2, packPair<T>
//   toFloat(Half | Bf16)  fromFloat<T>(x)           round to nearest even; fp16 overflows to infinity
//   exp2Approx(x)                                   2^x, relative error 2^-22
//   atomicAdd, atomicMin, atomicMax on int32_t, uint32_t, uint64_t   shared or global; return the old value
//   fence()                                         earlier writes are seen by the device before later ones
//   loadThrough(p)                                  read from the L2: what another block wrote
//   launch(kernel, grid, threads, sharedBytes, stream, arguments...)   0 or the device's error code
//
// Code is compiled without contraction (nvcc -fmad=false, g++ -ffp-contract=off): a multiplication and an
// addition are fused only where fmaf says so, hence equally in every variant of a kernel. Batch invariance
// rests on it.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "types.h"

#if defined(__CUDACC__)
#include "ptx.h"
#else
#include "sim/intrinsics.h"
#endif

namespace octavo::cuda {

constexpr int kWarpSize = 32;
constexpr int kMostSharedBytes = 99 << 10;  // of a block on sm_86; sm_90a would allow 227 KB
constexpr float kLog2E = 1.4426950408889634f;

DEVICE int laneOf(int thread) {
  return thread & (kWarpSize - 1);
}
DEVICE int warpOf(int thread) {
  return thread / kWarpSize;
}

HOST_DEVICE int ceilDiv(int a, int b) {
  return (a + b - 1) / b;
}
HOST_DEVICE int minOf(int a, int b) {
  return a < b ? a : b;
}
HOST_DEVICE int maxOf(int a, int b) {
  return a > b ? a : b;
}

// Sum of a value over the warp, in every lane; the tree is fixed.
DEVICE float warpSum(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value += shuffleXor(value, mask);
  return value;
}

// Sum over the block, in every thread; a fixed tree. scratch: shared, kWarpSize floats.
DEVICE float blockSum(float value, float* scratch) {
  value = warpSum(value);
  const int lane = laneOf(threadX()), warp = warpOf(threadX());
  syncThreads();  // the last use of scratch is over
  if (lane == 0) scratch[warp] = value;
  syncThreads();
  return warpSum(lane < blockThreads() / kWarpSize ? scratch[lane] : 0.0f);
}

// 16 bytes as eight values of T and back.
template <class T>
DEVICE void unpack8(const Words4& words, float (&values)[8]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = toFloat(T{static_cast<uint16_t>(words.x[i] & 0xffffu)});
    values[2 * i + 1] = toFloat(T{static_cast<uint16_t>(words.x[i] >> 16)});
  }
}

template <class T>
DEVICE Words4 pack8(const float (&values)[8]) {
  Words4 words;
#pragma unroll
  for (int i = 0; i < 4; ++i) words.x[i] = packPair<T>(values[2 * i], values[2 * i + 1]);
  return words;
}

// Offset in bytes of the 16-byte chunk `chunk` of row `row` in a tile with `chunks` (8, 16, 32) chunks a row.
// The exclusive or spreads the eight rows of a matrix load, and the eight chunks of a copy, over all banks.
HOST_DEVICE int swizzled(int row, int chunk, int chunks) {
  return (row * chunks + (chunk ^ (row & 7))) * 16;
}

}  // namespace octavo::cuda
