// AVX-512 with VNNI: dot products of bytes in one instruction, everything else as in simd_avx512.h. Included
// by foreach_isa.h only.
#pragma once

namespace octavo::cpu::avx512vnni {

using namespace avx512lanes;

inline I dotBytes(I sums, I codes, I values) {
  return _mm512_dpbusd_epi32(sums, codes, values);
}
inline I laneSums(I sums) {
  return sums;
}
// Codes may be up to 240: the high halves of bytes are multiplied where they stand.
constexpr bool kDotsHighHalves = true;

}  // namespace octavo::cpu::avx512vnni
