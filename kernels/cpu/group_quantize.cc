#include "group_quantize.h"

#ifdef OCTAVO_ISA
namespace octavo::cpu::OCTAVO_ISA {
namespace {

struct Grid {
  float scale, inverse, zero;
};

// The range of the weights, 0 included, over 15 steps. The scale is rounded to the binary16 that is stored
// before anything uses it; a group of zeros gets the smallest one.
Grid gridOf(const float* weights, int32_t g, Clip clip) {
  V low = zero(), high = zero();
  for (int32_t i = 0; i < g; i += kLanes) {
    low = min(low, load(weights + i));
    high = max(high, load(weights + i));
  }
  const float lowest = -maxLanes(sub(zero(), low)) * clip.low, highest = maxLanes(high) * clip.high;
  const float scale = halfToFloat(floatToHalf((highest - lowest) / 15.0f));
  const float smallest = 0x1p-24f;
  Grid grid;
  grid.scale = scale > smallest ? scale : smallest;
  grid.inverse = 1.0f / grid.scale;
  const float rounded = std::nearbyint(-lowest * grid.inverse);
  grid.zero = rounded > 15.0f ? 15.0f : rounded;
  return grid;
}

V codesOf(V weights, V inverse, V zeros) {
  // Bounded first: roundToInt is good for 2^22, and a clipped weight may be far outside.
  const V scaled = max(set1(-32.0f), min(set1(32.0f), mul(weights, inverse)));
  const V code = add(intToV(roundToInt(scaled)), zeros);
  return max(zero(), min(set1(15.0f), code));
}

void roundTripGroup(const float* weights, int32_t g, Clip clip, float* out) {
  const Grid grid = gridOf(weights, g, clip);
  const V scale = set1(grid.scale), inverse = set1(grid.inverse), zeros = set1(grid.zero);
  for (int32_t i = 0; i < g; i += kLanes)
    store(out + i, mul(sub(codesOf(load(weights + i), inverse, zeros), zeros), scale));
}

Clip clipAt(const float* clips, int64_t group) {
  Clip clip;
  if (clips) clip = {clips[2 * group], clips[2 * group + 1]};
  return clip;
}

void roundTrip(const float* row, const float* clips, int64_t k, int32_t g, float* out) {
  for (int64_t group = 0; group < k / g; ++group)
    roundTripGroup(row + group * g, g, clipAt(clips, group), out + group * g);
}

void quantize(const float* row, const float* clips, int64_t k, int32_t g, uint8_t* codes, uint8_t* zeros,
              uint16_t* scales) {
  for (int64_t group = 0; group < k / g; ++group) {
    const float* weights = row + group * g;
    const Grid grid = gridOf(weights, g, clipAt(clips, group));
    scales[group] = floatToHalf(grid.scale);
    zeros[group] = static_cast<uint8_t>(grid.zero);
    for (int32_t i = 0; i < g; i += kLanes) {
      alignas(64) float lanes[kLanes];
      store(lanes, codesOf(load(weights + i), set1(grid.inverse), set1(grid.zero)));
      for (int lane = 0; lane < kLanes; ++lane)
        codes[group * g + i + lane] = static_cast<uint8_t>(lanes[lane]);
    }
  }
}

void gramOf(const float* x, int64_t rows, int64_t k, int64_t first, int32_t g, float* gram) {
  for (int32_t i = 0; i < g * g; ++i) gram[i] = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const float* values = x + row * k + first;
    for (int32_t i = 0; i < g; ++i) {
      const V value = set1(values[i]);
      float* sums = gram + i * g;
      for (int32_t j = i / kLanes * kLanes; j < g; j += kLanes)
        store(sums + j, fma(value, load(values + j), load(sums + j)));
    }
  }
  for (int32_t i = 0; i < g; ++i) {
    for (int32_t j = 0; j < i; ++j) gram[i * g + j] = 0;
    for (int32_t j = i + 1; j < g; ++j) gram[i * g + j] *= 2;
  }
}

// ||X d||^2 by the triangle that gramOf made. Four rows at a time: one alone would wait for its own sums.
float quadraticForm(const float* d, const float* gram, int32_t g) {
  V total = zero();
  for (int32_t i = 0; i < g; i += 4) {
    const float* rows = gram + i * g;
    V sum0 = zero(), sum1 = zero(), sum2 = zero(), sum3 = zero();
    for (int32_t j = i / kLanes * kLanes; j < g; j += kLanes) {
      const V value = load(d + j);
      sum0 = fma(load(rows + j), value, sum0);
      sum1 = fma(load(rows + g + j), value, sum1);
      sum2 = fma(load(rows + 2 * g + j), value, sum2);
      sum3 = fma(load(rows + 3 * g + j), value, sum3);
    }
    total = fma(set1(d[i]), sum0, total);
    total = fma(set1(d[i + 1]), sum1, total);
    total = fma(set1(d[i + 2]), sum2, total);
    total = fma(set1(d[i + 3]), sum3, total);
  }
  return sumLanes(total);
}

float clipError(const float* weights, const float* gram, int32_t g, Clip clip, float* room) {
  roundTripGroup(weights, g, clip, room);
  for (int32_t j = 0; j < g; j += kLanes) store(room + j, sub(load(room + j), load(weights + j)));
  return quadraticForm(room, gram, g);
}

// What one end of the range is tried with.
struct EndSearch {
  const float *weights, *gram;
  int32_t g;
  float Clip::*end;
  float* room;
  Clip best;
  float least;

  void consider(float share) {
    Clip tried = best;
    tried.*end = share;
    const float error = clipError(weights, gram, g, tried, room);
    if (!(error < least)) return;
    least = error;
    best = tried;
  }

  void run() {
    for (int i = 1; i <= 5; ++i) consider(1.0f - 0.1f * static_cast<float>(i));
    const float coarse = best.*end;
    if (coarse < 1.0f) consider(coarse + 0.05f);
    consider(coarse - 0.05f);
  }
};

Clip searchClip(const float* weights, const float* gram, int32_t g, float* room) {
  const Clip whole;
  const float least = clipError(weights, gram, g, whole, room);
  EndSearch high{weights, gram, g, &Clip::high, room, whole, least};
  high.run();
  EndSearch low{weights, gram, g, &Clip::low, room, high.best, high.least};
  low.run();
  return low.best;
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
#else
#define OCTAVO_KERNEL_FILE "group_quantize.cc"
#include "foreach_isa.h"

namespace octavo::cpu {

void roundTripRow(const float* row, const float* clips, int64_t k, int32_t g, float* out) {
  OCTAVO_SELECT(currentIsa(), roundTrip)(row, clips, k, g, out);
}

void quantizeRow(const float* row, const float* clips, int64_t k, int32_t g, uint8_t* codes, uint8_t* zeros,
                 uint16_t* scales) {
  OCTAVO_SELECT(currentIsa(), quantize)(row, clips, k, g, codes, zeros, scales);
}

void groupGram(const float* x, int64_t rows, int64_t k, int64_t first, int32_t g, float* gram) {
  OCTAVO_SELECT(currentIsa(), gramOf)(x, rows, k, first, g, gram);
}

Clip bestClip(const float* weights, const float* gram, int32_t g, float* room) {
  return OCTAVO_SELECT(currentIsa(), searchClip)(weights, gram, g, room);
}

}  // namespace octavo::cpu
#endif
