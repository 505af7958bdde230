// Choosing a token, as a textbook has it: sort the whole vocabulary, walk it. The order of the steps is in
// ops.h.
//
// What is not a number is never chosen: NaN counts as -inf. A row whose best logit is +inf takes the lowest
// such id. A row that has nothing left (all -inf) takes the lowest id that mask and biases allow, or else
// that the mask allows, or else 0. Log-probabilities that nobody asked for are written as 0, and so are their
// ranks.
#include <algorithm>

#include "../philox.h"
#include "reference.h"

namespace octavo::reference {
namespace {

double clean(double x) {
  return std::isnan(x) ? -INFINITY : x;
}

bool allowed(const SampleArgs& args, int32_t row, int32_t token) {
  if (args.maskRow[row] < 0) return true;
  const int64_t words = (args.vocab + 31) / 32;
  return args.masks[args.maskRow[row] * words + token / 32] >> (token & 31) & 1u;
}

// Mask and bias.
void constrain(const SampleArgs& args, int32_t row, double* x) {
  for (int32_t t = 0; t < args.vocab; ++t) {
    if (!allowed(args, row, t)) x[t] = -INFINITY;
  }
  for (int32_t i = args.biasStart[row]; i < args.biasStart[row + 1]; ++i)
    x[args.biasId[i]] = clean(x[args.biasId[i]] + args.biasValue[i]);
}

// Repetition penalty [Keskar et al. 2019] over all tokens so far; presence and frequency over the output.
void penalise(ReferenceContext* context, const SampleArgs& args, int32_t row, double* x) {
  const double repetition = args.repetition[row];
  if (repetition == 1 && args.presence[row] == 0 && args.frequency[row] == 0) return;
  const int32_t* history = args.history + static_cast<int64_t>(args.rowSlot[row]) * args.maxContext;
  const int32_t promptEnd = std::min(args.numPrompt[args.rowSlot[row]], args.rowPosition[row] + 1);
  int32_t* counts = context->counts.data();
  std::fill(counts, counts + args.vocab, 0);
  for (int32_t i = 0; i <= args.rowPosition[row]; ++i) ++counts[history[i]];
  for (int32_t t = 0; t < args.vocab; ++t) {
    if (counts[t] > 0) x[t] = x[t] > 0 ? x[t] / repetition : x[t] * repetition;
  }
  for (int32_t i = 0; i < promptEnd; ++i) --counts[history[i]];
  for (int32_t t = 0; t < args.vocab; ++t) {
    if (counts[t] > 0) x[t] -= args.presence[row] + static_cast<double>(args.frequency[row]) * counts[t];
    x[t] = clean(x[t]);
  }
}

int32_t fallbackToken(const SampleArgs& args, int32_t row) {
  int32_t masked = -1;
  for (int32_t t = 0; t < args.vocab; ++t) {
    if (!allowed(args, row, t)) continue;
    if (masked < 0) masked = t;
    bool banned = false;
    for (int32_t i = args.biasStart[row]; i < args.biasStart[row + 1]; ++i)
      banned = banned || (args.biasId[i] == t && args.biasValue[i] == -INFINITY);
    if (!banned) return t;
  }
  return std::max(masked, 0);
}

// Ids by descending x; ties by ascending id. Returns how many are above -inf.
int32_t sortTokens(const double* x, int32_t vocab, int32_t* order) {
  for (int32_t t = 0; t < vocab; ++t) order[t] = t;
  std::sort(order, order + vocab, [x](int32_t a, int32_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; });
  int32_t count = 0;
  while (count < vocab && x[order[count]] > -INFINITY) ++count;
  return count;
}

// How many of the `count` first of `order` min-p, top-k and top-p leave. x: logits over temperature, less the
// largest.
int32_t truncate(const SampleArgs& args, int32_t row, const double* x, const int32_t* order, int32_t count) {
  if (args.minP[row] > 0) {
    const double threshold = std::min(0.0, std::log(static_cast<double>(args.minP[row])));
    int32_t kept = 0;
    while (kept < count && x[order[kept]] >= threshold) ++kept;
    count = kept;
  }
  if (args.topK[row] > 0) count = std::min(count, args.topK[row]);
  if (args.topP[row] < 1) {
    double total = 0, mass = 0;
    for (int32_t i = 0; i < count; ++i) total += std::exp(x[order[i]]);
    int32_t kept = 0;
    while (kept < count && (kept == 0 || mass < args.topP[row] * total)) mass += std::exp(x[order[kept++]]);
    count = kept;
  }
  return count;
}

int32_t choose(ReferenceContext* context, const SampleArgs& args, int32_t row) {
  double* x = context->row.data();
  int32_t* order = context->order.data();
  for (int32_t t = 0; t < args.vocab; ++t) x[t] = clean(args.logits[row * args.stride + t]);
  constrain(args, row, x);
  penalise(context, args, row, x);
  int32_t count = sortTokens(x, args.vocab, order);
  if (count == 0) return fallbackToken(args, row);
  const double highest = x[order[0]];
  if (args.temperature[row] <= 0 || highest == INFINITY) return order[0];
  for (int32_t i = 0; i < count; ++i) x[order[i]] = (x[order[i]] - highest) / args.temperature[row];
  count = truncate(args, row, x, order, count);
  int32_t best = order[0];
  double bestScore = -INFINITY;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t t = order[i];
    const uint32_t word = noiseWord(args.rowPosition[row], t, args.seedLo[row], args.seedHi[row]);
    const double score = x[t] + gumbelNoise(word);
    if (score > bestScore || (score == bestScore && t < best)) {
      best = t;
      bestScore = score;
    }
  }
  return best;
}

// Log-probability of a raw logit; `total` is the sum of exp(logit - highest). Infinite logits share all
// probability.
double logProbability(double logit, double highest, double total) {
  if (logit == -INFINITY) return -INFINITY;
  return (logit == highest ? 0.0 : logit - highest) - std::log(total);
}

void writeLogProbabilities(ReferenceContext* context, const SampleArgs& args, int32_t row) {
  double* x = context->row.data();
  int32_t* order = context->order.data();
  for (int32_t t = 0; t < args.vocab; ++t) x[t] = clean(args.logits[row * args.stride + t]);
  sortTokens(x, args.vocab, order);
  const double highest = x[order[0]];
  double total = 0;
  for (int32_t t = 0; t < args.vocab; ++t) total += x[t] == highest ? 1.0 : std::exp(x[t] - highest);
  const auto write = [&](int32_t token, float* logprob, int32_t* rank) {
    *logprob = static_cast<float>(logProbability(x[token], highest, total));
    *rank = static_cast<int32_t>(std::find(order, order + args.vocab, token) - order) + 1;
  };
  write(args.sampledIds[row], args.logprob + row, args.rank + row);
  if (args.targetId[row] >= 0) write(args.targetId[row], args.targetLogprob + row, args.targetRank + row);
  for (int32_t i = 0; i < std::min(args.numTop[row], args.vocab); ++i) {
    args.topIds[row * kMaxLogprobs + i] = order[i];
    args.topLogprobs[row * kMaxLogprobs + i] =
        static_cast<float>(logProbability(x[order[i]], highest, total));
  }
}

}  // namespace

int sample(Context* context, const SampleArgs* args) {
  for (int32_t row = 0; row < args->rows; ++row) {
    args->sampledIds[row] = choose(self(context), *args, row);
    args->logprob[row] = args->targetLogprob[row] = 0;
    args->rank[row] = args->targetRank[row] = 0;
    if (args->numTop[row] >= 0 || args->targetId[row] >= 0) writeLogProbabilities(self(context), *args, row);
  }
  return 0;
}

}  // namespace octavo::reference
