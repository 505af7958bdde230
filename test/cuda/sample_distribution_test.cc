// The draws follow the distribution they should: chi-square against the exact probabilities, over positions
// and over seeds.
#include <algorithm>
#include <numeric>

#include "sample_case.h"

namespace octavo::test {
namespace {

constexpr int kVocab = 24, kDraws = 1200;

struct Setting {
  const char* name;
  float temperature, minP, topP;
  int topK;
};

// Probabilities after temperature, min-p, top-k and top-p, by sorting.
std::vector<double> exactProbabilities(const std::vector<float>& logits, const Setting& setting) {
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  std::vector<double> kept(logits.size(), 0);
  const double highest = logits[static_cast<size_t>(order[0])];
  double total = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const auto t = static_cast<size_t>(order[i]);
    const double p = std::exp((logits[t] - highest) / setting.temperature);
    if (p < setting.minP || (setting.topK > 0 && static_cast<int>(i) >= setting.topK)) break;
    total += kept[t] = p;
  }
  double mass = 0, left = 0;
  for (const int id : order) {
    const auto t = static_cast<size_t>(id);
    if (mass >= setting.topP * total) kept[t] = 0;
    mass += kept[t];
    left += kept[t];
  }
  for (double& p : kept) p /= left;
  return kept;
}

// Chi-square over its degrees of freedom, as a normal deviate [Wilson & Hilferty 1931].
double deviate(const std::vector<int>& counts, const std::vector<double>& probabilities) {
  double square = 0, freedom = -1;
  double rareCount = 0, rareExpected = 0;  // tokens expected fewer than 8 times, together
  for (size_t t = 0; t < counts.size(); ++t) {
    const double expected = probabilities[t] * kDraws;
    CHECK(expected > 0 || counts[t] == 0, "token %zu was truncated, and drawn", t);
    if (expected < 8) {
      rareCount += counts[t];
      rareExpected += expected;
      continue;
    }
    square += (counts[t] - expected) * (counts[t] - expected) / expected;
    ++freedom;
  }
  if (rareExpected > 1) {
    square += (rareCount - rareExpected) * (rareCount - rareExpected) / rareExpected;
    ++freedom;
  }
  const double spread = 2 / (9 * freedom);
  return (std::cbrt(square / freedom) - (1 - spread)) / std::sqrt(spread);
}

void checkDistribution(const Setting& setting, bool overSeeds) {
  const std::vector<float> logits = normalLogits(kVocab, 1.5f);
  SampleBatch batch(kVocab);
  batch.padding = 0;
  for (int i = 0; i < kDraws; ++i) {
    SampleRowCase row;
    row.logits = logits;
    row.temperature = setting.temperature;
    row.minP = setting.minP;
    row.topP = setting.topP;
    row.topK = setting.topK;
    row.seedLo = overSeeds ? i : 5;
    row.seedHi = overSeeds ? i / 100 : 6;
    row.position = overSeeds ? 11 : i;
    batch.rows.push_back(row);
  }
  const SampleResult got = sampleOnDevice(batch, 1);
  std::vector<int> counts(kVocab, 0);
  for (const int32_t id : got.ids) ++counts[static_cast<size_t>(id)];
  const double z = deviate(counts, exactProbabilities(logits, setting));
  CHECK(z < 4 && z > -4, "%s: a deviation of %g", setting.name, z);
}

TEST(sample_distribution) {
  checkDistribution({"plain", 1, 0, 1, 0}, false);
  checkDistribution({"plain, over seeds", 1, 0, 1, 0}, true);
  checkDistribution({"hot, top-p", 1.7f, 0, 0.8f, 0}, false);
  checkDistribution({"top-k and top-p", 1.2f, 0, 0.9f, 9}, true);
  checkDistribution({"min-p", 1, 0.1f, 1, 0}, false);
}

}  // namespace
}  // namespace octavo::test
