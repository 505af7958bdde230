// Rounding groups to 4 bits: each instruction set against the rule written out in plain loops.
#include "../../kernels/cpu/group_quantize.h"

#include <algorithm>

#include "../../kernels/half.h"
#include "harness.h"

using namespace octavo;

namespace {

struct Expected {
  float scale, zero;
  std::vector<float> codes;
};

Expected quantized(const float* weights, int32_t g, float lowClip, float highClip) {
  float low = 0, high = 0;
  for (int32_t i = 0; i < g; ++i) {
    low = std::min(low, weights[i]);
    high = std::max(high, weights[i]);
  }
  low *= lowClip;
  high *= highClip;
  Expected expected;
  expected.scale = std::max(halfToFloat(floatToHalf((high - low) / 15.0f)), 0x1p-24f);
  const float inverse = 1.0f / expected.scale;
  expected.zero = std::min(15.0f, std::nearbyint(-low * inverse));
  for (int32_t i = 0; i < g; ++i) {
    const float scaled = std::max(-32.0f, std::min(32.0f, weights[i] * inverse));
    expected.codes.push_back(std::max(0.0f, std::min(15.0f, std::nearbyint(scaled) + expected.zero)));
  }
  return expected;
}

// Groups of 16 to 128: ordinary ones, one of zeros, one that is all on one side of 0, one tiny, one with an
// outlier.
std::vector<float> rowOfGroups(std::mt19937& random, int64_t k, int32_t g) {
  std::vector<float> row = test::randomFloats(random, static_cast<size_t>(k));
  for (int32_t i = 0; i < g; ++i) {
    row[i] = 0;
    row[g + i] = 3 + row[g + i];
    row[2 * g + i] *= 1e-7f;
  }
  row[3 * g + 1] = 40;
  return row;
}

}  // namespace

TEST(group_quantize_rounds_by_the_rule) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(7);
    for (int32_t g : {16, 32, 64, 128}) {
      const int64_t k = 6 * g;
      const std::vector<float> row = rowOfGroups(random, k, g);
      const std::vector<float> clips = {1, 1, 0.5f, 0.75f, 1, 0.9f, 0.5f, 0.5f, 0.8f, 1, 1, 1};
      for (const float* clip : {static_cast<const float*>(nullptr), clips.data()}) {
        std::vector<float> stored(k);
        std::vector<uint8_t> codes(k), zeros(6);
        std::vector<uint16_t> scales(6);
        cpu::roundTripRow(row.data(), clip, k, g, stored.data());
        cpu::quantizeRow(row.data(), clip, k, g, codes.data(), zeros.data(), scales.data());
        for (int64_t group = 0; group < 6; ++group) {
          const Expected expected =
              quantized(&row[group * g], g, clip ? clip[2 * group] : 1, clip ? clip[2 * group + 1] : 1);
          CHECK(halfToFloat(scales[group]) == expected.scale && zeros[group] == expected.zero,
                "%s g %d group %d: scale %g, zero %d", isa.c_str(), g, static_cast<int>(group),
                halfToFloat(scales[group]), zeros[group]);
          for (int32_t i = 0; i < g; ++i) {
            const float code = expected.codes[i], value = (code - expected.zero) * expected.scale;
            CHECK(codes[group * g + i] == code && stored[group * g + i] == value,
                  "%s g %d group %d weight %d: code %d for %g", isa.c_str(), g, static_cast<int>(group), i,
                  codes[group * g + i], code);
          }
        }
      }
    }
  });
}

TEST(group_quantize_clips_what_costs_least) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(11);
    const int64_t rows = 50, k = 96;
    const int32_t g = 32;
    const std::vector<float> x = test::randomFloats(random, rows * k);
    std::vector<float> weights = test::randomFloats(random, g), gram(g * g), room(g);
    weights[3] = 5;
    cpu::groupGram(x.data(), rows, k, 32, g, gram.data());
    const cpu::Clip best = cpu::bestClip(weights.data(), gram.data(), g, room.data());
    // ||X d||^2 in double, straight from x.
    const auto error = [&](float low, float high) {
      const float pair[2] = {low, high};
      std::vector<float> stored(g);
      cpu::roundTripRow(weights.data(), pair, g, g, stored.data());
      double total = 0;
      for (int64_t row = 0; row < rows; ++row) {
        double sum = 0;
        for (int32_t i = 0; i < g; ++i)
          sum += static_cast<double>(x[row * k + 32 + i]) * (stored[i] - weights[i]);
        total += sum * sum;
      }
      return total;
    };
    const double least = error(best.low, best.high) * 1.0001;
    CHECK(least < error(1, 1), "%s: nothing gained", isa.c_str());
    for (int i = 0; i <= 5; ++i)
      CHECK(least <= error(1, 1 - 0.1f * i) * 1.001, "%s: a high end of %g is better", isa.c_str(),
            1 - 0.1 * i);
    for (int i = 0; i <= 5; ++i)
      CHECK(least <= error(1 - 0.1f * i, best.high) * 1.001, "%s: a low end of %g is better", isa.c_str(),
            1 - 0.1 * i);
  });
}
