// Prints what every wrapper of device.h computes, lane by lane, on values whose results are exact. Compiled
// by g++ and by nvcc it must print the same bytes: fragment layouts are what simulator and kernels could both
// have wrong.
#include <cstdio>
#include <vector>

#include "../../../kernels/cuda/device.h"

namespace octavo::cuda {
namespace {

constexpr int kRegisters = 64;  // of output, for each lane
constexpr int kSharedBytes = 4096;

// Two small integers.
DEVICE uint32_t smallPair(int seed, bool bf16) {
  const auto low = static_cast<float>(seed * 7 % 13 - 6), high = static_cast<float>(seed * 11 % 9 - 4);
  return bf16 ? packPair<Bf16>(low, high) : packPair<Half>(low, high);
}

struct Output {
  uint32_t* at;
  int count = 0;
  DEVICE_MEMBER void put(uint32_t word) { at[count++] = word; }
};

template <class T>
DEVICE void dumpMma(Output& out, int lane, bool bf16) {
  uint32_t a[4], b[2];
  float c[4];
  for (int i = 0; i < 4; ++i) {
    a[i] = smallPair(lane * 4 + i, bf16);
    c[i] = static_cast<float>(lane * 4 + i);
  }
  for (int i = 0; i < 2; ++i) b[i] = smallPair(1000 + lane * 2 + i, bf16);
  mma16816<T>(c, a, b[0], b[1]);
  for (int i = 0; i < 4; ++i) out.put(floatBits(c[i]));
}

DEVICE void dumpMatrices(Output& out, int lane) {
  unsigned char* shared = sharedMemory();
  auto* words = reinterpret_cast<uint32_t*>(shared);
  for (int i = lane; i < 256; i += kWarpSize)
    words[i] = static_cast<uint32_t>(i) * 2 | (static_cast<uint32_t>(i) * 2 + 1) << 16;
  syncWarp();
  uint32_t r[4];
  ldmatrix4(r, shared + lane * 16);
  for (const uint32_t word : r) out.put(word);
  ldmatrix4Trans(r, shared + (lane * 5 & 31) * 16 + 512);
  for (const uint32_t word : r) out.put(word);
  syncWarp();
}

DEVICE void dumpCopies(Output& out, const uint32_t* source, int lane) {
  unsigned char* shared = sharedMemory();
  copyAsync16(shared + lane * 16, source + lane * 4, lane % 3 != 0);
  commitCopies();
  copyAsync16Once(shared + 512 + lane * 16, source + lane * 4, lane % 5 != 0);
  commitCopies();
  waitCopies<0>();
  syncWarp();
  for (int i = 0; i < 8; ++i) out.put(reinterpret_cast<uint32_t*>(shared)[(lane * 8 + i) * 5 & 255]);
  syncWarp();
}

DEVICE void dumpArithmetic(Output& out, const uint32_t* source, int lane) {
  const uint32_t x = smallPair(lane, false), y = smallPair(lane + 77, false), z = smallPair(lane + 5, false);
  out.put(lop3<(0xf0 & 0xcc) | 0xaa>(source[lane], 0x000f000fu, 0x64006400u));
  out.put(lop3<0x96>(source[lane], source[lane + 1], source[lane + 2]));
  out.put(half2Sub(x, y));
  out.put(half2Mul(x, y));
  out.put(half2Fma(x, y, z));
  out.put(packHalf2(1.0009765625f * static_cast<float>(lane + 1), -65504.0f / static_cast<float>(lane + 1)));
  out.put(packHalf2(1e-7f * static_cast<float>(lane), 70000.0f));  // subnormals, overflow
  out.put(packPair<Bf16>(1.00390625f * static_cast<float>(lane + 1), -3.0f / static_cast<float>(lane + 1)));
  out.put(multiplyHigh(source[lane], source[lane + 3]));
  for (int e = -3; e < 5; ++e) out.put(floatBits(exp2Approx(static_cast<float>(e))));
}

DEVICE void dumpCollectives(Output& out, int lane) {
  out.put(static_cast<uint32_t>(shuffleXor(lane * 3, 5)));
  out.put(static_cast<uint32_t>(shuffle(lane * 7, 31 - lane)));
  out.put(static_cast<uint32_t>(shuffleXor(static_cast<uint64_t>(lane) << 33, 16) >> 33));
  out.put(ballot(lane % 3 == 1));
  auto* counter = reinterpret_cast<uint32_t*>(sharedMemory());
  auto* best = reinterpret_cast<uint64_t*>(sharedMemory() + 8);
  if (lane == 0) {
    *counter = 0;
    *best = 0;
  }
  syncWarp();
  atomicAdd(counter, static_cast<uint32_t>(lane));
  atomicMax(best, static_cast<uint64_t>(lane * 37 % 32) << 35);
  syncWarp();
  out.put(*counter);
  out.put(static_cast<uint32_t>(*best >> 35));
}

KERNEL LAUNCH_BOUNDS(32, 1) goldenKernel(const uint32_t* source, uint32_t* registers) {
  const int lane = laneOf(threadX());
  Output out{registers + lane * kRegisters};
  dumpMma<Half>(out, lane, false);
  dumpMma<Bf16>(out, lane, true);
  dumpMatrices(out, lane);
  dumpCopies(out, source, lane);
  dumpArithmetic(out, source, lane);
  dumpCollectives(out, lane);
  while (out.count < kRegisters) out.put(0xdeadbeefu);
}

void run(const uint32_t* source, uint32_t* registers) {
  launch(goldenKernel, Grid{}, 32, kSharedBytes, nullptr, source, registers);
}

}  // namespace
}  // namespace octavo::cuda

int main() {
  using octavo::cuda::kRegisters;
  using octavo::cuda::run;
  std::vector<uint32_t> source(160), registers(32 * kRegisters);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint32_t>(i * 2654435761u + 12345u);
#if defined(__CUDACC__)
  uint32_t *deviceSource = nullptr, *deviceRegisters = nullptr;
  cudaMalloc(&deviceSource, source.size() * 4);
  cudaMalloc(&deviceRegisters, registers.size() * 4);
  cudaMemcpy(deviceSource, source.data(), source.size() * 4, cudaMemcpyHostToDevice);
  run(deviceSource, deviceRegisters);
  const cudaError_t error = cudaDeviceSynchronize();
  if (error != cudaSuccess) {
    std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
    return 1;
  }
  cudaMemcpy(registers.data(), deviceRegisters, registers.size() * 4, cudaMemcpyDeviceToHost);
  cudaFree(deviceSource);
  cudaFree(deviceRegisters);
#else
  run(source.data(), registers.data());
#endif
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < kRegisters; ++i)
      std::printf("%08x%c", registers[lane * kRegisters + i], i == kRegisters - 1 ? '\n' : ' ');
  }
  return 0;
}
