// How a linear layer is cut into blocks (linear.h says why). Tiles are what a caller may choose among: they
// change how fast a result comes and none of its bits.
#pragma once
#include <cstdint>

namespace octavo::cuda {

// K's segments: a function of the weight's shape alone, whatever the tile.
struct LinearSegments {
  int count, length;  // length in inputs, a multiple of 128
};
LinearSegments linearSegmentsOf(int n, int k);  // n, k: padded

struct LinearTile {
  int rows = 0;     // 16, 32, 64, 128; 0: none chosen
  int columns = 0;  // 64, 128
  bool split = false;  // a block per segment of K
};

// Every tile that has kernels, in an order that never changes: a tile is known by its index.
constexpr LinearTile kLinearTiles[] = {
    {16, 64, false}, {16, 64, true}, {16, 128, false}, {16, 128, true}, {32, 64, false},
    {32, 64, true},  {32, 128, false}, {32, 128, true}, {64, 64, false}, {64, 64, true},
    {64, 128, false}, {64, 128, true}, {128, 128, false}, {128, 128, true},
};
constexpr int kNumLinearTiles = sizeof(kLinearTiles) / sizeof(kLinearTiles[0]);

// "16x128", "16x128-split"; null: there is no such tile.
const char* linearTileName(int tile);

// Whether the tile computes a call of this size: a split one has a bound on rows, and needs segments.
bool tileFits(const LinearTile& tile, int rows, int n, int k);

// Whether it is worth timing at this many rows: one that is mostly padding, or reads the weights dozens of
// times, is not.
bool tileIsCandidate(const LinearTile& tile, int rows, int n, int k);

// The tile where none has been measured.
LinearTile defaultTile(int rows, int n, int k);

}  // namespace octavo::cuda
