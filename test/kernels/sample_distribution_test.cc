// The sampled tokens follow the exact distribution: chi-square against probabilities computed here,
// independently of the kernels, for each parameter alone and for all of them together.
#include <algorithm>
#include <numeric>

#include "harness.h"

namespace {

constexpr int kVocab = 40;
constexpr int kDraws = 40000;
constexpr int kRowsPerCall = 500;
constexpr int kContext = 12;  // tokens of history, the first 5 of them prompt
constexpr int kPrompt = 5;

struct Setting {
  const char* name;
  float temperature = 1.0f, topP = 1.0f, minP = 0.0f, repetition = 1.0f, presence = 0.0f, frequency = 0.0f;
  int topK = 0;
  bool bias = false, mask = false;
};

const Setting kSettings[] = {
    {"plain"},
    {"cool", 0.5f},
    {"hot", 1.7f},
    {"top-k", 1.0f, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f, 5},
    {"top-p", 1.0f, 0.7f},
    {"min-p", 1.0f, 1.0f, 0.1f},
    {"repetition", 1.0f, 1.0f, 0.0f, 1.6f},
    {"presence", 1.0f, 1.0f, 0.0f, 1.0f, 1.5f},
    {"frequency", 1.0f, 1.0f, 0.0f, 1.0f, 0.0f, 0.9f},
    {"bias", 1.0f, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0, true},
    {"mask", 1.0f, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0, false, true},
    {"all together", 1.3f, 0.9f, 0.02f, 1.2f, 0.4f, 0.3f, 20, true, true},
};

// Token 3 is wanted, 7 less so, 1 and 30 are banned.
const std::vector<int32_t> kBiasIds = {1, 3, 7, 30};
const std::vector<float> kBiasValues = {-INFINITY, 1.5f, -2.0f, -INFINITY};

bool allowed(int token) {
  return token % 3 != 1;
}

std::vector<int32_t> historyTokens() {
  return {2, 5, 5, 9, 11, 3, 3, 3, 8, 20, 5, 31};
}

void keepOnly(std::vector<double>* p, const std::vector<bool>& keep) {
  double sum = 0;
  for (int t = 0; t < kVocab; t++) sum += keep[t] ? (*p)[t] : 0;
  for (int t = 0; t < kVocab; t++) (*p)[t] = keep[t] ? (*p)[t] / sum : 0;
}

std::vector<double> softmax(const std::vector<double>& x) {
  const double top = *std::max_element(x.begin(), x.end());
  std::vector<double> p(x.size());
  double sum = 0;
  for (size_t t = 0; t < x.size(); t++) sum += p[t] = std::exp(x[t] - top);
  for (double& value : p) value /= sum;
  return p;
}

// The definition, step by step, in double.
std::vector<double> exactDistribution(const std::vector<float>& logits, const Setting& s) {
  std::vector<double> x(logits.begin(), logits.end());
  if (s.mask)
    for (int t = 0; t < kVocab; t++)
      if (!allowed(t)) x[t] = -INFINITY;
  if (s.bias)
    for (size_t i = 0; i < kBiasIds.size(); i++) x[kBiasIds[i]] += kBiasValues[i];
  const std::vector<int32_t> history = historyTokens();
  std::vector<int> seen(kVocab, 0), output(kVocab, 0);
  for (int i = 0; i < kContext; i++) {
    seen[history[i]]++;
    if (i >= kPrompt) output[history[i]]++;
  }
  for (int t = 0; t < kVocab; t++) {
    if (seen[t]) x[t] = x[t] > 0 ? x[t] / s.repetition : x[t] * s.repetition;
    if (output[t]) x[t] -= s.presence + s.frequency * output[t];
    x[t] /= s.temperature;
  }
  std::vector<double> p = softmax(x);
  std::vector<int> order(kVocab);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return p[a] > p[b]; });
  std::vector<bool> keep(kVocab, true);
  for (int t = 0; t < kVocab; t++) keep[t] = p[t] >= s.minP * p[order[0]];
  keepOnly(&p, keep);
  if (s.topK > 0) {
    for (int i = s.topK; i < kVocab; i++) keep[order[i]] = false;
    keepOnly(&p, keep);
  }
  double reached = 0;
  for (int t : order) {
    if (reached >= s.topP) keep[t] = false;
    reached += p[t];
  }
  keepOnly(&p, keep);
  return p;
}

// Upper bound of chi-square at about 5 standard deviations (Wilson and Hilferty 1931).
double chiSquareLimit(int degrees) {
  const double k = 2.0 / (9.0 * degrees);
  return degrees * std::pow(1 - k + 5.0 * std::sqrt(k), 3);
}

