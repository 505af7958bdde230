// Copies chosen rows (the ones that are sampled). Bytes: 2 rows * width * 2, bound by latency like embed.
#include "elementwise.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

template <class T>
KERNEL gatherRowsKernel(const T* RESTRICT in, int64_t inStride, const int32_t* RESTRICT index,
                        T* RESTRICT out, int64_t outStride, int rows, int width) {
  const int column = elementwiseColumn();
  if (column >= width) return;
  for (int row = blockY(); row < rows; row += gridY()) {
    *reinterpret_cast<Words4*>(out + row * outStride + column) =
        *reinterpret_cast<const Words4*>(in + index[row] * inStride + column);
  }
}

}  // namespace

template <class T>
int gatherRows(const T* in, int64_t inStride, const int32_t* index, T* out, int64_t outStride, int rows,
               int width, Stream stream) {
  if (width % 8 || inStride % 8 || outStride % 8) return kInvalidShape;
  if (rows == 0) return 0;
  return launch(gatherRowsKernel<T>, elementwiseGrid(rows, width), kElementwiseThreads, 0, stream, in,
                inStride, index, out, outStride, rows, width);
}

template int gatherRows<Half>(const Half*, int64_t, const int32_t*, Half*, int64_t, int, int, Stream);
template int gatherRows<Bf16>(const Bf16*, int64_t, const int32_t*, Bf16*, int64_t, int, int, Stream);

}  // namespace octavo::cuda
