#include "quantize.h"

#include <cmath>
#include <vector>

#include "../kernels/cpu/group_quantize.h"
#include "../kernels/cpu/thread_pool.h"
#include "../kernels/half.h"
#include "check.h"

namespace octavo {

namespace {

constexpr int32_t kMaxGroup = 1 << 16;

void checkGroups(int64_t k, int32_t groupSize, const std::string& where) {
  checkRange(groupSize, 16, kMaxGroup, where + ": groupSize");
  check(groupSize % 16 == 0 && k % groupSize == 0, where + ": groupSize",
        concat("a multiple of 16 that divides ", k).c_str(), groupSize);
}

void checkOptional(FloatView view, int64_t size, const std::string& where) {
  if (view.size != 0 && view.size != size) failArgument(where, concat("0 or ", size, " values"), view.size);
}

void checkScale(FloatView scale) {
  for (int64_t i = 0; i < scale.size; i++)
    check(std::isfinite(scale.data[i]) && scale.data[i] > 0, "quantizationError: scale",
          "finite numbers above 0", scale.data[i]);
}

void checkClip(FloatView clip, const std::string& where) {
  for (int64_t i = 0; i < clip.size; i++)
    check(clip.data[i] > 0 && clip.data[i] <= 1, where + ": clip", "numbers in (0, 1]", clip.data[i]);
}

// The clips from group `index` on, of a view of (low, high) pairs; null where there are none.
const float* clipsOf(FloatView clip, int64_t index) {
  return clip.size ? clip.data + 2 * index : nullptr;
}

// Calls body(item) for every item in [0, items), on the threads that `forward` uses.
template <class Body>
void parallel(const Forward& forward, int64_t items, const Body& body) {
  cpu::ThreadPool pool;
  if (!pool.start(forward.threads()))
    fail(code::kDevice, "threads: the system refuses to start ", forward.threads());
  pool.run(items, [&](int64_t item, int) { body(item); });
}

// ||X W^T||^2 in double; `w` f32 [n, k].
double energy(const Forward& forward, FloatView x, const float* w, int64_t rows, int64_t n, int64_t k) {
  LinearSource source{};
  source.scheme = LinearScheme::Dense;
  source.k = k;
  source.n = n;
  source.numParts = 1;
  source.parts[0].weight = {w, DType::F32, n, k};
  source.parts[0].n = n;
  const auto device = forward.open(rows);
  const Linear* linear = device->ops.loadLinear(device->context, &source);
  if (!linear) fail(code::kMemory, "weights of ", n, " x ", k, ": ", device->lastError());
  std::vector<float> out(static_cast<size_t>(rows * n));
  const LinearArgs args{{x.data, k}, {out.data(), n}, linear, static_cast<int32_t>(rows), Epilogue::None, 0};
  device->expect(device->ops.linear(device->context, &args), "linear");
  double sum = 0;
  for (float value : out) sum += static_cast<double>(value) * value;
  return sum;
}

// Calls body(first, count) for blocks of the n rows of a matrix of k columns. Their copies are small enough
// to be taken from memory that was freed before: fresh pages for whole matrices took a fifth of the time.
template <class Body>
void eachBlock(int64_t n, int64_t k, const Body& body) {
  constexpr int64_t kBlockValues = 1 << 20;
  const int64_t rows = kBlockValues / k > 32 ? kBlockValues / k : 32;
  for (int64_t first = 0; first < n; first += rows) body(first, first + rows < n ? rows : n - first);
}

}  // namespace

double quantizationError(const Forward& forward, FloatView x, FloatView w, int64_t k, FloatView scale,
                         FloatView clip, int32_t groupSize) {
  const int64_t rows = rowsOf(x, k, "quantizationError: x"), n = rowsOf(w, k, "quantizationError: w");
  checkGroups(k, groupSize, "quantizationError");
  checkOptional(scale, k, "quantizationError: scale");
  checkOptional(clip, 2 * n * (k / groupSize), "quantizationError: clip");
  checkScale(scale);
  checkClip(clip, "quantizationError");
  double sum = 0;
  eachBlock(n, k, [&](int64_t first, int64_t count) {
    std::vector<float> change(static_cast<size_t>(count * k));
    parallel(forward, count, [&](int64_t row) {
      const float* weights = w.data + (first + row) * k;
      float* to = change.data() + row * k;
      for (int64_t i = 0; i < k; i++) to[i] = scale.size ? weights[i] * scale.data[i] : weights[i];
      cpu::roundTripRow(to, clipsOf(clip, (first + row) * (k / groupSize)), k, groupSize, to);
      for (int64_t i = 0; i < k; i++) to[i] = (scale.size ? to[i] / scale.data[i] : to[i]) - weights[i];
    });
    sum += energy(forward, x, change.data(), rows, count, k);
  });
  return sum;
}

double outputEnergy(const Forward& forward, FloatView x, FloatView w, int64_t k) {
  const int64_t rows = rowsOf(x, k, "outputEnergy: x"), n = rowsOf(w, k, "outputEnergy: w");
  double sum = 0;
  eachBlock(n, k, [&](int64_t first, int64_t count) {
    sum += energy(forward, x, w.data + first * k, rows, count, k);
  });
  return sum;
}

void searchClip(const Forward& forward, FloatView x, FloatView w, int64_t k, int32_t groupSize,
                FloatView out) {
  const int64_t rows = rowsOf(x, k, "searchClip: x"), n = rowsOf(w, k, "searchClip: w");
  checkGroups(k, groupSize, "searchClip");
  const int64_t groups = k / groupSize;
  check(out.size == 2 * n * groups, "searchClip: out", concat(2 * n * groups, " values").c_str(), out.size);
  // One group of all rows is an item: its X^T X is used n times.
  parallel(forward, groups, [&](int64_t group) {
    std::vector<float> gram(static_cast<size_t>(groupSize) * groupSize), room(groupSize);
    cpu::groupGram(x.data, rows, k, group * groupSize, groupSize, gram.data());
    for (int64_t row = 0; row < n; row++) {
      const cpu::Clip best =
          cpu::bestClip(w.data + row * k + group * groupSize, gram.data(), groupSize, room.data());
      float* pair = out.data + 2 * (row * groups + group);
      pair[0] = best.low;
      pair[1] = best.high;
    }
  });
}

void packAwq(const Forward& forward, FloatView w, int64_t k, FloatView clip, int32_t groupSize,
             const AwqTensors& out) {
  const int64_t n = rowsOf(w, k, "packAwq: w");
  checkGroups(k, groupSize, "packAwq");
  const int64_t groups = k / groupSize;
  check(n % 8 == 0, "packAwq: w", "a number of rows that 8 divides", n);
  checkOptional(clip, 2 * n * groups, "packAwq: clip");
  checkClip(clip, "packAwq");
  check(out.qweightSize == k * (n / 8), "packAwq: qweight", concat(k * (n / 8), " words").c_str(),
        out.qweightSize);
  check(out.qzerosSize == groups * (n / 8), "packAwq: qzeros", concat(groups * (n / 8), " words").c_str(),
        out.qzerosSize);
  check(out.scalesSize == groups * n, "packAwq: scales", concat(groups * n, " values").c_str(),
        out.scalesSize);
  static constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};  // nibble i holds column kOrder[i] of its eight
  parallel(forward, n / 8, [&](int64_t word) {
    std::vector<uint8_t> codes(static_cast<size_t>(8 * k)), zeros(static_cast<size_t>(8 * groups));
    std::vector<uint16_t> scales(static_cast<size_t>(groups));
    for (int64_t column = 0; column < 8; column++) {
      const int64_t row = word * 8 + column;
      cpu::quantizeRow(w.data + row * k, clipsOf(clip, row * groups), k, groupSize, &codes[column * k],
                       &zeros[column * groups], scales.data());
      for (int64_t group = 0; group < groups; group++) out.scales[group * n + row] = scales[group];
    }
    auto pack = [&](const std::vector<uint8_t>& from, int64_t length, int32_t* to) {
      for (int64_t i = 0; i < length; i++) {
        uint32_t nibbles = 0;
        for (int nibble = 0; nibble < 8; nibble++)
          nibbles |= static_cast<uint32_t>(from[kOrder[nibble] * length + i]) << (4 * nibble);
        to[i * (n / 8) + word] = static_cast<int32_t>(nibbles);
      }
    };
    pack(codes, k, out.qweight);
    pack(zeros, groups, out.qzeros);
  });
}

int64_t toHalf(FloatView in, uint16_t* out, int64_t outSize) {
  check(in.size == outSize, "toHalf: out", concat(in.size, " values").c_str(), outSize);
  int64_t bad = -1;
  for (int64_t i = 0; i < in.size; i++) {
    out[i] = floatToHalf(in.data[i]);
    if (bad < 0 && (out[i] & 0x7c00u) == 0x7c00u) bad = i;
  }
  return bad;
}

}  // namespace octavo
