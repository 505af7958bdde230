// Four lanes in the compiler's own vectors: SSE2 on any x86-64, NEON on arm64. No fused multiply-add.
#pragma once

namespace octavo::cpu::generic {

constexpr int kLanes = 4;
constexpr int kMicroRows = 3;  // rows x columns of the blocked matmul's accumulators: 12 of 16 registers
constexpr int kMicroColumns = 16;
constexpr int kDirectRows = 1;  // rows at once in the direct matmul
constexpr int kByteRows = 2;    // rows x columns of the 8-bit matmul's sums
constexpr int kByteColumns = 16;

typedef float V __attribute__((vector_size(16)));    // floats
typedef int32_t I __attribute__((vector_size(16)));  // 32-bit integers
typedef uint32_t U __attribute__((vector_size(16)));

inline V set1(float x) {
  return V{x, x, x, x};
}
inline V zero() {
  return set1(0);
}
inline V load(const float* p) {
  V a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
inline void store(float* p, V a) {
  std::memcpy(p, &a, sizeof a);
}
inline V add(V a, V b) {
  return a + b;
}
inline V sub(V a, V b) {
  return a - b;
}
inline V mul(V a, V b) {
  return a * b;
}
inline V div(V a, V b) {
  return a / b;
}
inline V fma(V a, V b, V c) {
  return a * b + c;
}
inline V select(I mask, V x, V y) {
  return reinterpret_cast<V>((reinterpret_cast<I>(x) & mask) | (reinterpret_cast<I>(y) & ~mask));
}
// Where either is NaN: b.
inline V max(V a, V b) {
  return select(a > b, a, b);
}
inline V min(V a, V b) {
  return select(a < b, a, b);
}
// a < b ? x : y, by lane; bit i of lessBits is lane i's a < b. False where one is NaN.
inline V selectLess(V a, V b, V x, V y) {
  return select(a < b, x, y);
}
inline uint32_t lessBits(V a, V b) {
  const I mask = (a < b) & I{1, 2, 4, 8};
  return static_cast<uint32_t>(mask[0] | mask[1] | mask[2] | mask[3]);
}

// halfToFloat() of half.h on four lanes.
inline V loadHalf(const uint16_t* p) {
  const I half = {p[0], p[1], p[2], p[3]};
  const I magnitude = (half & 0x7fff) << 13;
  const I value = reinterpret_cast<I>(reinterpret_cast<V>(magnitude) * set1(0x1p112f));
  const I notFinite = (magnitude >= 0x0f800000) & 0x7f800000;
  return reinterpret_cast<V>(value | notFinite | ((half & 0x8000) << 16));
}
inline void storeHalf(uint16_t* p, V a) {
  for (int i = 0; i < kLanes; ++i) p[i] = floatToHalf(a[i]);
}
inline V loadBf16(const uint16_t* p) {
  return V{bf16ToFloat(p[0]), bf16ToFloat(p[1]), bf16ToFloat(p[2]), bf16ToFloat(p[3])};
}
inline V loadByte(const uint8_t* p) {
  return V{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
           static_cast<float>(p[3])};
}

inline V loadSigned(const int8_t* p) {
  return V{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
           static_cast<float>(p[3])};
}

inline I setInt(int32_t x) {
  return I{x, x, x, x};
}
inline I loadInt(const uint32_t* p) {
  I a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
inline I addInt(I a, I b) {
  return a + b;
}
template <int kBits>
inline I shiftLeft(I a) {
  return a << kBits;
}
template <int kBits>
inline I shiftRightSigned(I a) {
  return a >> kBits;
}
template <int kBits>
inline I shiftRight(I a) {
  return reinterpret_cast<I>(reinterpret_cast<U>(a) >> kBits);
}
inline I maskOr(I a, I mask, I bits) {
  return (a & mask) | bits;
}
inline V bitsToV(I a) {
  return reinterpret_cast<V>(a);
}
inline V intToV(I a) {
  return __builtin_convertvector(a, V);
}
// Rounds to nearest, ties to even, for |a| < 2^22: adding 1.5 * 2^23 leaves the integer in the low mantissa
// bits.
inline I roundToInt(V a) {
  const V shifted = a + set1(12582912.0f);
  return reinterpret_cast<I>(shifted) - setInt(0x4B400000);
}

// High and low halves of the products of unsigned lanes.
inline void mulWide(I a, uint32_t factor, I* high, I* low) {
  for (int i = 0; i < kLanes; ++i) {
    const uint64_t product = static_cast<uint64_t>(static_cast<uint32_t>(a[i])) * factor;
    (*high)[i] = static_cast<int32_t>(product >> 32);
    (*low)[i] = static_cast<int32_t>(product);
  }
}
inline I xorInt(I a, I b) {
  return a ^ b;
}
inline void storeInt(uint32_t* p, I a) {
  std::memcpy(p, &a, sizeof a);
}

inline I zeroInt() {
  return setInt(0);
}
inline I andInt(I a, I b) {
  return a & b;
}
// Dot products of bytes: adds codes (0..15) times signed values (-127..127), four to a 32-bit lane, to sums
// that laneSums() makes 32-bit integers of.
inline I dotBytes(I sums, I codes, I values) {
  for (int i = 0; i < 4; ++i) sums += ((codes >> (8 * i)) & 255) * ((values << (24 - 8 * i)) >> 24);
  return sums;
}
inline I laneSums(I sums) {
  return sums;
}
// Whether dotBytes takes codes up to 240.
constexpr bool kDotsHighHalves = false;
// The lanes, each in -128..127, as bytes.
inline void storeBytes(int8_t* p, I a) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(a[i]);
}
// No lane is NaN.
inline float highestLane(V a) {
  const float low = a[0] > a[1] ? a[0] : a[1], high = a[2] > a[3] ? a[2] : a[3];
  return low > high ? low : high;
}
inline int32_t sumOfLanes(I a) {
  return a[0] + a[1] + a[2] + a[3];
}

// out [kLanes][kLanes], rows outStride apart = the transpose of in, rows inStride apart.
inline void transposeTile(const float* in, int32_t inStride, float* out, int32_t outStride) {
  for (int i = 0; i < kLanes; ++i)
    store(out + i * outStride, V{in[i], in[inStride + i], in[2 * inStride + i], in[3 * inStride + i]});
}

}  // namespace octavo::cpu::generic