std::vector<int> draw(const octavo::Ops* ops, const std::vector<float>& logits, const Setting& s) {
  octavo::OpenOptions options = test::smallOptions();
  options.vocabSize = kVocab;
  options.maxSamples = kRowsPerCall;
  options.maxContext = 64;
  test::Backend backend(ops, options);
  const int n = kRowsPerCall;
  std::vector<float> rows;
  for (int r = 0; r < n; r++) rows.insert(rows.end(), logits.begin(), logits.end());
  std::vector<int32_t> history(64, -1), slots(n, 0), positions(n, kContext - 1), seedLo(n), seedHi(n),
      none(n, -1);
  const std::vector<int32_t> tokens = historyTokens();
  std::copy(tokens.begin(), tokens.end(), history.begin());
  const int32_t numPrompt = kPrompt;
  const auto all = [n](float value) { return std::vector<float>(n, value); };
  const std::vector<float> temperature = all(s.temperature), topP = all(s.topP), minP = all(s.minP),
                           repetition = all(s.repetition), presence = all(s.presence),
                           frequency = all(s.frequency);
  const std::vector<int32_t> topK(n, s.topK), maskRow(n, s.mask ? 0 : -1);
  std::vector<int32_t> biasStart(n + 1, 0), biasId;
  std::vector<float> biasValue;
  for (int r = 0; r < n; r++) {
    if (s.bias) {
      biasId.insert(biasId.end(), kBiasIds.begin(), kBiasIds.end());
      biasValue.insert(biasValue.end(), kBiasValues.begin(), kBiasValues.end());
    }
    biasStart[r + 1] = static_cast<int32_t>(biasId.size());
  }
  std::vector<uint32_t> masks((kVocab + 31) / 32, 0);
  for (int t = 0; t < kVocab; t++)
    if (allowed(t)) masks[t / 32] |= 1u << (t % 32);
  std::vector<int32_t> sampled(n), rank(n), targetRank(n), topIds(n * octavo::kMaxLogprobs);
  std::vector<float> logprob(n), targetLogprob(n), topLogprobs(n * octavo::kMaxLogprobs);

  octavo::SampleArgs a{};
  a.logits = rows.data();
  a.stride = kVocab;
  a.rows = n;
  a.vocab = kVocab;
  a.rowSlot = slots.data();
  a.rowPosition = positions.data();
  a.temperature = temperature.data();
  a.topP = topP.data();
  a.minP = minP.data();
  a.repetition = repetition.data();
  a.presence = presence.data();
  a.frequency = frequency.data();
  a.topK = topK.data();
  a.seedLo = seedLo.data();
  a.seedHi = seedHi.data();
  a.targetId = none.data();
  a.numTop = none.data();
  a.biasStart = biasStart.data();
  a.biasId = biasId.data();
  a.biasValue = biasValue.data();
  a.maskRow = maskRow.data();
  a.masks = masks.data();
  a.history = history.data();
  a.numPrompt = &numPrompt;
  a.maxContext = 64;
  a.sampledIds = sampled.data();
  a.logprob = logprob.data();
  a.targetLogprob = targetLogprob.data();
  a.rank = rank.data();
  a.targetRank = targetRank.data();
  a.topIds = topIds.data();
  a.topLogprobs = topLogprobs.data();

  std::vector<int> counts(kVocab, 0);
  for (int done = 0; done < kDraws; done += n) {
    for (int r = 0; r < n; r++) {
      seedLo[r] = done + r;
      seedHi[r] = (done + r) * 7;
    }
    if (ops->sample(backend.context, &a) != 0 || ops->sync(backend.context) != 0) return {};
    for (int32_t id : sampled) {
      if (id < 0 || id >= kVocab) return {};
      counts[id]++;
    }
  }
  return counts;
}

void checkDistribution(const octavo::Ops* ops, const std::string& backend) {
  std::mt19937 random(11);
  const std::vector<float> logits = test::randomFloats(random, kVocab, 3.0f);
  for (const Setting& setting : kSettings) {
    const std::vector<double> exact = exactDistribution(logits, setting);
    const std::vector<int> counts = draw(ops, logits, setting);
    CHECK(static_cast<int>(counts.size()) == kVocab, "%s, %s: the op failed", backend.c_str(), setting.name);
    if (static_cast<int>(counts.size()) != kVocab) continue;
    double chi = 0, rareExpected = 0;
    int bins = 0, rareCount = 0;
    for (int t = 0; t < kVocab; t++) {
      const double expected = exact[t] * kDraws;
      if (exact[t] == 0)
        CHECK(counts[t] == 0, "%s, %s: token %d has no probability", backend.c_str(), setting.name, t);
      if (expected < 8) {
        rareExpected += expected;
        rareCount += counts[t];
        continue;
      }
      chi += (counts[t] - expected) * (counts[t] - expected) / expected;
      bins++;
    }
    if (rareExpected >= 8) {
      chi += (rareCount - rareExpected) * (rareCount - rareExpected) / rareExpected;
      bins++;
    }
    CHECK(bins >= 3, "%s, %s: too few tokens to say anything", backend.c_str(), setting.name);
    const double limit = chiSquareLimit(bins - 1);
    CHECK(chi < limit, "%s, %s: chi-square %.1f over %d bins, at most %.1f", backend.c_str(), setting.name,
          chi, bins, limit);
  }
}

}  // namespace

TEST(sample_follows_the_exact_distribution_reference) {
  checkDistribution(octavo::referenceOps(), "reference");
}

TEST(sample_follows_the_exact_distribution_cpu) {
  test::forEachIsa([](const std::string& isa) { checkDistribution(octavo::cpuOps(), isa); });
}
