// Choosing tokens: mask, bias, penalties, temperature, min-p, top-k, top-p, a Gumbel draw, log-probabilities;
// no sort.
//
// Bytes: vocab * 4 read and written once to prepare, read once to draw, and 4 more times for each of top-k
// and top-p, mostly from the L2 (0.5 MB a row at 128k). A block per row and so 132 rows at a time on H200;
// one row takes about 30 passes of 250 elements a thread in the worst case. Expected 25 us for a plain draw
// and 80 us with everything, on both GPUs (bound by latency at one row: 10 % of the floor). No GPU has
// confirmed these yet. Every sum that decides is one of integers, so a row's token is the same whatever the
// batch and the order of the threads; log-probabilities are sums over a fixed tree.
#include "launchers.h"
#include "sample_noise.h"
#include "sample_search.h"

namespace octavo::cuda {
namespace {

constexpr float kMassUnit = 0x1p40f;  // of the most likely token; 2^18 tokens of it stay far below 2^64
constexpr uint32_t kSeenInPrompt = 0x80000000u;

struct SampleCall {
  SampleArgs args;
  SampleWorkspace workspace;
};

DEVICE bool maskAllows(const SampleArgs& args, int row, int id) {
  if (args.maskRow[row] < 0) return true;
  const int64_t words = (args.vocab + 31) / 32;
  return args.masks[args.maskRow[row] * words + id / 32] >> (id & 31) & 1u;
}

// Logits, masked and biased, to the workspace.
DEVICE void constrain(const SampleArgs& args, int row, float* scores) {
  const float* logits = args.logits + row * args.stride;
  for (int id = threadX(); id < args.vocab; id += kSampleThreads)
    scores[id] = maskAllows(args, row, id) ? cleanLogit(logits[id]) : -INFINITY;
  syncThreads();
  const int begin = args.biasStart[row], end = args.biasStart[row + 1];
  for (int i = begin + threadX(); i < end; i += kSampleThreads) {
    const int id = args.biasId[i];
    bool first = true;
    for (int j = begin; j < i; ++j) first = first && args.biasId[j] != id;
    if (!first) continue;  // the first entry of an id adds all of them, in order
    float score = scores[id];
    for (int j = i; j < end; ++j) {
      if (args.biasId[j] == id) score = cleanLogit(score + args.biasValue[j]);
    }
    scores[id] = score;
  }
  syncThreads();
}

DEVICE void penalise(const SampleArgs& args, int row, float* scores, uint32_t* counts) {
  const float repetition = args.repetition[row], presence = args.presence[row],
              frequency = args.frequency[row];
  if (repetition == 1 && presence == 0 && frequency == 0) return;
  const int slot = args.rowSlot[row], numTokens = args.rowPosition[row] + 1;
  const int32_t* history = args.history + static_cast<int64_t>(slot) * args.maxContext;
  for (int i = threadX(); i < numTokens; i += kSampleThreads) {
    if (i < args.numPrompt[slot]) {
      atomicOr(&counts[history[i]], kSeenInPrompt);
    } else {
      atomicAdd(&counts[history[i]], 1u);
    }
  }
  syncThreads();
  for (int id = threadX(); id < args.vocab; id += kSampleThreads) {
    const uint32_t count = counts[id];
    if (count == 0) continue;
    counts[id] = 0;
    float x = scores[id];
    x = x > 0 ? x / repetition : x * repetition;
    const uint32_t inOutput = count & ~kSeenInPrompt;
    if (inOutput > 0) x -= presence + frequency * static_cast<float>(inOutput);
    scores[id] = cleanLogit(x);
  }
  syncThreads();
}

// The token of a row that has nothing left: the lowest that mask and biases allow, else that the mask allows,
// else 0.
DEVICE int fallbackToken(const SampleArgs& args, int row, SampleShared& shared) {
  uint64_t best = 0;  // allowed by the mask 1, by the biases too 2, above the id
  for (int id = threadX(); id < args.vocab; id += kSampleThreads) {
    if (!maskAllows(args, row, id)) continue;
    bool banned = false;
    for (int i = args.biasStart[row]; i < args.biasStart[row + 1]; ++i)
      banned = banned || (args.biasId[i] == id && args.biasValue[i] == -INFINITY);
    const uint64_t candidate = valueAndId(banned ? 1 : 2, id);
    best = candidate > best ? candidate : best;
  }
  best = blockMax(best, shared);
  return best == 0 ? 0 : idOf(best);
}

// e^x in fixed point, of the ordered bits of x <= 0.
struct Mass {
  DEVICE_MEMBER uint64_t operator()(uint32_t ordered) const {
    const float x = bitsFloat(ordered & 0x80000000u ? ordered ^ 0x80000000u : ~ordered);
    return static_cast<uint64_t>(exp2Approx(x * kLog2E) * kMassUnit);
  }
};

// Narrows a cut to the smallest set, in descending order, whose mass reaches topP of the cut's.
template <class Value>
DEVICE Cut cutToMass(int vocab, const Cut& cut, float topP, const Value& value, SampleShared& shared) {
  const Mass mass;
  uint64_t own = 0;
  for (int id = threadX(); id < vocab; id += kSampleThreads) {
    const uint32_t x = value(id);
    if (x > cut.key) own += mass(x);
  }
  const uint64_t above = blockTotal(own, shared), each = cut.ties > 0 ? mass(cut.key) : 0;
  const double wanted = ceil(static_cast<double>(topP) * static_cast<double>(above + cut.ties * each));
  const uint64_t target = wanted < 1 ? 1 : static_cast<uint64_t>(wanted);
  uint64_t before = above;
  uint32_t key = cut.key;
  uint64_t weight = each;
  if (above >= target) {
    key = searchWeight(vocab, cut.key, target, value, mass, shared, before);
    weight = mass(key);
  } else if (each == 0) {
    return cut;  // what ties with the cut is too unlikely to have mass
  }
  return {key, (target - before + weight - 1) / weight};
}

// Min-p, top-k and top-p over scores less the largest, divided by the temperature.
template <class Value>
DEVICE Cut truncate(const SampleArgs& args, int row, const Value& value, SampleShared& shared) {
  Cut cut{orderedBits(-INFINITY), 0};
  if (args.minP[row] > 0) {
    const uint32_t threshold = orderedBits(fminf(0.0f, logf(args.minP[row])));
    cut.key = threshold - 1 > cut.key ? threshold - 1 : cut.key;
  }
  if (args.topK[row] > 0) {
    uint64_t own = 0;
    for (int id = threadX(); id < args.vocab; id += kSampleThreads) own += value(id) > cut.key;
    const auto wanted = static_cast<uint64_t>(args.topK[row]);
    if (blockTotal(own, shared) > wanted) cut = cutToCount(args.vocab, cut.key, wanted, value, shared);
  }
  if (args.topP[row] < 1) cut = cutToMass(args.vocab, cut, args.topP[row], value, shared);
  return cut;
}

// Argmax of score + noise over what is kept. A thread takes four tokens: one block of random words.
DEVICE int draw(const SampleArgs& args, int row, const float* scores, const Cut& cut, int limit,
                SampleShared& shared) {
  uint64_t best = 0;
  for (int block = threadX(); block * 4 < args.vocab; block += kSampleThreads) {
    uint32_t words[4];
    noiseWords(args.rowPosition[row], static_cast<uint32_t>(block), args.seedLo[row], args.seedHi[row],
               words);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int id = block * 4 + i;
      if (id >= args.vocab || !keeps(cut, limit, orderedBits(scores[id]), id)) continue;
      const uint64_t candidate = valueAndId(orderedBits(scores[id] + gumbel(words[i])), id);
      best = candidate > best ? candidate : best;
    }
  }
  return idOf(blockMax(best, shared));
}

DEVICE int choose(const SampleCall& call, int row, SampleShared& shared) {
  const SampleArgs& args = call.args;
  float* scores = call.workspace.scores + static_cast<int64_t>(row) * args.vocab;
  constrain(args, row, scores);
  penalise(args, row, scores, call.workspace.counts + static_cast<int64_t>(row) * args.vocab);
  uint64_t best = 0;
  for (int id = threadX(); id < args.vocab; id += kSampleThreads) {
    const uint64_t candidate = valueAndId(orderedBits(scores[id]), id);
    best = candidate > best ? candidate : best;
  }
  best = blockMax(best, shared);
  const int argmax = idOf(best);
  const float highest = scores[argmax];
  if (highest == -INFINITY) return fallbackToken(args, row, shared);
  if (args.temperature[row] <= 0 || highest == INFINITY) return argmax;
  syncThreads();  // every thread has read the highest score
  for (int id = threadX(); id < args.vocab; id += kSampleThreads)
    scores[id] = (scores[id] - highest) / args.temperature[row];
  syncThreads();
  const auto value = [scores](int id) { return orderedBits(scores[id]); };
  const Cut cut = truncate(args, row, value, shared);
  return draw(args, row, scores, cut, tieLimit(args.vocab, cut, value, shared), shared);
}

// Maximum and sum of exponentials of the raw logits of a row.
struct RawSums {
  float highest, logTotal;
};

DEVICE float logProbability(float logit, const RawSums& sums) {
  if (logit == -INFINITY) return -INFINITY;
  return (logit == sums.highest ? 0.0f : logit - sums.highest) - sums.logTotal;
}

DEVICE void writeOne(const SampleArgs& args, const float* logits, const RawSums& sums, int id, float* logprob,
                     int32_t* rank, SampleShared& shared) {
  const float logit = cleanLogit(logits[id]);
  const uint64_t mine = valueAndId(orderedBits(logit), id);
  uint64_t larger = 0;
  for (int i = threadX(); i < args.vocab; i += kSampleThreads)
    larger += valueAndId(orderedBits(cleanLogit(logits[i])), i) > mine;
  larger = blockTotal(larger, shared);
  if (threadX() != 0) return;
  *logprob = logProbability(logit, sums);
  *rank = static_cast<int32_t>(larger) + 1;
}

DEVICE void writeTop(const SampleArgs& args, int row, const float* logits, const RawSums& sums,
                     SampleShared& shared) {
  const int count = minOf(minOf(args.numTop[row], args.vocab), kMostTop);
  if (count <= 0) return;
  const auto value = [logits](int id) { return orderedBits(cleanLogit(logits[id])); };
  const Cut cut = cutToCount(args.vocab, 0, static_cast<uint64_t>(count), value, shared);
  const int limit = tieLimit(args.vocab, cut, value, shared);
  if (threadX() == 0) shared.numTop = 0;
  syncThreads();
  for (int id = threadX(); id < args.vocab; id += kSampleThreads) {
    if (keeps(cut, limit, value(id), id))
      shared.top[atomicAdd(&shared.numTop, 1u)] = valueAndId(value(id), id);
  }
  syncThreads();
  if (threadX() >= count) return;
  const uint64_t mine = shared.top[threadX()];
  int place = row * kMostTop;
  for (int i = 0; i < count; ++i) place += shared.top[i] > mine;
  args.topIds[place] = idOf(mine);
  args.topLogprobs[place] = logProbability(cleanLogit(logits[idOf(mine)]), sums);
}

DEVICE void writeLogProbabilities(const SampleArgs& args, int row, int chosen, SampleShared& shared) {
  const float* logits = args.logits + row * args.stride;
  uint64_t best = 0;
  for (int id = threadX(); id < args.vocab; id += kSampleThreads) {
    const uint64_t candidate = valueAndId(orderedBits(cleanLogit(logits[id])), id);
    best = candidate > best ? candidate : best;
  }
  const float highest = cleanLogit(logits[idOf(blockMax(best, shared))]);
  float total = 0;
  for (int id = threadX(); id < args.vocab; id += kSampleThreads) {
    const float x = cleanLogit(logits[id]);
    total += x == highest ? 1.0f : exp2Approx((x - highest) * kLog2E);
  }
  const RawSums sums{highest, logf(blockSum(total, shared.scratch))};
  writeOne(args, logits, sums, chosen, args.logprob + row, args.rank + row, shared);
  if (args.targetId[row] >= 0)
    writeOne(args, logits, sums, args.targetId[row], args.targetLogprob + row, args.targetRank + row, shared);
  writeTop(args, row, logits, sums, shared);
}

KERNEL LAUNCH_BOUNDS(kSampleThreads, 1) sampleKernel(SampleCall call) {
  auto& shared = *reinterpret_cast<SampleShared*>(sharedMemory());
  const SampleArgs& args = call.args;
  const int row = blockX(), chosen = choose(call, row, shared);
  if (threadX() == 0) {
    args.sampledIds[row] = chosen;
    args.logprob[row] = args.targetLogprob[row] = 0;
    args.rank[row] = args.targetRank[row] = 0;
  }
  if (args.numTop[row] >= 0 || args.targetId[row] >= 0) writeLogProbabilities(args, row, chosen, shared);
}

}  // namespace

int sample(const SampleArgs& args, const SampleWorkspace& workspace, Stream stream) {
  static_assert(kMostTop == kMaxLogprobs, "the columns of topIds");
  if (args.rows == 0) return 0;
  return launch(sampleKernel, Grid{static_cast<uint32_t>(args.rows)}, kSampleThreads, sizeof(SampleShared),
                stream, SampleCall{args, workspace});
}

}  // namespace octavo::cuda
