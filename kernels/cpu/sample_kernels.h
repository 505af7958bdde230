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

// Ids of the values that are not less than `threshold`, ascending. Returns how many. No NaN.
int32_t collect(const float* x, int32_t count, float threshold, int32_t* ids) {
  const V limit = set1(threshold);
  int32_t found = 0;
  for (int32_t i = 0; i < count; i += kLanes) {
    uint32_t bits = ~lessBits(load(x + i), limit) & ((1u << kLanes) - 1u);
    for (; bits; bits &= bits - 1) {
      const int32_t id = i + __builtin_ctz(bits);
      if (id < count) ids[found++] = id;
    }
  }
  return found;
}

// The largest value of every `chunk` (a multiple of kLanes) of the row.
void chunkMaxima(const float* x, int32_t count, int32_t chunk, float* maxima) {
  for (int32_t first = 0; first < count; first += chunk)
    *maxima++ = maxOf(x + first, first + chunk < count ? chunk : count - first);
}

// philox() of philox.h for the counters (position, group), group by lane: words [4][kLanes].
void philoxLanes(int32_t position, int32_t firstGroup, int32_t seedLo, int32_t seedHi, uint32_t* words) {
  uint32_t groups[kLanes];
  for (int i = 0; i < kLanes; ++i) groups[i] = static_cast<uint32_t>(firstGroup + i);
  I c0 = setInt(position), c1 = loadInt(groups), c2 = setInt(0), c3 = setInt(0);
  auto k0 = static_cast<uint32_t>(seedLo), k1 = static_cast<uint32_t>(seedHi);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    I high0 = c0, low0 = c0, high1 = c0, low1 = c0;
    mulWide(c0, kPhiloxM0, &high0, &low0);
    mulWide(c2, kPhiloxM1, &high1, &low1);
    c0 = xorInt(xorInt(high1, c1), setInt(static_cast<int32_t>(k0)));
    c1 = low1;
    c2 = xorInt(xorInt(high0, c3), setInt(static_cast<int32_t>(k1)));
    c3 = low0;
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  storeInt(words, c0);
  storeInt(words + kLanes, c1);
  storeInt(words + 2 * kLanes, c2);
  storeInt(words + 3 * kLanes, c3);
}

// 1 - u of noise words, rounded down to a multiple of 2^-31: too small is safe.
inline V distanceToOne(const uint32_t* words) {
  return mul(intToV(shiftRight<1>(xorInt(loadInt(words), setInt(-1)))), set1(0x1p-31f));
}

// Tokens [first, last) whose noise may lift them over the best so far: those with 1 - u < mass * bound
// (sample.cc, draw). Both multiples of 64. Ids and noise words, ascending; returns how many.
int32_t contenders(const float* mass, int32_t first, int32_t last, const NoiseKey& key, float bound,
                   int32_t* ids, uint32_t* words) {
  constexpr uint32_t kAll = (1u << kLanes) - 1u;
  const V factor = set1(bound), least = set1(0x1p-33f);
  int32_t found = 0;
  for (int32_t t = first; t < last; t += 4 * kLanes) {
    V largest = load(mass + t);
    for (int j = 1; j < 4; ++j) largest = max(largest, load(mass + t + j * kLanes));
    if (lessBits(mul(largest, factor), least) == kAll) continue;
    uint32_t byWord[4 * kLanes], byToken[4 * kLanes];
    philoxLanes(key.position, t / 4, key.seedLo, key.seedHi, byWord);
    const V reach = set1(maxLanes(largest) * bound);
    uint32_t any = 0;
    for (int j = 0; j < 4; ++j) any |= lessBits(distanceToOne(byWord + j * kLanes), reach);
    if (!any) continue;
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int j = 0; j < 4; ++j) byToken[lane * 4 + j] = byWord[j * kLanes + lane];
    }
    for (int j = 0; j < 4 * kLanes; j += kLanes) {
      const V distance = distanceToOne(byToken + j);
      for (uint32_t bits = lessBits(distance, mul(load(mass + t + j), factor)); bits; bits &= bits - 1) {
        const int lane = __builtin_ctz(bits);
        ids[found] = t + j + lane;
        words[found++] = byToken[j + lane];
      }
    }
  }
  return found;
}

const SampleKernels kSampleKernels = {maxOf,     findFirst,    copyClean,         scaleByTemperature,
                                      dropBelow, exponentials, sumOfExponentials, countAbove,
                                      collect,   chunkMaxima,  contenders};

const SampleKernels* sampleKernels() {
  return &kSampleKernels;
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
