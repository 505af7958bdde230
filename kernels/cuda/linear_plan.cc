#include "linear_plan.h"

#include <algorithm>
#include <cstdio>

#include "launchers.h"

namespace octavo::cuda {
namespace {

constexpr int kPlanColumns = 128;  // of the tile that K's segments are planned by
constexpr int kLeastColumns = 64, kLeastRows = 16;
constexpr int kWantedBlocks = 512;  // about four blocks for each of the 132 SMs of an H200, six on an A6000
constexpr int kLeastSegment = 256;  // inputs; below it a block's prologue outweighs its work
constexpr int kSegmentMultiple = 128;     // a whole number of steps of every kernel, and of groups
constexpr int kMostSplitRows = 128;       // beyond it partial sums cost more traffic than the weights
constexpr int kBlocksForTallTiles = 132;  // 128-row tiles once they alone fill the larger GPU

int ceilDiv(int a, int b) {
  return (a + b - 1) / b;
}

struct TileNames {
  char text[kNumLinearTiles][16];
  TileNames() {
    for (int i = 0; i < kNumLinearTiles; ++i) {
      const LinearTile& tile = kLinearTiles[i];
      std::snprintf(text[i], sizeof text[i], "%dx%d%s", tile.rows, tile.columns, tile.split ? "-split" : "");
    }
  }
};

}  // namespace

LinearSegments linearSegmentsOf(int n, int k) {
  const int wanted =
      std::clamp(kWantedBlocks / ceilDiv(n, kPlanColumns), 1, std::max(1, k / kLeastSegment));
  LinearSegments segments;
  segments.length = ceilDiv(ceilDiv(k, wanted), kSegmentMultiple) * kSegmentMultiple;
  segments.count = ceilDiv(k, segments.length);
  return segments;
}

const char* linearTileName(int tile) {
  static const TileNames names;
  return tile >= 0 && tile < kNumLinearTiles ? names.text[tile] : nullptr;
}

bool tileFits(const LinearTile& tile, int rows, int n, int k) {
  return !tile.split || (rows <= kMostSplitRows && linearSegmentsOf(n, k).count > 1);
}

bool tileIsCandidate(const LinearTile& tile, int rows, int n, int k) {
  if (!tileFits(tile, rows, n, k)) return false;
  const bool padding = tile.rows > kLeastRows && tile.rows >= 2 * rows;
  return !padding && (rows <= kMostSplitRows || tile.rows >= 64);
}

LinearTile defaultTile(int rows, int n, int k) {
  const bool split = rows <= kMostSplitRows && linearSegmentsOf(n, k).count > 1;
  const int tallBlocks = ceilDiv(rows, 128) * ceilDiv(n, kPlanColumns);
  const bool tall = rows > 64 && (split || tallBlocks >= kBlocksForTallTiles);
  return {rows <= 16 ? 16 : rows <= 32 ? 32 : tall ? 128 : 64, kPlanColumns, split};
}

int linearSegments(int n, int k) {
  return linearSegmentsOf(n, k).count;
}

int64_t linearPartials(int rows, int n, int k) {
  const int segments = linearSegments(n, k);
  if (segments == 1 || rows > kMostSplitRows) return 0;
  return static_cast<int64_t>(segments) * rows * ceilDiv(n, kPlanColumns) * kPlanColumns;
}

int linearCounters(int n) {
  return ceilDiv(n, kLeastColumns) * (kMostSplitRows / kLeastRows);
}

}  // namespace octavo::cuda
