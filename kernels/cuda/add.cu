// out = a + b. Bytes: 3 rows * width * 2; 1 FLOP per 6 bytes. Bound by memory above about 1000 rows of 4096
// (share of the floor expected 85 % on H200, 90 % on A6000), by the launch below. 16 bytes a thread.
#include "elementwise.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

template <class T>
KERNEL addKernel(const T* a, int64_t aStride, const T* b, int64_t bStride, T* out, int64_t outStride,
                 int rows, int width) {
  const int column = elementwiseColumn();
  if (column >= width) return;
  for (int row = blockY(); row < rows; row += gridY()) {
    float x[8], y[8];
    unpack8<T>(*reinterpret_cast<const Words4*>(a + row * aStride + column), x);
    unpack8<T>(*reinterpret_cast<const Words4*>(b + row * bStride + column), y);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] += y[i];
    *reinterpret_cast<Words4*>(out + row * outStride + column) = pack8<T>(x);
  }
}

}  // namespace

template <class T>
int add(const T* a, int64_t aStride, const T* b, int64_t bStride, T* out, int64_t outStride, int rows,
        int width, Stream stream) {
  if (width % 8 || aStride % 8 || bStride % 8 || outStride % 8) return kInvalidShape;
  if (rows == 0) return 0;
  return launch(addKernel<T>, elementwiseGrid(rows, width), kElementwiseThreads, 0, stream, a, aStride, b,
                bStride, out, outStride, rows, width);
}

template int add<Half>(const Half*, int64_t, const Half*, int64_t, Half*, int64_t, int, int, Stream);
template int add<Bf16>(const Bf16*, int64_t, const Bf16*, int64_t, Bf16*, int64_t, int, int, Stream);

}  // namespace octavo::cuda
