// Copies KV pages within every layer. Bytes: 2 * layers * count * pageBytes (64 KB a page for 8 heads of
// 128). Bound by memory once a few pages are copied (expected 90 % of the floor on both GPUs). A block per
// page and layer, 16 bytes a thread, so that each warp's access is 512 contiguous bytes.
#include "device.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

constexpr int kThreads = 256;

KERNEL copyPagesKernel(Words4* pages, int64_t numPages, int64_t pageWords, const int32_t* from,
                       const int32_t* to) {
  Words4* layer = pages + blockY() * numPages * pageWords;
  const Words4* source = layer + from[blockX()] * pageWords;
  Words4* target = layer + to[blockX()] * pageWords;
  for (int64_t i = threadX(); i < pageWords; i += kThreads) target[i] = source[i];
}

}  // namespace

int copyPages(void* pages, int layers, int64_t numPages, int64_t pageBytes, const int32_t* from,
              const int32_t* to, int count, Stream stream) {
  if (pageBytes % 16 || layers > 65535) return kInvalidShape;
  if (count == 0 || layers == 0) return 0;
  return launch(copyPagesKernel, Grid{static_cast<uint32_t>(count), static_cast<uint32_t>(layers)}, kThreads,
                0, stream, static_cast<Words4*>(pages), numPages, pageBytes / 16, from, to);
}

}  // namespace octavo::cuda
