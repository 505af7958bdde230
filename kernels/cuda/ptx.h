// device.h for nvcc: thin wrappers of PTX. Fragment layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16".
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "types.h"

#define KERNEL static __global__ void
#define DEVICE static __device__ __forceinline__
#define HOST_DEVICE static __host__ __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define HOST_DEVICE_MEMBER __host__ __device__ __forceinline__
#define LAUNCH_BOUNDS(threads, blocksPerSm) __launch_bounds__(threads, blocksPerSm)
#define RESTRICT __restrict__

namespace octavo::cuda {

DEVICE int threadX() {
  return static_cast<int>(threadIdx.x);
}
DEVICE int blockX() {
  return static_cast<int>(blockIdx.x);
}
DEVICE int blockY() {
  return static_cast<int>(blockIdx.y);
}
DEVICE int blockZ() {
  return static_cast<int>(blockIdx.z);
}
DEVICE int gridX() {
  return static_cast<int>(gridDim.x);
}
DEVICE int gridY() {
  return static_cast<int>(gridDim.y);
}
DEVICE int blockThreads() {
  return static_cast<int>(blockDim.x);
}

DEVICE unsigned char* sharedMemory() {
  extern __shared__ __align__(128) unsigned char octavoShared[];
  return octavoShared;
}

DEVICE uint32_t sharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

DEVICE void syncThreads() {
  __syncthreads();
}
DEVICE void syncWarp() {
  __syncwarp();
}

template <class V>
DEVICE V shuffleXor(V value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <class V>
DEVICE V shuffle(V value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
DEVICE uint32_t ballot(bool predicate) {
  return __ballot_sync(0xffffffffu, predicate);
}

template <class T>
DEVICE void mma16816(float* c, const uint32_t* a, uint32_t b0, uint32_t b1);

template <>
__device__ __forceinline__ void mma16816<Half>(float* c, const uint32_t* a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void mma16816<Bf16>(float* c, const uint32_t* a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE void ldmatrix4(uint32_t* r, const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(sharedAddress(p))
               : "memory");
}

DEVICE void ldmatrix4Trans(uint32_t* r, const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(sharedAddress(p))
               : "memory");
}

DEVICE void copyAsync16(void* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;\n" ::"r"(sharedAddress(to)), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}

DEVICE void copyAsync16Once(void* to, const void* from, bool valid) {
  asm volatile(
      "{ .reg .b64 policy; createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
      "cp.async.cg.shared.global.L2::cache_hint [%0],[%1],16,%2,policy; }\n" ::"r"(sharedAddress(to)),
      "l"(from), "r"(valid ? 16 : 0)
      : "memory");
}

DEVICE void commitCopies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int N>
DEVICE void waitCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

template <int kTable>
DEVICE uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t r;
  asm("lop3.b32 %0,%1,%2,%3,%4;\n" : "=r"(r) : "r"(a), "r"(b), "r"(c), "n"(kTable));
  return r;
}

DEVICE uint32_t half2Sub(uint32_t a, uint32_t b) {
  uint32_t r;
  asm("sub.rn.f16x2 %0,%1,%2;\n" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
DEVICE uint32_t half2Mul(uint32_t a, uint32_t b) {
  uint32_t r;
  asm("mul.rn.f16x2 %0,%1,%2;\n" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
DEVICE uint32_t half2Fma(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t r;
  asm("fma.rn.f16x2 %0,%1,%2,%3;\n" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}

// The first value in the low half.
DEVICE uint32_t packHalf2(float low, float high) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0,%1,%2;\n" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

template <class T>
DEVICE uint32_t packPair(float low, float high);
template <>
__device__ __forceinline__ uint32_t packPair<Half>(float low, float high) {
  return packHalf2(low, high);
}
template <>
__device__ __forceinline__ uint32_t packPair<Bf16>(float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0,%1,%2;\n" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

DEVICE float toFloat(Half h) {
  return __half2float(__ushort_as_half(h.bits));
}
DEVICE float toFloat(Bf16 b) {
  return __uint_as_float(static_cast<uint32_t>(b.bits) << 16);
}
DEVICE float toFloat(float x) {
  return x;
}

template <class T>
DEVICE T fromFloat(float x);
template <>
__device__ __forceinline__ Half fromFloat<Half>(float x) {
  return Half{__half_as_ushort(__float2half_rn(x))};
}
template <>
__device__ __forceinline__ Bf16 fromFloat<Bf16>(float x) {
  return Bf16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
template <>
__device__ __forceinline__ float fromFloat<float>(float x) {
  return x;
}

DEVICE float exp2Approx(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0,%1;\n" : "=f"(r) : "f"(x));
  return r;
}

DEVICE uint32_t floatBits(float x) {
  return __float_as_uint(x);
}
DEVICE float bitsFloat(uint32_t x) {
  return __uint_as_float(x);
}
DEVICE uint32_t multiplyHigh(uint32_t a, uint32_t b) {
  return __umulhi(a, b);
}

DEVICE int32_t atomicAdd(int32_t* p, int32_t v) {
  return ::atomicAdd(p, v);
}
DEVICE uint32_t atomicAdd(uint32_t* p, uint32_t v) {
  return ::atomicAdd(p, v);
}
DEVICE int32_t atomicMin(int32_t* p, int32_t v) {
  return ::atomicMin(p, v);
}
DEVICE uint32_t atomicOr(uint32_t* p, uint32_t v) {
  return ::atomicOr(p, v);
}
DEVICE uint64_t atomicAdd(uint64_t* p, uint64_t v) {
  return ::atomicAdd(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(v));
}
DEVICE uint64_t atomicMax(uint64_t* p, uint64_t v) {
  return ::atomicMax(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(v));
}

DEVICE void fence() {
  __threadfence();
}

DEVICE float loadThrough(const float* p) {
  return __ldcg(p);
}
DEVICE Float2 loadThrough(const Float2* p) {
  const float2 v = __ldcg(reinterpret_cast<const float2*>(p));
  return Float2{v.x, v.y};
}

constexpr size_t kDefaultSharedBytes = 48 << 10;  // more must be asked for

template <class... P, class... A>
inline int launch(void (*kernel)(P...), Grid grid, int threads, size_t sharedBytes, Stream stream,
                  A... args) {
  if (sharedBytes > kDefaultSharedBytes) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(sharedBytes));
    if (error != cudaSuccess) return static_cast<int>(error);
  }
  kernel<<<dim3(grid.x, grid.y, grid.z), dim3(static_cast<unsigned>(threads)), sharedBytes, stream>>>(
      args...);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace octavo::cuda
