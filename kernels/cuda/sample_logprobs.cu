// Log-probabilities and ranks of the raw logits: of the sampled token, of the target, and of the most likely
// numTop. Bytes: 4 per logit, once; the values of a slice stay in registers. Each top-n round is one maximum
// over the slice of what lies below the previous one, and the joining block does the same over the slices'
// lists.
#include "sample_row.h"

namespace octavo::cuda {
namespace {

constexpr int kValues = kGroupTokens * kGroupsPerThread;  // of a thread

struct LogprobShared {
  float sums[kWarpSize];
  uint64_t warps[kSampleWarps];
  float highest, logTotal;  // of the row
  int32_t flag;
};

// This thread's values of the slice, packed; 0 past the vocabulary.
DEVICE void loadPacked(const SampleArgs& args, int row, uint64_t (&packed)[kValues]) {
#pragma unroll
  for (int group = 0; group < kGroupsPerThread; ++group) {
    const int token = groupToken(group);
    const Group x = loadGroup(args.logits + row * args.stride, token, args.vocab);
#pragma unroll
    for (int i = 0; i < kGroupTokens; ++i)
      packed[group * kGroupTokens + i] = token + i < args.vocab ? pack(x.x[i], token + i) : 0;
  }
}

DEVICE float powerOf(float x, float highest) {
  return x == highest ? 1.0f : expf(x - highest);
}

// The raw logit of a token, packed.
DEVICE uint64_t packedLogit(const SampleArgs& args, int row, int token) {
  return pack(cleaned(args.logits[row * args.stride + token]), token);
}

// Sum of exp(x - largest) over the slice, by a fixed tree, with its largest.
DEVICE uint64_t sumSlice(const uint64_t (&packed)[kValues], uint64_t best, LogprobShared* shared) {
  const float highest = keyValue(packedKey(best));
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kValues; ++i) {
    if (packed[i]) sum += powerOf(keyValue(packedKey(packed[i])), highest);
  }
  sum = blockSum(sum, shared->sums);
  return static_cast<uint64_t>(floatBits(highest)) << 32 | floatBits(sum);
}

// How many of the slice lie above the packed sampled and target logits: two counts below 2^20 in one word.
DEVICE uint64_t countAbove(const uint64_t (&packed)[kValues], uint64_t sampled, uint64_t target,
                           LogprobShared* shared) {
  uint64_t counts = 0;
#pragma unroll
  for (int i = 0; i < kValues; ++i) {
    counts += static_cast<uint64_t>(packed[i] > sampled) << 32;
    counts += packed[i] > target;
  }
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) counts += shuffleXor(counts, mask);
  syncThreads();
  if (laneOf(threadX()) == 0) shared->warps[warpOf(threadX())] = counts;
  syncThreads();
  counts = 0;
  for (int warp = 0; warp < kSampleWarps; ++warp) counts += shared->warps[warp];
  return counts;
}

DEVICE uint64_t largestBelow(const uint64_t (&packed)[kValues], uint64_t bound) {
  uint64_t best = 0;
#pragma unroll
  for (int i = 0; i < kValues; ++i) {
    if (packed[i] < bound) best = largerOf(best, packed[i]);
  }
  return best;
}

// The slice's `count` largest after `best`, which is the first of the list.
DEVICE void listSlice(const uint64_t (&packed)[kValues], uint64_t best, int count, uint64_t* top,
                      LogprobShared* shared) {
  uint64_t mine = largestBelow(packed, best);
  for (int i = 0; i < count; ++i) {
    if (threadX() == 0) top[i] = best;
    if (i + 1 == count) break;
    if (mine >= best) mine = largestBelow(packed, best);
    best = blockLargest(mine, shared->warps);
  }
}

DEVICE float logProbability(float logit, const LogprobShared* shared) {
  if (logit == -INFINITY) return -INFINITY;
  return (logit == shared->highest ? 0.0f : logit - shared->highest) - shared->logTotal;
}

// Brings what the slices left to shared memory: words [numSlices][kLogprobWords].
DEVICE void readSlices(SlicePartial* slices, int numSlices, int count, uint64_t* words) {
  for (int i = threadX(); i < numSlices * kLogprobWords; i += kSampleThreads) {
    const int word = i % kLogprobWords;
    words[i] =
        word < kTopWord + count || word < kTopWord ? readBack(&slices[i / kLogprobWords].logprobs[word]) : 0;
  }
  syncThreads();
}

