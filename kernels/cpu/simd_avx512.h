// Sixteen lanes: AVX-512 F, BW, DQ and VL. Included by foreach_isa.h only, where the compiler may use them.
#pragma once

// What avx512 and avx512vnni share.
namespace octavo::cpu::avx512lanes {

constexpr int kLanes = 16;
constexpr int kMicroRows = 12;  // rows x columns of the blocked matmul's accumulators: 24 of 32 registers
constexpr int kMicroColumns = 32;
constexpr int kDirectRows = 4;  // rows at once in the direct matmul
constexpr int kByteRows = 6;    // rows x columns of the 8-bit matmul: 12 sums and 12 dots in 32 registers
constexpr int kByteColumns = 32;

using V = __m512;   // floats
using I = __m512i;  // 32-bit integers

inline V zero() {
  return _mm512_setzero_ps();
}
inline V set1(float x) {
  return _mm512_set1_ps(x);
}
inline V load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void store(float* p, V a) {
  _mm512_storeu_ps(p, a);
}
inline V add(V a, V b) {
  return _mm512_add_ps(a, b);
}
inline V sub(V a, V b) {
  return _mm512_sub_ps(a, b);
}
inline V mul(V a, V b) {
  return _mm512_mul_ps(a, b);
}
inline V div(V a, V b) {
  return _mm512_div_ps(a, b);
}
inline V fma(V a, V b, V c) {
  return _mm512_fmadd_ps(a, b, c);
}
// Where either is NaN: b.
inline V max(V a, V b) {
  return _mm512_max_ps(a, b);
}
inline V min(V a, V b) {
  return _mm512_min_ps(a, b);
}
// a < b ? x : y, by lane; bit i of lessBits is lane i's a < b. False where one is NaN.
inline V selectLess(V a, V b, V x, V y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
inline uint32_t lessBits(V a, V b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

inline V loadHalf(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void storeHalf(uint16_t* p, V a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
inline V loadBf16(const uint16_t* p) {
  const I wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline V loadByte(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

inline V loadSigned(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

inline I setInt(int32_t x) {
  return _mm512_set1_epi32(x);
}
inline I loadInt(const uint32_t* p) {
  return _mm512_loadu_si512(p);
}
inline I addInt(I a, I b) {
  return _mm512_add_epi32(a, b);
}
template <int kBits>
inline I shiftLeft(I a) {
  return _mm512_slli_epi32(a, kBits);
}
template <int kBits>
inline I shiftRightSigned(I a) {
  return _mm512_srai_epi32(a, kBits);
}
template <int kBits>
inline I shiftRight(I a) {
  return _mm512_srli_epi32(a, kBits);
}
inline I maskOr(I a, I mask, I bits) {
  return _mm512_ternarylogic_epi32(a, mask, bits, 0xEA);
}
inline V bitsToV(I a) {
  return _mm512_castsi512_ps(a);
}
inline I roundToInt(V a) {
  return _mm512_cvtps_epi32(a);
}
inline V intToV(I a) {
  return _mm512_cvtepi32_ps(a);
}

// High and low halves of the products of unsigned lanes.
inline void mulWide(I a, uint32_t factor, I* high, I* low) {
  const I b = setInt(static_cast<int32_t>(factor));
  const I even = _mm512_mul_epu32(a, b), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), b);
  *high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
  *low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}
inline I xorInt(I a, I b) {
  return _mm512_xor_si512(a, b);
}
inline void storeInt(uint32_t* p, I a) {
  _mm512_storeu_si512(p, a);
}

inline I zeroInt() {
  return _mm512_setzero_si512();
}
inline I andInt(I a, I b) {
  return _mm512_and_si512(a, b);
}
// The lanes, each in -128..127, as bytes.
inline void storeBytes(int8_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}
// No lane is NaN.
inline float highestLane(V a) {
  return _mm512_reduce_max_ps(a);
}
inline int32_t sumOfLanes(I a) {
  return _mm512_reduce_add_epi32(a);
}

// out [kLanes][kLanes], rows outStride apart = the transpose of in, rows inStride apart.
inline void transposeTile(const float* in, int32_t inStride, float* out, int32_t outStride) {
  for (int row = 0; row < kLanes; row += 8) {
    for (int column = 0; column < kLanes; column += 8)
      avx2::transposeTile(in + row * inStride + column, inStride, out + column * outStride + row, outStride);
  }
}

}  // namespace octavo::cpu::avx512lanes

namespace octavo::cpu::avx512 {

using namespace avx512lanes;

// Dot products of bytes: adds codes (0..15) times signed values (-127..127), four to a 32-bit lane, to sums
// of a form of its own, which laneSums() makes 32-bit integers of. At most eight additions from zeroInt() to
// there: 16-bit sums hold no more (8 pairs of at most 2 * 15 * 127).
inline I dotBytes(I sums, I codes, I values) {
  return _mm512_add_epi16(sums, _mm512_maddubs_epi16(codes, values));
}
inline I laneSums(I sums) {
  return _mm512_madd_epi16(sums, _mm512_set1_epi16(1));
}
// Codes times 16 would be too large for such sums.
constexpr bool kDotsHighHalves = false;

}  // namespace octavo::cpu::avx512
