// What `octavo quantize` computes on the weights of one linear: how far a candidate is off, where to clip,
// and the packed result. Numbers of a group: kernels/cpu/group_quantize.h.
#pragma once
#include <cstdint>

#include "forward.h"

namespace octavo {

// ||X (W' - W)^T||^2 of x [rows, k] and w [n, k], where W' = Q(W diag(scale)) diag(1 / scale) and Q rounds in
// groups of groupSize along k. scale [k] above 0, or of size 0: 1; clip [n, k / groupSize, 2] (shares
// of the low and the high end of the range), or of size 0: 1.
double quantizationError(const Forward& forward, FloatView x, FloatView w, int64_t k, FloatView scale,
                         FloatView clip, int32_t groupSize);

// ||X W^T||^2: what the errors are shares of.
double outputEnergy(const Forward& forward, FloatView x, FloatView w, int64_t k);

// The clip of each group of w [n, k] that moves its share of the output on x [rows, k] least; out [n, k /
// groupSize].
void searchClip(const Forward& forward, FloatView x, FloatView w, int64_t k, int32_t groupSize,
                FloatView out);

// AWQ's gemm layout (kernels/ops.h, LinearPart): qweight I32 [k, n / 8], qzeros I32 [k / groupSize, n / 8],
// scales F16 [k / groupSize, n].
struct AwqTensors {
  int32_t* qweight = nullptr;
  int32_t* qzeros = nullptr;
  uint16_t* scales = nullptr;
  int64_t qweightSize = 0, qzerosSize = 0, scalesSize = 0;
};
void packAwq(const Forward& forward, FloatView w, int64_t k, FloatView clip, int32_t groupSize,
             const AwqTensors& out);

// Rounds to binary16; gives the index of the first value whose magnitude it cannot hold, or -1.
int64_t toHalf(FloatView in, uint16_t* out, int64_t outSize);

}  // namespace octavo
