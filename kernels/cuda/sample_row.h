// What the stages of the sampler share. A row's vocabulary is cut in slices of kSliceTokens, a function of
// nothing but the vocabulary; a block works on one slice of one row, and the block of a row that arrives last
// joins the slices:
//
//   adjust (mask, bias, penalties, argmax) -> search x 3 for top-k -> search x 3 for top-p -> draw ->
//   logprobs
//
// Every join is of integers (maxima of packed keys, counts, fixed-point masses) or runs over the slices in
// order, so neither the other rows nor the order in which blocks run can change a result.
#pragma once
#include "../philox.h"
#include "device.h"
#include "sample.h"

namespace octavo::cuda {

constexpr int kSampleThreads = 256;
constexpr int kSampleWarps = kSampleThreads / kWarpSize;
constexpr int kGroupTokens = 4;  // a Philox call makes the noise of four tokens; 16 bytes of logits
constexpr int kGroupsPerThread = 4;
constexpr int kSliceTokens = kSampleThreads * kGroupTokens * kGroupsPerThread;
constexpr int kHistogramBins = 2048;
constexpr int kAllIds = 0x7fffffff;

// Words of a slice about its raw logits.
constexpr int kSumWord = 0;    // bits of the largest, then of the sum of exp(x - largest)
constexpr int kAboveWord = 1;  // how many come before the sampled token, then before the target
constexpr int kTopWord = 2;    // the largest, packed, descending; 0 where there are no more
constexpr int kLogprobWords = kTopWord + kMaxLogprobs;

// What a block leaves for the one that joins its row, and for later stages. One per slice.
struct SlicePartial {
  uint64_t best;   // packed largest adjusted logit
  uint64_t drawn;  // packed largest score
  uint64_t logprobs[kLogprobWords];
};

// A row between the stages. A token is kept if its key is above lowKey, or equal and its id at most idLimit.
struct SampleRow {
  uint64_t target;  // search: the weight to reach ...
  uint64_t above;   // ... and the weight of what lies above the prefix
  float highest;    // largest adjusted logit
  uint32_t lowKey;
  int32_t idLimit;
  uint32_t prefix;  // search: the leading bits of the threshold found so far
  int32_t searching;
  int32_t done;  // sampledIds is written
};

struct SampleScratch {
  int32_t* counters;     // [maxRows] blocks of the row that have arrived; zero between launches
  uint64_t* histogram;   // [maxRows][kHistogramBins]; zero between launches
  SampleRow* rows;       // [maxRows]
  SlicePartial* slices;  // [maxRows][numSlices]
  float* adjusted;       // [maxRows][adjustedStride], written for rows that isAdjusted()
  int64_t adjustedStride;
  int numSlices;
};

inline int sampleSlices(int vocab) {
  return (vocab + kSliceTokens - 1) / kSliceTokens;
}

int launchSampleAdjust(const SampleCall& call, const SampleScratch& scratch, Stream stream);
int launchSampleSearch(const SampleCall& call, const SampleScratch& scratch, bool byMass, Stream stream);
int launchSampleDraw(const SampleCall& call, const SampleScratch& scratch, Stream stream);
int launchSampleLogprobs(const SampleCall& call, const SampleScratch& scratch, Stream stream);

inline Grid sampleGrid(const SampleCall& call, const SampleScratch& scratch) {
  return Grid{static_cast<uint32_t>(scratch.numSlices), static_cast<uint32_t>(call.args.rows)};
}

// NaN counts as -inf, -0 as 0.
DEVICE float cleaned(float x) {
  return x != x ? -INFINITY : x + 0.0f;
}

// Keys order like the floats they are made of.
DEVICE uint32_t orderedKey(float x) {
  const uint32_t bits = floatBits(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
DEVICE float keyValue(uint32_t key) {
  return bitsFloat(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}
constexpr uint32_t kKeyOfMinusInfinity = 0x007fffffu;

// Packed values order by key, and of equal keys the lower id is the larger. Never 0.
DEVICE uint64_t pack(float x, int token) {
  return static_cast<uint64_t>(orderedKey(x)) << 32 | (0xffffffffu - static_cast<uint32_t>(token));
}
DEVICE uint32_t packedKey(uint64_t packed) {
  return static_cast<uint32_t>(packed >> 32);
}
DEVICE int packedToken(uint64_t packed) {
  return static_cast<int>(0xffffffffu - static_cast<uint32_t>(packed));
}

DEVICE uint64_t largerOf(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

// First token of this thread's group `group` of the block's slice; may be past the vocabulary.
DEVICE int groupToken(int group) {
  return blockX() * kSliceTokens + (group * kSampleThreads + threadX()) * kGroupTokens;
}

struct Group {
  float x[kGroupTokens];
};

// Tokens [token, token + 4) of a row of logits, cleaned; -inf past the vocabulary.
DEVICE Group loadGroup(const float* row, int token, int vocab) {
  Group group;
  if (token + kGroupTokens <= vocab && (reinterpret_cast<uintptr_t>(row) & 15u) == 0) {
    const Words4 words = *reinterpret_cast<const Words4*>(row + token);
#pragma unroll
    for (int i = 0; i < kGroupTokens; ++i) group.x[i] = cleaned(bitsFloat(words.x[i]));
  } else {
#pragma unroll
    for (int i = 0; i < kGroupTokens; ++i)
      group.x[i] = token + i < vocab ? cleaned(row[token + i]) : -INFINITY;
  }
  return group;
}

// Whether the step that replays a captured call has this row.
DEVICE bool isPresent(const SampleArgs& args, int row) {
  return !args.replayed || row < args.replayed->rows;
}

// Of a row, in the output arrays of this step.
DEVICE int64_t outputOf(const SampleArgs& args, int row) {
  return args.replayed ? int64_t{args.replayed->outOffset} + row : row;
}

DEVICE bool hasPenalty(const SampleArgs& args, int row) {
  return args.repetition[row] != 1.0f || args.presence[row] != 0.0f || args.frequency[row] != 0.0f;
}

DEVICE bool isAdjusted(const SampleArgs& args, int row) {
  return args.maskRow[row] >= 0 || args.biasStart[row] < args.biasStart[row + 1] || hasPenalty(args, row);
}

// The logits of a row after mask, bias and penalties.
DEVICE const float* adjustedRow(const SampleArgs& args, const SampleScratch& scratch, int row) {
  return isAdjusted(args, row) ? scratch.adjusted + row * scratch.adjustedStride
                               : args.logits + row * args.stride;
}

DEVICE bool isKept(const SampleRow& state, float x, int token) {
  const uint32_t key = orderedKey(x);
  return key > state.lowKey || (key == state.lowKey && token <= state.idLimit);
}

// Largest of a value over the block, in every thread. shared: [kSampleWarps].
DEVICE uint64_t blockLargest(uint64_t value, uint64_t* shared) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value = largerOf(value, shuffleXor(value, mask));
  syncThreads();  // the last use of shared is over
  if (laneOf(threadX()) == 0) shared[warpOf(threadX())] = value;
  syncThreads();
  for (int warp = 0; warp < kSampleWarps; ++warp) value = largerOf(value, shared[warp]);
  return value;
}

// True in every thread of the block that is the last of its row to get here; it sees what the others wrote
// before, by readBack. flag: shared.
DEVICE bool isLastOfRow(int32_t* counter, int32_t* flag) {
  syncThreads();
  if (threadX() == 0) {
    fence();
    *flag = atomicAdd(counter, 1) == gridX() - 1;
    if (*flag) *counter = 0;
    fence();
  }
  syncThreads();
  return *flag != 0;
}

// What another block of this launch wrote: an atomic reads the L2, where a plain load could hit a stale L1
// line.
DEVICE uint64_t readBack(uint64_t* p) {
  return atomicAdd(p, static_cast<uint64_t>(0));
}

// Words of the noise of tokens [token, token + 4), token a multiple of 4 (philox.h).
DEVICE PhiloxWords noiseWords(int position, int token, int seedLo, int seedHi) {
  uint32_t c0 = static_cast<uint32_t>(position), c1 = static_cast<uint32_t>(token) >> 2, c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seedLo), k1 = static_cast<uint32_t>(seedHi);
#pragma unroll
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint32_t high0 = multiplyHigh(kPhiloxM0, c0), low0 = kPhiloxM0 * c0;
    const uint32_t high1 = multiplyHigh(kPhiloxM1, c2), low1 = kPhiloxM1 * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  return PhiloxWords{{c0, c1, c2, c3}};
}

// -log(-log(u)), u = (word + 0.5) * 2^-32, to a few units of the last place: near 1, where fp32 can't hold u,
// from 1 - u = (~word + 0.5) * 2^-32.
DEVICE float gumbel(uint32_t word) {
  const float exponential = word & 0x80000000u ? -log1pf(-(static_cast<float>(~word) + 0.5f) * 0x1p-32f)
                                               : -logf((static_cast<float>(word) + 0.5f) * 0x1p-32f);
  return -logf(exponential);
}

}  // namespace octavo::cuda
