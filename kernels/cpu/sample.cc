// Choosing a token without sorting the vocabulary: top-k and top-p by a radix search for the value at which
// they cut, then Gumbel noise only for tokens that can still win. Meaning and corner cases (NaN, infinities,
// nothing allowed) are those of reference/sample.cc.
#include <algorithm>
#include <cmath>
#include <functional>

#include "../philox.h"
#include "context.h"

namespace octavo::cpu {
namespace {

// Whose noise: see noiseWord().
struct NoiseKey {
  int32_t position, seedLo, seedHi;
};

// Passes over a row; see sample_kernels.h.
struct SampleKernels {
  float (*maxOf)(const float* x, int32_t count);
  int32_t (*findFirst)(const float* x, int32_t count, float value);
  void (*copyClean)(const float* logits, float* x, int32_t count);
  void (*scaleByTemperature)(float* x, int32_t count, float highest, float temperature);
  void (*dropBelow)(float* x, int32_t count, float threshold);
  void (*exponentials)(const float* x, float* out, int32_t count);
  double (*sumOfExponentials)(const float* x, int32_t count, float highest);
  int32_t (*countAbove)(const float* x, int32_t count, float value, bool orEqual);
  int32_t (*collect)(const float* x, int32_t count, float threshold, int32_t* ids);
  void (*chunkMaxima)(const float* x, int32_t count, int32_t chunk, float* maxima);
  int32_t (*contenders)(const float* mass, int32_t first, int32_t last, const NoiseKey& key, float bound,
                        int32_t* ids, uint32_t* words);
};

}  // namespace
}  // namespace octavo::cpu

#define OCTAVO_KERNEL_FILE "sample_kernels.h"
#include "foreach_isa.h"

