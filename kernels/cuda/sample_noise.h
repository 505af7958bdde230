// Gumbel noise on the device: philox.h's words, and its noise in fp32.
#pragma once
#include "../philox.h"
#include "device.h"

namespace octavo::cuda {

// Words of tokens 4 block .. 4 block + 3 at a position. [Salmon et al. 2011, Random123]
DEVICE void noiseWords(int32_t position, uint32_t block, int32_t seedLo, int32_t seedHi,
                       uint32_t (&words)[4]) {
  uint32_t c0 = static_cast<uint32_t>(position), c1 = block, c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seedLo), k1 = static_cast<uint32_t>(seedHi);
#pragma unroll
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint32_t high0 = multiplyHigh(kPhiloxM0, c0), low0 = kPhiloxM0 * c0;
    const uint32_t high1 = multiplyHigh(kPhiloxM1, c2), low1 = kPhiloxM1 * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

// -log(-log(u)), u = (word + 0.5) 2^-32. Near 1, where u would round to 1, the inner logarithm is taken of 1
// - u.
DEVICE float gumbel(uint32_t word) {
  const float exponential = word < 0x80000000u ? -logf((static_cast<float>(word) + 0.5f) * 0x1p-32f)
                                               : -log1pf(-(static_cast<float>(~word) + 0.5f) * 0x1p-32f);
  return -logf(exponential);
}

}  // namespace octavo::cuda
