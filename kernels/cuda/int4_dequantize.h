// INT4 codes of a lane to fp16, exactly (q - z), then one rounding by the scale.
//
// Or-ing a nibble into the mantissa of 1024 = 0x6400 gives 1024 + q; a nibble one place higher gives 1024 +
// 16q, and a fused multiplication by 1/16 takes it to 64 + q. 1024 + z and -(64 + z) are built the same way
// from the zero's bits, so both differences are exact. [Kim et al. 2022, "Who Says Elephants Can't Run"]
#pragma once
#include "device.h"

namespace octavo::cuda {

// Both halves of a word the same.
DEVICE uint32_t twice(uint32_t half) {
  return half | half << 16;
}

// Scales and zeros of a lane's column 8b + g, b = 0..7 (int4_tiles.h).
struct Int4Groups {
  Words4 scales;
  Words2 zeros;
};

// Fragments b0 (inputs 2t, 2t+1) and b1 (2t+8, 2t+9) of the 8 columns b of the lane's slab.
DEVICE void dequantize(const Words4& codes, const Int4Groups& groups, int b, uint32_t& b0, uint32_t& b1) {
  constexpr int kAndOr = (0xf0 & 0xcc) | 0xaa;  // (x & y) | z
  constexpr uint32_t k1024 = 0x64006400u, kSixteenth = 0x2c002c00u, kMinus64 = 0xd400d400u;
  const uint32_t word = b & 1 ? codes.x[b >> 1] >> 8 : codes.x[b >> 1];
  const uint32_t low = lop3<kAndOr>(word, 0x000f000fu, k1024);
  const uint32_t high = lop3<kAndOr>(word, 0x00f000f0u, k1024);
  const uint32_t zero = twice(groups.zeros.x[b >> 2] >> (8 * (b & 3)) & 0xffu);
  const uint32_t scale = twice(groups.scales.x[b >> 1] >> (16 * (b & 1)) & 0xffffu);
  b0 = half2Mul(half2Sub(low, k1024 | zero), scale);
  b1 = half2Mul(half2Fma(high, kSixteenth, kMinus64 | zero << 4), scale);
}

}  // namespace octavo::cuda