namespace octavo::cpu {
namespace {

constexpr int kRadixBits = 11;
constexpr int32_t kChunk = 64;        // tokens whose maximum top-k starts from
constexpr int32_t kDrawChunk = 1024;  // tokens whose noise is drawn at a time

struct Histogram {
  int32_t count[1 << kRadixBits];
  double mass[1 << kRadixBits];
};

// One row on one thread. The arrays are [vocab] padded to a multiple of 64.
struct Sampler {
  const SampleArgs& args;
  const SampleKernels& kernels;
  int32_t row;
  float* x;         // logits; -inf: out
  float* mass;      // exp(x)
  int32_t* counts;  // all zero between rows
  int32_t* list;    // ids
  Histogram* histogram;
};

size_t paddedVocab(int32_t vocab) {
  return (static_cast<size_t>(vocab) + 63) / 64 * 64;
}

Sampler makeSampler(const SampleArgs& args, const SampleKernels& kernels, int32_t row, void* scratch) {
  const size_t padded = paddedVocab(args.vocab);
  auto* counts = static_cast<int32_t*>(scratch);
  auto* list = counts + padded;
  auto* x = reinterpret_cast<float*>(list + padded);
  return {args, kernels, row, x, x + padded, counts, list, reinterpret_cast<Histogram*>(x + 2 * padded)};
}

bool allowed(const SampleArgs& args, int32_t row, int32_t token) {
  if (args.maskRow[row] < 0) return true;
  const int64_t words = (args.vocab + 31) / 32;
  return args.masks[args.maskRow[row] * words + token / 32] >> (token & 31) & 1u;
}

bool isPenalised(const SampleArgs& args, int32_t row) {
  return args.repetition[row] != 1 || args.presence[row] != 0 || args.frequency[row] != 0;
}

float clean(float x) {
  return std::isnan(x) ? -INFINITY : x;
}

void constrain(const Sampler& s) {
  const SampleArgs& args = s.args;
  if (args.maskRow[s.row] >= 0) {
    const uint32_t* words = args.masks + static_cast<int64_t>(args.maskRow[s.row]) * ((args.vocab + 31) / 32);
    for (int32_t first = 0; first < args.vocab; first += 32) {
      const uint32_t word = words[first / 32];
      if (word == 0xffffffffu) continue;
      const int32_t last = std::min(first + 32, args.vocab);
      for (int32_t t = first; t < last; ++t) {
        if (!(word >> (t - first) & 1u)) s.x[t] = -INFINITY;
      }
    }
  }
  for (int32_t i = args.biasStart[s.row]; i < args.biasStart[s.row + 1]; ++i)
    s.x[args.biasId[i]] = clean(s.x[args.biasId[i]] + args.biasValue[i]);
}

// Counts the tokens of the context (bit 0: there at all; the rest: occurrences in the output), then visits
// each once.
void penalise(const Sampler& s) {
  const SampleArgs& args = s.args;
  const int32_t slot = args.rowSlot[s.row], last = args.rowPosition[s.row];
  const int32_t* history = args.history + static_cast<int64_t>(slot) * args.maxContext;
  for (int32_t i = 0; i <= last; ++i)
    s.counts[history[i]] = (s.counts[history[i]] + (i >= args.numPrompt[slot] ? 2 : 0)) | 1;
  const float repetition = args.repetition[s.row];
  for (int32_t i = 0; i <= last; ++i) {
    const int32_t count = s.counts[history[i]];
    if (count == 0) continue;
    s.counts[history[i]] = 0;
    float& x = s.x[history[i]];
    x = x > 0 ? x / repetition : x * repetition;
    if (count > 1) x -= args.presence[s.row] + args.frequency[s.row] * static_cast<float>(count >> 1);
    x = clean(x);
  }
}

// Nothing is left: the lowest id that mask and biases allow, or else that the mask allows, or else 0.
int32_t fallbackToken(const Sampler& s) {
  const SampleArgs& args = s.args;
  int32_t masked = -1;
  for (int32_t t = 0; t < args.vocab; ++t) {
    if (!allowed(args, s.row, t)) continue;
    if (masked < 0) masked = t;
    bool banned = false;
    for (int32_t i = args.biasStart[s.row]; i < args.biasStart[s.row + 1]; ++i)
      banned = banned || (args.biasId[i] == t && args.biasValue[i] == -INFINITY);
    if (!banned) return t;
  }
  return std::max(masked, 0);
}

// Order of a scaled logit, which is never above 0: the bits of its magnitude grow as it falls.
uint32_t keyOf(float x) {
  return floatToBits(x) & 0x7fffffffu;
}

// Where top-k or top-p cuts: at a number of tokens, or a mass.
struct Limit {
  bool byCount;
  double target;
};

// The bin in which the limit is reached, or the last one that is not empty. `reached` grows by the bins
// before it.
int32_t findBin(const Histogram& histogram, int32_t bins, const Limit& limit, double* reached) {
  int32_t last = 0;
  double before = *reached, beforeLast = *reached;
  for (int32_t bin = 0; bin < bins; ++bin) {
    if (histogram.count[bin] == 0) continue;
    last = bin;
    beforeLast = before;
    before += limit.byCount ? histogram.count[bin] : histogram.mass[bin];
    if (before >= limit.target) break;
  }
  *reached = beforeLast;
  return last;
}

// Bins of the tokens in the list by `bits` of the key from `shift` up, of those whose higher bits are
// `prefix`; the others leave the list. Returns how many stay.
int32_t fillHistogram(const Sampler& s, int32_t count, const Limit& limit, int shift, int bits,
                      uint32_t prefix) {
  std::memset(static_cast<void*>(s.histogram), 0, sizeof *s.histogram);
  int32_t kept = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t token = s.list[i];
    const uint32_t key = keyOf(s.x[token]);
    if (key >> (shift + bits) != prefix) continue;
    s.list[kept++] = token;
    const uint32_t bin = key >> shift & ((1u << bits) - 1u);
    ++s.histogram->count[bin];
    if (!limit.byCount) s.histogram->mass[bin] += s.mass[token];
  }
  return kept;
}

// Cuts x where the limit is reached among list[0, count), which holds every token at or before that place: a
// radix search by bits 20..30 of the key, then 9..19, then 0..8.
void cutAt(const Sampler& s, int32_t count, const Limit& limit) {
  constexpr int32_t kBins = 1 << kRadixBits;
  double reached = 0;
  count = fillHistogram(s, count, limit, 20, kRadixBits, 0);
  const auto top = static_cast<uint32_t>(findBin(*s.histogram, kBins, limit, &reached));
  count = fillHistogram(s, count, limit, 9, kRadixBits, top);
  const auto middle =
      top << kRadixBits | static_cast<uint32_t>(findBin(*s.histogram, kBins, limit, &reached));
  count = fillHistogram(s, count, limit, 0, 9, middle);
  const auto bottom = static_cast<uint32_t>(findBin(*s.histogram, 512, limit, &reached));
  // All tokens in this bin are equal: the first few stay.
  const uint32_t key = middle << 9 | bottom;
  const int32_t equal = s.histogram->count[bottom];
  const double each = limit.byCount ? 1.0 : s.histogram->mass[bottom] / equal;
  int32_t ties = 1;
  while (ties < equal && reached + ties * each < limit.target) ++ties;
  for (int32_t i = 0; i < count; ++i) {
    if (keyOf(s.x[s.list[i]]) == key && ties-- <= 0) s.x[s.list[i]] = -INFINITY;
  }
  s.kernels.dropBelow(s.x, s.args.vocab, -bitsToFloat(key));
}

constexpr float kLowest = -3.4028235e38f;  // the least finite float: at or above it is all that is left

// Only tokens that reach the k-th largest of the chunks' maxima need be looked at: k tokens do.
void cutTopK(const Sampler& s, int32_t k) {
  const int32_t chunks = (s.args.vocab + kChunk - 1) / kChunk;
  float threshold = kLowest;
  if (k < chunks) {
    s.kernels.chunkMaxima(s.x, s.args.vocab, kChunk, s.mass);
    std::nth_element(s.mass, s.mass + k - 1, s.mass + chunks, std::greater<float>());
    threshold = std::max(threshold, s.mass[k - 1]);
  }
  const int32_t count = s.kernels.collect(s.x, s.args.vocab, threshold, s.list);
  if (count > k) {
    cutAt(s, count, {true, static_cast<double>(k)});
  } else {
    s.kernels.dropBelow(s.x, s.args.vocab, threshold);
  }
}

// Tokens with less than (1 - topP) / vocab of the mass hold, together, less than 1 - topP of it: the cut is
// not there.
void cutTopP(const Sampler& s, double topP) {
  const double total = s.kernels.sumOfExponentials(s.x, s.args.vocab, 0);
  const double least = 0.999 * (1 - topP) * total / s.args.vocab;
  const auto threshold = std::max(kLowest, static_cast<float>(std::log(least) - 1e-3));
  const int32_t count = s.kernels.collect(s.x, s.args.vocab, threshold, s.list);
  cutAt(s, count, {false, topP * total});
}

// min-p, top-k and top-p of logits scaled so that the largest is 0. Fills mass.
void truncate(const Sampler& s) {
  const SampleArgs& args = s.args;
  const auto padded = static_cast<int32_t>(paddedVocab(args.vocab));
  if (args.minP[s.row] > 0) {
    const double threshold = std::min(0.0, std::log(static_cast<double>(args.minP[s.row])));
    auto limit = static_cast<float>(threshold);
    if (limit < threshold) limit = std::nextafter(limit, INFINITY);  // x >= limit in f32 is x >= threshold
    s.kernels.dropBelow(s.x, args.vocab, limit);
  }
  if (args.topK[s.row] > 0 && args.topK[s.row] < args.vocab) cutTopK(s, args.topK[s.row]);
  s.kernels.exponentials(s.x, s.mass, padded);
  if (args.topP[s.row] < 1) {
    cutTopP(s, std::max(0.0, static_cast<double>(args.topP[s.row])));
    s.kernels.exponentials(s.x, s.mass, padded);
  }
}

// Gumbel-max. A token beats `best` if -log(u) < mass / e^best, and -log(u) > 1 - u: so most tokens are ruled
// out by comparing their noise word, without a logarithm; the margin covers the rounding of that comparison.
// And no word helps a token whose mass is below 2^-33 of e^best. In chunks, so that what one finds rules out
// more in the next.
int32_t draw(const Sampler& s, int32_t first) {
  const SampleArgs& args = s.args;
  const NoiseKey key{args.rowPosition[s.row], args.seedLo[s.row], args.seedHi[s.row]};
  int32_t best = first;
  double bestScore = s.x[first] + gumbelNoise(noiseWord(key.position, first, key.seedLo, key.seedHi));
  const auto padded = static_cast<int32_t>(paddedVocab(args.vocab));
  int32_t ids[kDrawChunk];
  uint32_t words[kDrawChunk];
  for (int32_t from = 0; from < padded; from += kDrawChunk) {
    const int32_t to = std::min(from + kDrawChunk, padded);
    const auto bound = static_cast<float>(1.001 * std::exp(-bestScore));
    const int32_t count = s.kernels.contenders(s.mass, from, to, key, bound, ids, words);
    for (int32_t i = 0; i < count; ++i) {
      const double score = s.x[ids[i]] + gumbelNoise(words[i]);
      if (score > bestScore || (score == bestScore && ids[i] < best)) {
        best = ids[i];
        bestScore = score;
      }
    }
  }
  return best;
}

int32_t choose(const Sampler& s) {
  const SampleArgs& args = s.args;
  const float* logits = args.logits + s.row * args.stride;
  const bool plain = args.maskRow[s.row] < 0 && args.biasStart[s.row] == args.biasStart[s.row + 1] &&
                     !isPenalised(args, s.row);
  if (plain && args.temperature[s.row] <= 0) {
    const float highest = s.kernels.maxOf(logits, args.vocab);
    return highest == -INFINITY ? fallbackToken(s) : s.kernels.findFirst(logits, args.vocab, highest);
  }
  s.kernels.copyClean(logits, s.x, args.vocab);
  std::fill(s.x + args.vocab, s.x + paddedVocab(args.vocab), -INFINITY);
  constrain(s);
  if (isPenalised(args, s.row)) penalise(s);
  const float highest = s.kernels.maxOf(s.x, args.vocab);
  if (highest == -INFINITY) return fallbackToken(s);
  const int32_t first = s.kernels.findFirst(s.x, args.vocab, highest);
  if (args.temperature[s.row] <= 0 || highest == INFINITY) return first;
  s.kernels.scaleByTemperature(s.x, args.vocab, highest, args.temperature[s.row]);
  truncate(s);
  return draw(s, first);
}

// Log-probabilities of the raw logits. total: sum of exp(x - highest). Infinite logits share all probability.
struct RowStatistics {
  float highest;
  double logTotal;

