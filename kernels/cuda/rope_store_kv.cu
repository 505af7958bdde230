// Per-head norm, rotary embedding, and k and v into the cache. Bytes: rows * (numHeads + 2 numKvHeads) *
// headDim * 4, about 10 FLOP per value. Decode is bound by latency; at 2048 rows by memory, expected 70 % of
// the floor on both GPUs. A warp per head: the norm's sum is one warp reduction, and the partner of a value
// (half a head away, or next to it) is read from shared memory, so that both pairings are the same code.
#include "device.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kPageTokens = 16;
constexpr int kMostHeadDim = 256;

// In place over head [headDim], shared, by one warp.
DEVICE void normHead(float* head, int headDim, float eps) {
  float squares = 0;
  for (int i = laneOf(threadX()); i < headDim; i += kWarpSize) squares = fmaf(head[i], head[i], squares);
  const float scale = 1.0f / sqrtf(warpSum(squares) / static_cast<float>(headDim) + eps);
  for (int i = laneOf(threadX()); i < headDim; i += kWarpSize) head[i] *= scale;
}

// Value i of the head after rotation by the angles of one position (cosSin [rotaryDim]).
DEVICE float rotated(const float* head, int i, const float* cosSin, int rotaryDim, bool interleaved) {
  if (!cosSin || i >= rotaryDim) return head[i];
  const int half = rotaryDim / 2;
  const int pair = interleaved ? i / 2 : i % half;
  const bool first = interleaved ? i % 2 == 0 : i < half;
  const int step = interleaved ? 1 : half;
  const float c = cosSin[pair], s = cosSin[half + pair];
  return first ? head[i] * c - head[i + step] * s : head[i] * c + head[i - step] * s;
}

template <class T>
KERNEL ropeStoreKvKernel(RopeStoreKv<T> args) {
  const int lane = laneOf(threadX()), warp = warpOf(threadX());
  const int numHeads = args.numHeads, numKvHeads = args.numKvHeads, headDim = args.headDim;
  const int h = blockX() * kWarps + warp, row = blockY() + blockZ() * gridY();
  if (h >= numHeads + 2 * numKvHeads || row >= args.rows)
    return;  // a whole warp; no barrier of the block follows
  float* head = reinterpret_cast<float*>(sharedMemory()) + warp * kMostHeadDim;
  T* source = args.qkv + row * args.stride + static_cast<int64_t>(h) * headDim;
  const bool isQuery = h < numHeads, isValue = h >= numHeads + numKvHeads;
  const T* weight = isQuery ? args.qNorm : isValue ? nullptr : args.kNorm;
  for (int i = lane; i < headDim; i += kWarpSize) head[i] = toFloat(source[i]);
  if (weight) {
    normHead(head, headDim, args.normEps);
    for (int i = lane; i < headDim; i += kWarpSize) head[i] *= toFloat(weight[i]);
  }
  syncWarp();
  const float* angles = args.cosSin && !isValue
                            ? args.cosSin + static_cast<int64_t>(args.positions[row]) * args.rotaryDim
                            : nullptr;
  const int slot = args.slotMapping[row], kvHead = (h - numHeads) % maxOf(numKvHeads, 1);
  const int64_t page = static_cast<int64_t>(slot / kPageTokens) * 2 + (isValue ? 1 : 0);
  Half* cached =
      args.pages + ((page * numKvHeads + kvHead) * kPageTokens + slot % kPageTokens) * args.pageHeadDim;
  for (int i = lane; i < headDim; i += kWarpSize) {
    const float x = rotated(head, i, angles, args.rotaryDim, args.interleaved);
    if (isQuery) {
      source[i] = fromFloat<T>(x);
    } else if (slot >= 0) {
      cached[i] = fromFloat<Half>(x);
    }
  }
}

}  // namespace

template <class T>
int ropeStoreKv(const RopeStoreKv<T>& args, Stream stream) {
  if (args.headDim > kMostHeadDim || args.rotaryDim > args.headDim || args.rotaryDim % 2 ||
      args.pageHeadDim < args.headDim)
    return kInvalidShape;
  if (args.rows == 0) return 0;
  constexpr int kGridRows = 32768;
  const Grid grid{static_cast<uint32_t>(ceilDiv(args.numHeads + 2 * args.numKvHeads, kWarps)),
                  static_cast<uint32_t>(minOf(args.rows, kGridRows)),
                  static_cast<uint32_t>(ceilDiv(args.rows, kGridRows))};
  return launch(ropeStoreKvKernel<T>, grid, kWarps * kWarpSize, kWarps * kMostHeadDim * sizeof(float), stream,
                args);
}

template int ropeStoreKv<Half>(const RopeStoreKv<Half>&, Stream);
template int ropeStoreKv<Bf16>(const RopeStoreKv<Bf16>&, Stream);

}  // namespace octavo::cuda
