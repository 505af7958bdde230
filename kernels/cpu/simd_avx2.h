// Eight lanes: AVX2, FMA and F16C. Included by foreach_isa.h only, where the compiler may use them.
#pragma once

namespace octavo::cpu::avx2 {

constexpr int kLanes = 8;
constexpr int kMicroRows = 6;  // rows x columns of the blocked matmul's accumulators: 12 of 16 registers
constexpr int kMicroColumns = 16;
constexpr int kDirectRows = 3;  // rows at once in the direct matmul
constexpr int kByteRows = 4;    // rows x columns of the 8-bit matmul's sums: 8 of 16 registers
constexpr int kByteColumns = 16;

using V = __m256;   // floats
using I = __m256i;  // 32-bit integers

inline V zero() {
  return _mm256_setzero_ps();
}
inline V set1(float x) {
  return _mm256_set1_ps(x);
}
inline V load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline void store(float* p, V a) {
  _mm256_storeu_ps(p, a);
}
inline V add(V a, V b) {
  return _mm256_add_ps(a, b);
}
inline V sub(V a, V b) {
  return _mm256_sub_ps(a, b);
}
inline V mul(V a, V b) {
  return _mm256_mul_ps(a, b);
}
inline V div(V a, V b) {
  return _mm256_div_ps(a, b);
}
inline V fma(V a, V b, V c) {
  return _mm256_fmadd_ps(a, b, c);
}
// Where either is NaN: b.
inline V max(V a, V b) {
  return _mm256_max_ps(a, b);
}
inline V min(V a, V b) {
  return _mm256_min_ps(a, b);
}
// a < b ? x : y, by lane; bit i of lessBits is lane i's a < b. False where one is NaN.
inline V selectLess(V a, V b, V x, V y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
inline uint32_t lessBits(V a, V b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
}

inline V loadHalf(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void storeHalf(uint16_t* p, V a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
inline V loadBf16(const uint16_t* p) {
  const I wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline V loadByte(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

inline V loadSigned(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

inline I setInt(int32_t x) {
  return _mm256_set1_epi32(x);
}
inline I loadInt(const uint32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline I addInt(I a, I b) {
  return _mm256_add_epi32(a, b);
}
template <int kBits>
inline I shiftLeft(I a) {
  return _mm256_slli_epi32(a, kBits);
}
template <int kBits>
inline I shiftRightSigned(I a) {
  return _mm256_srai_epi32(a, kBits);
}
template <int kBits>
inline I shiftRight(I a) {
  return _mm256_srli_epi32(a, kBits);
}
inline I maskOr(I a, I mask, I bits) {
  return _mm256_or_si256(_mm256_and_si256(a, mask), bits);
}
inline V bitsToV(I a) {
  return _mm256_castsi256_ps(a);
}
inline I roundToInt(V a) {
  return _mm256_cvtps_epi32(a);
}
inline V intToV(I a) {
  return _mm256_cvtepi32_ps(a);
}

// High and low halves of the products of unsigned lanes.
inline void mulWide(I a, uint32_t factor, I* high, I* low) {
  const I b = setInt(static_cast<int32_t>(factor));
  const I even = _mm256_mul_epu32(a, b), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), b);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}
inline I xorInt(I a, I b) {
  return _mm256_xor_si256(a, b);
}
inline void storeInt(uint32_t* p, I a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a);
}

inline I zeroInt() {
  return _mm256_setzero_si256();
}
inline I andInt(I a, I b) {
  return _mm256_and_si256(a, b);
}
// Dot products of bytes: adds codes (0..15) times signed values (-127..127), four to a 32-bit lane, to sums
// of a form of its own, which laneSums() makes 32-bit integers of. At most eight additions from zeroInt() to
// there: 16-bit sums hold no more (8 pairs of at most 2 * 15 * 127).
inline I dotBytes(I sums, I codes, I values) {
  return _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, values));
}
inline I laneSums(I sums) {
  return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}
// Codes times 16 would be too large for such sums.
constexpr bool kDotsHighHalves = false;
// The lanes, each in -128..127, as bytes.
inline void storeBytes(int8_t* p, I a) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
// No lane is NaN.
inline float highestLane(V a) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline int32_t sumOfLanes(I a) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

// Halves of rows r and r + 4, from column 0 of `p` on.
inline V loadHalves(const float* p, int32_t stride) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * stride), 1);
}

// out [kLanes][kLanes], rows outStride apart = the transpose of in, rows inStride apart.
inline void transposeTile(const float* in, int32_t inStride, float* out, int32_t outStride) {
  for (int half = 0; half < kLanes; half += 4) {
    const V a = loadHalves(in + half, inStride), b = loadHalves(in + half + inStride, inStride);
    const V c = loadHalves(in + half + 2 * inStride, inStride),
            d = loadHalves(in + half + 3 * inStride, inStride);
    const V lowAb = _mm256_unpacklo_ps(a, b), highAb = _mm256_unpackhi_ps(a, b);
    const V lowCd = _mm256_unpacklo_ps(c, d), highCd = _mm256_unpackhi_ps(c, d);
    float* rows = out + half * outStride;
    store(rows, _mm256_shuffle_ps(lowAb, lowCd, 0x44));
    store(rows + outStride, _mm256_shuffle_ps(lowAb, lowCd, 0xEE));
    store(rows + 2 * outStride, _mm256_shuffle_ps(highAb, highCd, 0x44));
    store(rows + 3 * outStride, _mm256_shuffle_ps(highAb, highCd, 0xEE));
  }
}

}  // namespace octavo::cpu::avx2
