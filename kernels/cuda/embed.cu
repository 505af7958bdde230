// Embedding lookup. Bytes: 2 rows * width * 2; no FLOP to speak of. Bound by latency: at 16 rows of 4096 it
// moves 256 KB, 0.06 us on H200 and 0.35 us on A6000 at the floor, under the launch itself. A thread moves 16
// bytes, the widest access there is; a block takes a slice of one row so that one row alone still spreads
// over SMs.
#include "elementwise.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

template <class T>
KERNEL embedKernel(const int32_t* RESTRICT ids, const T* RESTRICT table, T* RESTRICT out, int64_t outStride,
                   int rows, int width, float scale) {
  const int column = elementwiseColumn();
  if (column >= width) return;
  for (int row = blockY(); row < rows; row += gridY()) {
    float values[8];
    unpack8<T>(*reinterpret_cast<const Words4*>(table + static_cast<int64_t>(ids[row]) * width + column),
               values);
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] *= scale;
    *reinterpret_cast<Words4*>(out + row * outStride + column) = pack8<T>(values);
  }
}

}  // namespace

template <class T>
int embed(const int32_t* ids, const T* table, T* out, int64_t outStride, int rows, int width, float scale,
          Stream stream) {
  if (width % 8 || outStride % 8) return kInvalidShape;
  if (rows == 0) return 0;
  return launch(embedKernel<T>, elementwiseGrid(rows, width), kElementwiseThreads, 0, stream, ids, table, out,
                outStride, rows, width, scale);
}

template int embed<Half>(const int32_t*, const Half*, Half*, int64_t, int, int, float, Stream);
template int embed<Bf16>(const int32_t*, const Bf16*, Bf16*, int64_t, int, int, float, Stream);

}  // namespace octavo::cuda
