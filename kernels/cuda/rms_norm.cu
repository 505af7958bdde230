// RMS norm, with the residual added first. Bytes: rows * width * 2 * (2, or 4 with a residual), 4 FLOP per
// value. Decode (16 rows of 4096) is bound by latency, two passes over 8 KB a row; at 2048 rows by memory,
// expected 75 % of the floor on H200 and 85 % on A6000 (the second pass hits the L1). A block per row: its
// reduction is the same tree whatever the batch. The threads of a block depend on the width alone.
#include "device.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

template <class T>
KERNEL rmsNormKernel(const T* in, int64_t inStride, T* residual, int64_t residualStride,
                     const T* RESTRICT weight, T* out, int64_t outStride, int width, float eps) {
  auto* scratch = reinterpret_cast<float*>(sharedMemory());  // [kWarpSize]
  const T* source = in + blockX() * inStride;
  T* sums = residual ? residual + blockX() * residualStride : nullptr;
  float squares = 0;
  for (int column = threadX() * 8; column < width; column += blockThreads() * 8) {
    float x[8];
    unpack8<T>(*reinterpret_cast<const Words4*>(source + column), x);
    if (sums) {
      float r[8];
      unpack8<T>(*reinterpret_cast<const Words4*>(sums + column), r);
#pragma unroll
      for (int i = 0; i < 8; ++i) r[i] += x[i];
      const Words4 rounded = pack8<T>(r);
      *reinterpret_cast<Words4*>(sums + column) = rounded;
      unpack8<T>(rounded, x);  // what is normed is what is stored
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) squares = fmaf(x[i], x[i], squares);
  }
  const float scale = 1.0f / sqrtf(blockSum(squares, scratch) / static_cast<float>(width) + eps);
  const T* normed = sums ? sums : source;
  T* target = out + blockX() * outStride;
  for (int column = threadX() * 8; column < width;
       column += blockThreads() * 8) {  // the same columns as above
    float x[8], w[8];
    unpack8<T>(*reinterpret_cast<const Words4*>(normed + column), x);
    unpack8<T>(*reinterpret_cast<const Words4*>(weight + column), w);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = x[i] * scale * w[i];
    *reinterpret_cast<Words4*>(target + column) = pack8<T>(x);
  }
}

}  // namespace

template <class T>
int rmsNorm(const T* in, int64_t inStride, T* residual, int64_t residualStride, const T* weight, T* out,
            int64_t outStride, int rows, int width, float eps, Stream stream) {
  if (width % 8 || inStride % 8 || outStride % 8 || (residual && residualStride % 8)) return kInvalidShape;
  if (rows == 0) return 0;
  const int threads = minOf(512, ceilDiv(width, 8 * kWarpSize) * kWarpSize);
  return launch(rmsNormKernel<T>, Grid{static_cast<uint32_t>(rows)}, threads, kWarpSize * sizeof(float),
                stream, in, inStride, residual, residualStride, weight, out, outStride, width, eps);
}

template int rmsNorm<Half>(const Half*, int64_t, Half*, int64_t, const Half*, Half*, int64_t, int, int, float,
                           Stream);
template int rmsNorm<Bf16>(const Bf16*, int64_t, Bf16*, int64_t, const Bf16*, Bf16*, int64_t, int, int, float,
                           Stream);

}  // namespace octavo::cuda
