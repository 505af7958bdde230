// How linear layers are cut into blocks.
#include "linear_plan.h"

#include <algorithm>

#include "launchers.h"

namespace octavo::cuda {
namespace {

constexpr int kTileN = 128;
constexpr int kWantedBlocks = 512;  // about four blocks for each of the 132 SMs of an H200, six on an A6000
constexpr int kLeastSegment = 256;  // inputs; below it a block's prologue outweighs its work
constexpr int kSegmentMultiple = 128;     // a whole number of steps of every kernel, and of groups
constexpr int kMostSplitRows = 128;       // beyond it partial sums cost more traffic than the weights
constexpr int kBlocksForTallTiles = 132;  // 128-row tiles once they alone fill the larger GPU

int ceilDiv(int a, int b) {
  return (a + b - 1) / b;
}

}  // namespace

LinearPlan planLinear(int rows, int n, int k) {
  const int columnTiles = ceilDiv(n, kTileN);
  const int wanted = std::clamp(kWantedBlocks / columnTiles, 1, std::max(1, k / kLeastSegment));
  LinearPlan plan;
  plan.segmentLength = ceilDiv(ceilDiv(k, wanted), kSegmentMultiple) * kSegmentMultiple;
  plan.segments = ceilDiv(k, plan.segmentLength);
  plan.split = plan.segments > 1 && rows <= kMostSplitRows;
  const bool tall = rows > 64 && (plan.split || ceilDiv(rows, 128) * columnTiles >= kBlocksForTallTiles);
  plan.rowsPerTile = rows <= 16 ? 16 : rows <= 32 ? 32 : tall ? 128 : 64;
  return plan;
}

int linearSegments(int n, int k) {
  return planLinear(1, n, k).segments;
}

int64_t linearPartials(int rows, int n, int k) {
  const LinearPlan plan = planLinear(rows, n, k);
  return plan.split ? static_cast<int64_t>(plan.segments) * rows * ceilDiv(n, kTileN) * kTileN : 0;
}

int linearCounters(int n) {
  return ceilDiv(n, kTileN);
}  // a split call has one row tile

}  // namespace octavo::cuda
