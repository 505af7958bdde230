// Shared by the ops that treat each 8 values of a row alike: one thread per 16 bytes, one row per block in y.
#pragma once
#include "device.h"

namespace octavo::cuda {

constexpr int kElementwiseThreads = 128;
constexpr int kMostGridRows = 65535;  // of a grid's y; a block strides over further rows

// Column of this thread, a multiple of 8; may be past the width.
DEVICE int elementwiseColumn() {
  return (blockX() * kElementwiseThreads + threadX()) * 8;
}

static inline Grid elementwiseGrid(int rows, int width) {
  return Grid{static_cast<uint32_t>(ceilDiv(width, kElementwiseThreads * 8)),
              static_cast<uint32_t>(minOf(rows, kMostGridRows))};
}

// x / (1 + e^-x), in fp32.
DEVICE float silu(float x) {
  return x / (1.0f + exp2Approx(-x * kLog2E));
}

}  // namespace octavo::cuda
