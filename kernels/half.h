// 16-bit floats in software: for loading weights, for the reference backend, and where a processor has no
// conversion.
#pragma once
#include <cstdint>
#include <cstring>

#include "ops.h"

namespace octavo {

inline float bitsToFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t floatToBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float bf16ToFloat(uint16_t bits) {
  return bitsToFloat(static_cast<uint32_t>(bits) << 16);
}

// IEEE binary16, subnormals, infinities and NaN included. Moving the exponent and mantissa into place gives
// the value times 2^-112, which one exact multiplication undoes: that also normalises subnormals.
inline float halfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  if ((half & 0x7c00u) == 0x7c00u) return bitsToFloat(sign | 0x7f800000u | magnitude);
  return bitsToFloat(sign | floatToBits(bitsToFloat(magnitude) * 0x1p112f));
}

// Rounds to nearest, ties to even; overflow gives infinity.
inline uint16_t floatToHalf(float value) {
  const uint32_t bits = floatToBits(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;   // NaN
  if (magnitude >= 0x47800000u) return sign | 0x7c00u;  // >= 2^16, also infinity
  if (magnitude < 0x38800000u) {                        // < 2^-14: a subnormal, in units of 2^-24
    const float units = bitsToFloat(magnitude) + 0.5f;  // the sum's last place is 2^-24: the addition rounds
    return static_cast<uint16_t>(sign | (floatToBits(units) - floatToBits(0.5f)));
  }
  magnitude +=
      0xfffu + ((magnitude >> 13) & 1u);  // carries into the exponent as it should; 65520 and up: infinity
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u) >> 13));
}

// Element `index` of a host tensor's data, which may be unaligned for its type.
inline float readFloat(const void* data, DType dtype, int64_t index) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  if (dtype == DType::F32) {
    float value;
    std::memcpy(&value, bytes + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, bytes + index * 2, 2);
  return dtype == DType::F16 ? halfToFloat(bits) : bf16ToFloat(bits);
}

inline uint32_t readWord(const void* data, int64_t index) {
  uint32_t word;
  std::memcpy(&word, static_cast<const unsigned char*>(data) + index * 4, 4);
  return word;
}

}  // namespace octavo
