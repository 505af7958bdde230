// What kernels build from the lanes of one instruction set: included once for each, by foreach_isa.h.

namespace octavo::cpu::OCTAVO_ISA {

// The lanes' sum, in a fixed order.
inline float sumLanes(V a) {
  alignas(64) float lanes[kLanes];
  store(lanes, a);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

inline float maxLanes(V a) {
  alignas(64) float lanes[kLanes];
  store(lanes, a);
  float highest = lanes[0];
  for (int i = 1; i < kLanes; ++i) highest = lanes[i] > highest ? lanes[i] : highest;
  return highest;
}

// The first `count` < kLanes values; the other lanes are `rest`. Reads no further.
inline V loadPart(const float* p, int count, float rest) {
  alignas(64) float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = i < count ? p[i] : rest;
  return load(lanes);
}

inline void storePart(float* p, V a, int count) {
  alignas(64) float lanes[kLanes];
  store(lanes, a);
  for (int i = 0; i < count; ++i) p[i] = lanes[i];
}

// e^x to about an ulp: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor series to r^7, which is exact
// to 5e-9. 0 below -87.3 (also for -inf); e^88.3 above that; NaN stays NaN.
inline V exponential(V x) {
  const V lowest = set1(-87.3f);
  const V bounded = max(lowest, min(set1(88.3f), x));  // this order lets NaN through
  const I n = roundToInt(mul(bounded, set1(1.44269504f)));
  const V power = intToV(n);
  V r = fma(power, set1(-0.693359375f), bounded);  // ln 2 in two parts, the first with few bits
  r = fma(power, set1(2.12194440e-4f), r);
  V sum = set1(1.0f / 5040);
  sum = fma(sum, r, set1(1.0f / 720));
  sum = fma(sum, r, set1(1.0f / 120));
  sum = fma(sum, r, set1(1.0f / 24));
  sum = fma(sum, r, set1(1.0f / 6));
  sum = fma(sum, r, set1(0.5f));
  sum = fma(sum, r, set1(1.0f));
  sum = fma(sum, r, set1(1.0f));
  const V scale = bitsToV(shiftLeft<23>(addInt(n, setInt(127))));
  return selectLess(x, lowest, zero(), mul(sum, scale));
}

inline V silu(V x) {
  return div(x, add(set1(1.0f), exponential(sub(zero(), x))));
}

// tanh x = 1 - 2 / (e^2x + 1): absolute error of an ulp of 1.
inline V hyperbolicTangent(V x) {
  return sub(set1(1.0f), div(set1(2.0f), add(exponential(add(x, x)), set1(1.0f))));
}

// Applies f to `count` values, lane by lane: f(V of in) -> V. A value's result does not depend on its lane.
template <class F>
inline void mapValues(const float* in, float* out, int64_t count, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, f(load(in + i)));
  if (i < count) {
    const int rest = static_cast<int>(count - i);
    storePart(out + i, f(loadPart(in + i, rest, 0)), rest);
  }
}

template <class F>
inline void mapPairs(const float* a, const float* b, float* out, int64_t count, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, f(load(a + i), load(b + i)));
  if (i < count) {
    const int rest = static_cast<int>(count - i);
    storePart(out + i, f(loadPart(a + i, rest, 0), loadPart(b + i, rest, 0)), rest);
  }
}

// Sum of squares in kLanes partial sums: a function of the width alone.
inline float sumOfSquares(const float* x, int32_t width) {
  V sum = zero();
  int32_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const V a = load(x + i);
    sum = fma(a, a, sum);
  }
  if (i < width) {
    const V a = loadPart(x + i, width - i, 0);
    sum = fma(a, a, sum);
  }
  return sumLanes(sum);
}

struct ScaleByWeight {
  V factor;
  V operator()(V a, V weight) const { return mul(mul(a, factor), weight); }
};

// out = x / sqrt(mean(x^2) + eps) * weight; out may be x.
inline void normalise(const float* x, const float* weight, float* out, int32_t width, float eps) {
  const float mean = sumOfSquares(x, width) / static_cast<float>(width);
  mapPairs(x, weight, out, width, ScaleByWeight{set1(1.0f / std::sqrt(mean + eps))});
}

}  // namespace octavo::cpu::OCTAVO_ISA
