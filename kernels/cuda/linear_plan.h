// How a linear layer is cut into blocks (linear.h says why).
#pragma once

namespace octavo::cuda {

// Everything but rowsPerTile and split is a function of the weight's shape.
struct LinearPlan {
  int segments, segmentLength;  // inputs of a segment, a multiple of 128
  int rowsPerTile;              // 16, 32, 64, 128
  bool split;                   // a block per segment
};

// n, k: padded.
LinearPlan planLinear(int rows, int n, int k);

}  // namespace octavo::cuda
