// x = cap * tanh(x / cap) over fp32 logits, in place. Bytes: 8 per logit. Bound by memory (expected 85 % of
// the floor on both GPUs for 16 rows of 128k); 4 bytes a thread, because a vocabulary may be odd and rows
// then unaligned.
#include "device.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

constexpr int kThreads = 256;

KERNEL softcapKernel(float* x, int64_t stride, int rows, int width, float cap) {
  const int column = blockX() * kThreads + threadX();
  if (column >= width) return;
  for (int row = blockY(); row < rows; row += gridY()) {
    float* at = x + row * stride + column;
    *at = cap * tanhf(*at / cap);
  }
}

}  // namespace

int softcap(float* x, int64_t stride, int rows, int width, float cap, Stream stream) {
  if (rows == 0) return 0;
  const Grid grid{static_cast<uint32_t>(ceilDiv(width, kThreads)), static_cast<uint32_t>(minOf(rows, 65535))};
  return launch(softcapKernel, grid, kThreads, 0, stream, x, stride, rows, width, cap);
}

}  // namespace octavo::cuda
