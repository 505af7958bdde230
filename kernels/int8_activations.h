// 8-bit activations of INT4 linears: what the host backends agree on, so that their results are equal bit for
// bit on every instruction set.
//
// The inputs of each group of weights are cut into blocks of 32; the last one of a group may be shorter. A
// row's block becomes x ~ scale * a:
//
//   scale = max |x| / 127        a = x * (127 / max |x|), rounded to nearest, ties to even: -127..127
//
// Groups smaller than a block that divide it share the scale of the 32 inputs that they lie in. A block
// below kSmallestMagnitude is zeros; one with an infinity or NaN is zeros with scale NaN: its outputs are
// NaN.
//
// With the codes q and zeros z of the weights, all sums of integers are exact and all sums of floats in this
// order, each operation rounded to f32 and none fused:
//
//   dots   = sum over the blocks of a group   scale * float(sum of q a)
//   values = sum over the blocks of a group   scale * float(sum of a)
//   y      = sum over the groups              weightScale * (dots - z * values)
#pragma once
#include <cstdint>

namespace octavo {

constexpr int kInt8Block = 32;
constexpr float kSmallestMagnitude = 1e-30f;  // 127 / it is finite

// Inputs that share one scale, counted from the start of a group (or of the row, if several groups share).
inline int64_t int8ScaleSpan(int64_t groupSize) {
  return groupSize >= kInt8Block || kInt8Block % groupSize == 0 ? kInt8Block : groupSize;
}

}  // namespace octavo
