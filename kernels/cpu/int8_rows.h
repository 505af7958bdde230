// Rows rounded to 8 bits (int8_activations.h), laid out for one linear's groups, and the memory for them.
#pragma once
#include "../host.h"
#include "../int8_activations.h"

namespace octavo::cpu {

struct CpuLinear;

// Where the values of a row lie. Each group begins on 8 codes; codes beyond its inputs are zero.
struct Int8Layout {
  explicit Int8Layout(const CpuLinear& weight);
  int64_t groupCodes;   // bytes of a group
  int64_t groupBlocks;  // blocks of a group, each with a scale
  int64_t codeStride;   // bytes of a row: an odd number of cache lines, so that rows do not share cache sets
  int64_t scaleStride;  // floats of a row
  int64_t sumStride;    // floats of a row
};

// Rows of one call at most; more are taken in turns.
constexpr int64_t kInt8MaxRows = 512;

struct Int8Rows {
  int64_t rows = 0;      // that there is room for
  Buffer<int8_t> codes;  // [rows][codeStride]
  Buffer<float> scales;  // [rows][groups][groupBlocks]
  Buffer<float> sums;    // [rows][groups]: over the blocks, scale * float(sum of codes)

  // Room for up to `maxRows` rows of every linear so far. False: no memory.
  bool reserve(const CpuLinear& weight, int64_t maxRows);
};

}  // namespace octavo::cpu
