// Philox4x32-10 [Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"]: the sampler's noise is a
// function of (seed, position, token) alone, so a token never depends on its batch, and every backend draws
// the same one.
#pragma once
#include <cmath>
#include <cstdint>

namespace octavo {

constexpr uint32_t kPhiloxM0 = 0xD2511F53u, kPhiloxM1 = 0xCD9E8D57u;  // multipliers
constexpr uint32_t kPhiloxW0 = 0x9E3779B9u, kPhiloxW1 = 0xBB67AE85u;  // key increments
constexpr int kPhiloxRounds = 10;

struct PhiloxWords {
  uint32_t word[4];
};

// Counter (c0, c1, c2, c3), key (k0, k1).
inline PhiloxWords philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kPhiloxM0) * c0;
    const uint64_t p1 = static_cast<uint64_t>(kPhiloxM1) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  return {{c0, c1, c2, c3}};
}

// Word of `token` at `position` (ops.h, SampleArgs).
inline uint32_t noiseWord(int32_t position, int32_t token, int32_t seedLo, int32_t seedHi) {
  const auto id = static_cast<uint32_t>(token);
  const PhiloxWords words = philox(static_cast<uint32_t>(position), id >> 2, 0, 0,
                                   static_cast<uint32_t>(seedLo), static_cast<uint32_t>(seedHi));
  return words.word[id & 3];
}

// Standard Gumbel noise of a word: from -3.14 to 22.9.
inline double gumbelNoise(uint32_t word) {
  return -std::log(-std::log((word + 0.5) * 0x1p-32));
}

}  // namespace octavo