  float logProbability(float x) const {
    if (x == -INFINITY) return -INFINITY;
    return static_cast<float>((x == highest ? 0.0 : static_cast<double>(x) - highest) - logTotal);
  }
};

// The `count` largest, by descending value, ties by ascending id: insertion into a short list.
void findTop(const float* x, int32_t vocab, int32_t count, int32_t* ids) {
  int32_t found = 0;
  for (int32_t t = 0; t < vocab; ++t) {
    if (found == count && !(x[t] > x[ids[count - 1]])) continue;
    int32_t at = found < count ? found++ : count - 1;
    for (; at > 0 && x[ids[at - 1]] < x[t]; --at) ids[at] = ids[at - 1];
    ids[at] = t;
  }
}

void writeLogProbabilities(const Sampler& s) {
  const SampleArgs& args = s.args;
  const int32_t vocab = args.vocab, row = s.row;
  s.kernels.copyClean(args.logits + row * args.stride, s.x, vocab);
  const float highest = s.kernels.maxOf(s.x, vocab);
  const bool finite = std::isfinite(highest);
  const RowStatistics statistics{highest, std::log(finite ? s.kernels.sumOfExponentials(s.x, vocab, highest)
                                                          : s.kernels.countAbove(s.x, vocab, highest, true))};
  const auto write = [&](int32_t token, float* logprob, int32_t* rank) {
    const float value = s.x[token];
    *logprob = statistics.logProbability(value);
    *rank = 1 + s.kernels.countAbove(s.x, vocab, value, false) +
            s.kernels.countAbove(s.x, token, value, true) - s.kernels.countAbove(s.x, token, value, false);
  };
  write(args.sampledIds[row], args.logprob + row, args.rank + row);
  if (args.targetId[row] >= 0) write(args.targetId[row], args.targetLogprob + row, args.targetRank + row);
  const int32_t count = std::min({args.numTop[row], vocab, kMaxLogprobs});
  if (count <= 0) return;
  int32_t* ids = args.topIds + row * kMaxLogprobs;
  findTop(s.x, vocab, count, ids);
  for (int32_t i = 0; i < count; ++i)
    args.topLogprobs[row * kMaxLogprobs + i] = statistics.logProbability(s.x[ids[i]]);
}

}  // namespace

