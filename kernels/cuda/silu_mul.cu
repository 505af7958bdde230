// out = silu(gate) * up, for gate and up that no linear's epilogue has joined. Bytes: 3 rows * width * 2,
// about 8 FLOP per value. Bound by memory at many rows (expected 85 % of the floor on H200, 90 % on A6000).
// 16 bytes a thread.
#include "elementwise.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

template <class T>
KERNEL siluMulKernel(const T* RESTRICT in, int64_t inStride, T* RESTRICT out, int64_t outStride, int rows,
                     int width) {
  const int column = elementwiseColumn();
  if (column >= width) return;
  for (int row = blockY(); row < rows; row += gridY()) {
    float gate[8], up[8];
    unpack8<T>(*reinterpret_cast<const Words4*>(in + row * inStride + column), gate);
    unpack8<T>(*reinterpret_cast<const Words4*>(in + row * inStride + width + column), up);
#pragma unroll
    for (int i = 0; i < 8; ++i) gate[i] = silu(gate[i]) * up[i];
    *reinterpret_cast<Words4*>(out + row * outStride + column) = pack8<T>(gate);
  }
}

// Of the linears' own order of columns: a block of 8 gates, then their 8 ups.
KERNEL siluMulBlocksKernel(const Half* RESTRICT in, int64_t inStride, Half* RESTRICT out, int64_t outStride,
                           int rows, int width) {
  const int column = elementwiseColumn();
  if (column >= width) return;
  for (int row = blockY(); row < rows; row += gridY()) {
    const Half* from = in + row * inStride + column * 2;
    float gate[8], up[8];
    unpack8<Half>(*reinterpret_cast<const Words4*>(from), gate);
    unpack8<Half>(*reinterpret_cast<const Words4*>(from + 8), up);
#pragma unroll
    for (int i = 0; i < 8; ++i) gate[i] = silu(gate[i]) * up[i];
    *reinterpret_cast<Words4*>(out + row * outStride + column) = pack8<Half>(gate);
  }
}

}  // namespace

int siluMulBlocks(const Half* in, int64_t inStride, Half* out, int64_t outStride, int rows, int width,
                  Stream stream) {
  if (width % 8 || inStride % 8 || outStride % 8) return kInvalidShape;
  if (rows == 0) return 0;
  return launch(siluMulBlocksKernel, elementwiseGrid(rows, width), kElementwiseThreads, 0, stream, in,
                inStride, out, outStride, rows, width);
}

template <class T>
int siluMul(const T* in, int64_t inStride, T* out, int64_t outStride, int rows, int width, Stream stream) {
  if (width % 8 || inStride % 8 || outStride % 8) return kInvalidShape;
  if (rows == 0) return 0;
  return launch(siluMulKernel<T>, elementwiseGrid(rows, width), kElementwiseThreads, 0, stream, in, inStride,
                out, outStride, rows, width);
}

template int siluMul<Half>(const Half*, int64_t, Half*, int64_t, int, int, Stream);
template int siluMul<Bf16>(const Bf16*, int64_t, Bf16*, int64_t, int, int, Stream);

}  // namespace octavo::cuda
