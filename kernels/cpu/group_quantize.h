// Asymmetric 4-bit numbers of groups: what `octavo quantize` makes of a row of weights, and how far it is
// off. Not ops of the table: no step of a server needs them.
//
// A group of g weights has one scale s, kept as binary16, and one zero z in 0..15:
//   code = clamp(round(w / s) + z, 0, 15)        w is stored as (code - z) s
// The range [min(w, 0), max(w, 0)], times the group's clip in (0, 1], is spread over the 16 codes, so that 0
// is always among them.
//
// g is a multiple of 16 and divides k. All matrices are row-major.
#pragma once
#include <cstdint>

namespace octavo::cpu {

// out [k] = what is stored for row [k]; clip [k / g], or null: 1. out may be row.
void roundTripRow(const float* row, const float* clip, int64_t k, int32_t g, float* out);

// codes [k], zeros [k / g] in 0..15, scales [k / g] as binary16: the same numbers that roundTripRow rounds
// to.
void quantizeRow(const float* row, const float* clip, int64_t k, int32_t g, uint8_t* codes, uint8_t* zeros,
                 uint16_t* scales);

// gram [g, g] = X^T X of columns [first, first + g) of x [rows, k].
void groupGram(const float* x, int64_t rows, int64_t k, int64_t first, int32_t g, float* gram);

// The clip among kClips whose rounding of weights [g] changes X w least, by d^T gram d with d the change of
// the weights. `room` [g].
float bestClip(const float* weights, const float* gram, int32_t g, float* room);

// Ratios that bestClip tries: 1, 0.95, ..., 0.5.
constexpr int kClips = 11;
inline float clipOf(int i) {
  return 1.0f - 0.05f * static_cast<float>(i);
}

}  // namespace octavo::cpu