size_t sampleScratchBytes(const OpenOptions& options) {
  return paddedVocab(options.vocabSize) * 4 * sizeof(float) + sizeof(Histogram);
}

int sample(Context* base, const SampleArgs* args) {
  CpuContext* context = self(base);
  if (args->vocab > context->options.vocabSize)
    return context->fail("sample: vocabulary larger than the context's");
  const SampleKernels& kernels = *OCTAVO_SELECT(context->isa, sampleKernels)();
  const auto sampleRow = [&](int64_t index, int thread) {
    const Sampler sampler =
        makeSampler(*args, kernels, static_cast<int32_t>(index), context->sampleScratch(thread));
    const int32_t row = sampler.row;
    args->sampledIds[row] = choose(sampler);
    args->logprob[row] = args->targetLogprob[row] = 0;
    args->rank[row] = args->targetRank[row] = 0;
    if (args->numTop[row] >= 0 || args->targetId[row] >= 0) writeLogProbabilities(sampler);
  };
  if (static_cast<int64_t>(args->rows) * args->vocab < kParallelWork) {
    for (int32_t row = 0; row < args->rows; ++row) sampleRow(row, 0);
  } else {
    context->pool.run(args->rows, sampleRow);
  }
  return 0;
}

}  // namespace octavo::cpu
