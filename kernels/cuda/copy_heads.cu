// Heads of a size that attention has no kernel for, to heads of one that it has, padded with zeros; and back.
// Bytes: 2 rows * heads * (fromDim + toDim); models of such sizes are small. A thread moves one value: heads
// of 8 or 20 values leave nothing to gain from more.
#include "device.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

constexpr int kThreads = 128;

KERNEL copyHeadsKernel(const Half* RESTRICT in, int64_t inStride, int fromDim, Half* RESTRICT out,
                       int64_t outStride, int toDim, int rows, int heads) {
  const int i = blockX() * kThreads + threadX();
  if (i >= heads * toDim) return;
  const int head = i / toDim, column = i % toDim;
  for (int row = blockY(); row < rows; row += gridY())
    out[row * outStride + i] = column < fromDim ? in[row * inStride + head * fromDim + column] : Half{0};
}

}  // namespace

int copyHeads(const Half* in, int64_t inStride, int fromDim, Half* out, int64_t outStride, int toDim,
              int rows, int heads, Stream stream) {
  if (rows == 0) return 0;
  const Grid grid{static_cast<uint32_t>(ceilDiv(heads * toDim, kThreads)),
                  static_cast<uint32_t>(minOf(rows, 65535))};
  return launch(copyHeadsKernel, grid, kThreads, 0, stream, in, inStride, fromDim, out, outStride, toDim,
                rows, heads);
}

}  // namespace octavo::cuda