// Joins the slices' sums in order, and their counts.
DEVICE void joinSums(const SampleArgs& args, const uint64_t* words, int numSlices, int row,
                     LogprobShared* shared) {
  float highest = -INFINITY, total = 0.0f;
  uint64_t above = 0;
  for (int i = 0; i < numSlices; ++i)
    highest = fmaxf(highest, bitsFloat(static_cast<uint32_t>(words[i * kLogprobWords + kSumWord] >> 32)));
  for (int i = 0; i < numSlices; ++i) {
    const uint64_t sum = words[i * kLogprobWords + kSumWord];
    total +=
        bitsFloat(static_cast<uint32_t>(sum)) * powerOf(bitsFloat(static_cast<uint32_t>(sum >> 32)), highest);
    above += words[i * kLogprobWords + kAboveWord];
  }
  shared->highest = highest;
  shared->logTotal = logf(total);
  const float* logits = args.logits + row * args.stride;
  args.logprob[row] = logProbability(cleaned(logits[args.sampledIds[row]]), shared);
  args.rank[row] = static_cast<int32_t>(above >> 32) + 1;
  if (args.targetId[row] < 0) return;
  args.targetLogprob[row] = logProbability(cleaned(logits[args.targetId[row]]), shared);
  args.targetRank[row] = static_cast<int32_t>(above & 0xffffffffu) + 1;
}

// Joins the slices' lists.
DEVICE void joinLists(const SampleArgs& args, const uint64_t* words, int numSlices, int row, int count,
                      LogprobShared* shared) {
  uint64_t bound = ~static_cast<uint64_t>(0);
  for (int i = 0; i < count; ++i) {
    uint64_t mine = 0;
    for (int at = threadX(); at < numSlices * kMaxLogprobs; at += kSampleThreads) {
      const uint64_t value = words[at / kMaxLogprobs * kLogprobWords + kTopWord + at % kMaxLogprobs];
      if (value < bound) mine = largerOf(mine, value);
    }
    bound = blockLargest(mine, shared->warps);
    if (threadX() != 0) continue;
    args.topIds[row * kMaxLogprobs + i] = packedToken(bound);
    args.topLogprobs[row * kMaxLogprobs + i] = logProbability(keyValue(packedKey(bound)), shared);
  }
}

KERNEL LAUNCH_BOUNDS(kSampleThreads, 3) sampleLogprobsKernel(SampleArgs args, SampleScratch scratch) {
  auto* shared = reinterpret_cast<LogprobShared*>(sharedMemory());
  auto* words = reinterpret_cast<uint64_t*>(shared + 1);
  const int row = blockY(), targetId = args.targetId[row];
  if (args.numTop[row] < 0 && targetId < 0) return;
  const int count = minOf(minOf(args.numTop[row], kMaxLogprobs), args.vocab);
  SlicePartial* slices = scratch.slices + static_cast<int64_t>(row) * scratch.numSlices;
  uint64_t* mine = slices[blockX()].logprobs;
  uint64_t packed[kValues];
  loadPacked(args, row, packed);
  const uint64_t best = blockLargest(largestBelow(packed, ~static_cast<uint64_t>(0)), shared->warps);
  const uint64_t sum = sumSlice(packed, best, shared);
  const uint64_t sampled = packedLogit(args, row, args.sampledIds[row]);
  const uint64_t above =
      countAbove(packed, sampled, packedLogit(args, row, targetId < 0 ? 0 : targetId), shared);
  if (threadX() == 0) {
    mine[kSumWord] = sum;
    mine[kAboveWord] = above;
  }
  listSlice(packed, best, count, mine + kTopWord, shared);
  if (!isLastOfRow(&scratch.counters[row], &shared->flag)) return;
  readSlices(slices, scratch.numSlices, count, words);
  if (threadX() == 0) joinSums(args, words, scratch.numSlices, row, shared);
  syncThreads();
  joinLists(args, words, scratch.numSlices, row, count, shared);
}

}  // namespace

int launchSampleLogprobs(const SampleCall& call, const SampleScratch& scratch, Stream stream) {
  const size_t bytes =
      sizeof(LogprobShared) + static_cast<size_t>(scratch.numSlices) * kLogprobWords * sizeof(uint64_t);
  return launch(sampleLogprobsKernel, sampleGrid(call, scratch), kSampleThreads, bytes, stream, call.args,
                scratch);
}

}  // namespace octavo::cuda
