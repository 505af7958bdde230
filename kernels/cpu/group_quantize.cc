#include "group_quantize.h"

#ifdef OCTAVO_ISA
namespace octavo::cpu::OCTAVO_ISA {
namespace {

struct Grid {
  float scale, inverse, zero;
};

// The range of the weights, 0 included, over 15 steps. The scale is rounded to the binary16 that is stored
// before anything uses it; a group of zeros gets the smallest one.
Grid gridOf(const float* weights, int32_t g, float clip) {
  V low = zero(), high = zero();
  for (int32_t i = 0; i < g; i += kLanes) {
    low = min(low, load(weights + i));
    high = max(high, load(weights + i));
  }
  const float lowest = -maxLanes(sub(zero(), low)) * clip, highest = maxLanes(high) * clip;
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

void roundTripGroup(const float* weights, int32_t g, float clip, float* out) {
  const Grid grid = gridOf(weights, g, clip);
  const V scale = set1(grid.scale), inverse = set1(grid.inverse), zeros = set1(grid.zero);
  for (int32_t i = 0; i < g; i += kLanes)
    store(out + i, mul(sub(codesOf(load(weights + i), inverse, zeros), zeros), scale));
}

void roundTrip(const float* row, const float* clip, int64_t k, int32_t g, float* out) {
  for (int64_t group = 0; group < k / g; ++group)
    roundTripGroup(row + group * g, g, clip ? clip[group] : 1.0f, out + group * g);
}

void quantize(const float* row, const float* clip, int64_t k, int32_t g, uint8_t* codes, uint8_t* zeros,
              uint16_t* scales) {
  for (int64_t group = 0; group < k / g; ++group) {
    const float* weights = row + group * g;
    const Grid grid = gridOf(weights, g, clip ? clip[group] : 1.0f);
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
      for (int32_t j = 0; j < g; j += kLanes) store(sums + j, fma(value, load(values + j), load(sums + j)));
    }
  }
}

// d^T gram d
float quadraticForm(const float* d, const float* gram, int32_t g) {
  V total = zero();
  for (int32_t i = 0; i < g; ++i) {
    V sum = zero();
    for (int32_t j = 0; j < g; j += kLanes) sum = fma(load(gram + i * g + j), load(d + j), sum);
    total = fma(set1(d[i]), sum, total);
  }
  return sumLanes(total);
}

float searchClip(const float* weights, const float* gram, int32_t g, float* room) {
  float best = 1.0f, least = 0;
  for (int i = 0; i < kClips; ++i) {
    roundTripGroup(weights, g, clipOf(i), room);
    for (int32_t j = 0; j < g; j += kLanes) store(room + j, sub(load(room + j), load(weights + j)));
    const float error = quadraticForm(room, gram, g);
    if (i == 0 || error < least) {
      best = clipOf(i);
      least = error;
    }
  }
  return best;
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
#else
#define OCTAVO_KERNEL_FILE "group_quantize.cc"
#include "foreach_isa.h"

namespace octavo::cpu {

void roundTripRow(const float* row, const float* clip, int64_t k, int32_t g, float* out) {
  OCTAVO_SELECT(currentIsa(), roundTrip)(row, clip, k, g, out);
}

void quantizeRow(const float* row, const float* clip, int64_t k, int32_t g, uint8_t* codes, uint8_t* zeros,
                 uint16_t* scales) {
  OCTAVO_SELECT(currentIsa(), quantize)(row, clip, k, g, codes, zeros, scales);
}

void groupGram(const float* x, int64_t rows, int64_t k, int64_t first, int32_t g, float* gram) {
  OCTAVO_SELECT(currentIsa(), gramOf)(x, rows, k, first, g, gram);
}

float bestClip(const float* weights, const float* gram, int32_t g, float* room) {
  return OCTAVO_SELECT(currentIsa(), searchClip)(weights, gram, g, room);
}

}  // namespace octavo::cpu
#endif
