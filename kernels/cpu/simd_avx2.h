// Eight lanes: AVX2, FMA and F16C. Included by foreach_isa.h only, where the compiler may use them.
#pragma once

namespace octavo::cpu::avx2 {

constexpr int kLanes = 8;
constexpr int kMicroRows = 6;  // rows x columns of the blocked matmul's accumulators: 12 of 16 registers
constexpr int kMicroColumns = 16;
constexpr int kDirectRows = 3;  // rows at once in the direct matmul

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

}  // namespace octavo::cpu::avx2
