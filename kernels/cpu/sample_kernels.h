// Passes over a vocabulary for sample.cc, compiled once per instruction set. Rows are padded to whole vectors
// (padding -inf), except where they are the caller's logits.

namespace octavo::cpu::OCTAVO_ISA {
namespace {

// The largest value, NaN left out; -inf if there is none.
float maxOf(const float* x, int32_t count) {
  V top = set1(-INFINITY);
  int32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) top = max(load(x + i), top);
  if (i < count) top = max(loadPart(x + i, count - i, -INFINITY), top);
  return maxLanes(top);
}

// The first index whose value is `value`, or -1.
int32_t findFirst(const float* x, int32_t count, float value) {
  const V wanted = set1(value);
  constexpr uint32_t kAll = (1u << kLanes) - 1u;
  int32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    if (lessBits(load(x + i), wanted) == kAll) continue;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (x[i + lane] == value) return i + lane;
    }
  }
  for (; i < count; ++i) {
    if (x[i] == value) return i;
  }
  return -1;
}

// A copy with NaN replaced by -inf, padded with -inf to whole vectors.
void copyClean(const float* logits, float* x, int32_t count) {
  const V lowest = set1(-INFINITY);
  int32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, max(load(logits + i), lowest));
  if (i < count) store(x + i, max(loadPart(logits + i, count - i, -INFINITY), lowest));
}

// x = (x - highest) / temperature. highest is finite.
void scaleByTemperature(float* x, int32_t count, float highest, float temperature) {
  const V shift = set1(highest), divisor = set1(temperature);
  for (int32_t i = 0; i < count; i += kLanes) store(x + i, div(sub(load(x + i), shift), divisor));
}

// x = -inf where x < threshold.
void dropBelow(float* x, int32_t count, float threshold) {
  const V limit = set1(threshold), lowest = set1(-INFINITY);
  for (int32_t i = 0; i < count; i += kLanes) {
    const V a = load(x + i);
    store(x + i, selectLess(a, limit, lowest, a));
  }
}

void exponentials(const float* x, float* out, int32_t count) {
  for (int32_t i = 0; i < count; i += kLanes) store(out + i, exponential(load(x + i)));
}

// Sum of exp(x - highest): vectors of 512 values at a time, their sums in double. highest is finite.
double sumOfExponentials(const float* x, int32_t count, float highest) {
  constexpr int32_t kChunk = 512;
  const V shift = set1(highest);
  double total = 0;
  for (int32_t first = 0; first < count; first += kChunk) {
    const int32_t last = first + kChunk < count ? first + kChunk : count;
    V sum = zero();
    for (int32_t i = first; i < last; i += kLanes) sum = add(sum, exponential(sub(load(x + i), shift)));
    total += sumLanes(sum);
  }
  return total;
}

// How many of the first `count` values are greater than `value`, or not less than it if `orEqual`. No NaN.
int32_t countAbove(const float* x, int32_t count, float value, bool orEqual) {
  const V limit = set1(value);
  int32_t above = 0, i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const V a = load(x + i);
    above +=
        orEqual ? kLanes - __builtin_popcount(lessBits(a, limit)) : __builtin_popcount(lessBits(limit, a));
  }
  for (; i < count; ++i) above += orEqual ? x[i] >= value : x[i] > value;
  return above;
}

const SampleKernels kSampleKernels = {maxOf,     findFirst,    copyClean,         scaleByTemperature,
                                      dropBelow, exponentials, sumOfExponentials, countAbove};

const SampleKernels* sampleKernels() {
  return &kSampleKernels;
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
