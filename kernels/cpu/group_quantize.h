// Asymmetric 4-bit numbers of groups: what `octavo quantize` makes of a row of weights, and how far it is
// off. Not ops of the table: no step of a server needs them.
//
// A group of g weights has one scale s, kept as binary16, and one zero z in 0..15:
//   code = clamp(round(w / s) + z, 0, 15)        w is stored as (code - z) s
// The range [clip.low min(w, 0), clip.high max(w, 0)] is spread over the 16 codes, so that 0 is always among
// them.
//
// g is a multiple of 16 and divides k. All matrices are row-major.
#pragma once
#include <cstdint>

namespace octavo::cpu {

// Shares of a group's range that are kept, each in (0, 1].
struct Clip {
  float low = 1, high = 1;
};

// out [k] = what is stored for row [k]; clips [k / g, 2] (low, high), or null: all of the range. out may be
// row.
void roundTripRow(const float* row, const float* clips, int64_t k, int32_t g, float* out);

// codes [k], zeros [k / g] in 0..15, scales [k / g] as binary16: the same numbers that roundTripRow rounds
// to.
void quantizeRow(const float* row, const float* clips, int64_t k, int32_t g, uint8_t* codes, uint8_t* zeros,
                 uint16_t* scales);

// gram [g, g]: the upper triangle of X^T X of columns [first, first + g) of x [rows, k], what is beside the
// diagonal counted twice and 0 below it, so that d^T X^T X d is the sum of d_i gram_ij d_j with j >= i.
void groupGram(const float* x, int64_t rows, int64_t k, int64_t first, int32_t g, float* gram);

// The clip whose rounding of weights [g] changes X w least: the high end first, then the low one, each going
// down from 1 by 0.05 to 0.5 while that helps. `room` [g].
Clip bestClip(const float* weights, const float* gram, int32_t g, float* room);

}  // namespace octavo::cpu
