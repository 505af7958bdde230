// A slice of INT4 weights as fp16, for libraries that want dense operands. Bytes: columns * k * (0.5 + 2);
// bound by memory or, for slices that stay in the L2, by its bandwidth (expected 75 % of the floor on both
// GPUs). A warp does a 16 x 64 slab as it lies in memory; a lane's stores of 4 bytes fill 32-byte sectors
// with their neighbours in k.
#include "int4_dequantize.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

constexpr int kWarps = 4;

KERNEL dequantizeKernel(Int4Weight weight, int firstColumn, Half* out) {
  const int lane = laneOf(threadX()), g = lane >> 2, t = lane & 3;
  const int tile = blockX() * kWarps + warpOf(threadX());  // of 16 inputs
  if (tile * 16 >= weight.k) return;
  const int slabs = weight.n / kInt4Slab, slab = firstColumn / kInt4Slab + blockY();
  const int64_t group = static_cast<int64_t>(tile * 16 / weight.groupSize) * slabs + slab;
  const Words4 codes = weight.codes[(static_cast<int64_t>(tile) * slabs + slab) * kWarpSize + lane];
  const Int4Groups groups{*reinterpret_cast<const Words4*>(weight.scales + group * kInt4Slab + g * 8),
                          *reinterpret_cast<const Words2*>(weight.zeros + group * kInt4Slab + g * 8)};
#pragma unroll
  for (int b = 0; b < 8; ++b) {
    uint32_t b0, b1;
    dequantize(codes, groups, b, b0, b1);
    const int64_t column = blockY() * kInt4Slab + b * 8 + g;
    Half* at = out + column * weight.k + tile * 16 + t * 2;
    *reinterpret_cast<uint32_t*>(at) = b0;
    *reinterpret_cast<uint32_t*>(at + 8) = b1;
  }
}

}  // namespace

int dequantizeInt4(const Int4Weight& weight, int firstColumn, int columns, Half* out, Stream stream) {
  if (firstColumn % kInt4Slab || columns % kInt4Slab || firstColumn + columns > weight.n)
    return kInvalidShape;
  if (columns == 0) return 0;
  const Grid grid{static_cast<uint32_t>(ceilDiv(weight.k / 16, kWarps)),
                  static_cast<uint32_t>(columns / kInt4Slab)};
  return launch(dequantizeKernel, grid, kWarps * kWarpSize, 0, stream, weight, firstColumn, out);
}

}  // namespace octavo::cuda
