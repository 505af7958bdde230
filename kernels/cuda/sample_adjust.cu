// First stage of the sampler: mask, bias, penalties, and the largest logit of each row; rows that are greedy
// or have nothing left end here. Bytes: 4 per logit, 4 more for rows that are adjusted, and the row's history
// once per slice. The slice and its token counts live in shared memory, so a penalty costs one atomic per
// position of the history and no array of counts in memory. 33 KB, and none of it when no row is adjusted.
#include "sample_row.h"

namespace octavo::cuda {
namespace {

// Of a token's count: it occurs in prompt or output. The other bits count the output.
constexpr uint32_t kSeen = 0x80000000u;

struct AdjustShared {
  uint64_t warps[kSampleWarps];
  int32_t flag;
};
struct AdjustSlice {
  float x[kSliceTokens];
  uint32_t counts[kSliceTokens];
};

DEVICE bool allows(const SampleArgs& args, int row, int token) {
  const int64_t words = (args.vocab + 31) / 32;
  return args.masks[args.maskRow[row] * words + token / 32] >> (token & 31) & 1u;
}

// Adds the biases of this slice. Each id belongs to one thread, which takes its entries in order.
DEVICE void addBiases(const SampleArgs& args, int row, AdjustSlice* slice) {
  const int first = blockX() * kSliceTokens;
  for (int i = args.biasStart[row]; i < args.biasStart[row + 1]; ++i) {
    const int at = args.biasId[i] - first;
    if (at >= 0 && at < kSliceTokens && at % kSampleThreads == threadX())
      slice->x[at] = cleaned(slice->x[at] + args.biasValue[i]);
  }
}

DEVICE void countHistory(const SampleArgs& args, int row, AdjustSlice* slice) {
  const int first = blockX() * kSliceTokens, slot = args.rowSlot[row];
  const int32_t* history = args.history + static_cast<int64_t>(slot) * args.maxContext;
  for (int i = threadX(); i <= args.rowPosition[row]; i += kSampleThreads) {
    const int at = history[i] - first;
    if (at < 0 || at >= kSliceTokens) continue;
    if (i >= args.numPrompt[slot]) atomicAdd(&slice->counts[at], 1u);
    atomicOr(&slice->counts[at], kSeen);
  }
}

// Repetition over prompt and output [Keskar et al. 2019], presence and frequency over output.
DEVICE float penalised(const SampleArgs& args, int row, float x, uint32_t count) {
  if (count == 0) return x;
  const float repetition = args.repetition[row];
  x = x > 0.0f ? x / repetition : x * repetition;
  const uint32_t output = count & ~kSeen;
  if (output > 0) x -= fmaf(args.frequency[row], static_cast<float>(output), args.presence[row]);
  return cleaned(x);
}

// Brings the slice to shared memory, adjusts it there and writes it to scratch.
DEVICE void adjustSlice(const SampleArgs& args, const SampleScratch& scratch, int row, AdjustSlice* slice) {
  const int first = blockX() * kSliceTokens;
  const bool masked = args.maskRow[row] >= 0, penalty = hasPenalty(args, row);
  for (int group = 0; group < kGroupsPerThread; ++group) {
    const int token = groupToken(group);
    Group x = loadGroup(args.logits + row * args.stride, token, args.vocab);
#pragma unroll
    for (int i = 0; i < kGroupTokens; ++i) {
      if (masked && token + i < args.vocab && !allows(args, row, token + i)) x.x[i] = -INFINITY;
      slice->x[token + i - first] = x.x[i];
      slice->counts[token + i - first] = 0;
    }
  }
  syncThreads();
  addBiases(args, row, slice);
  if (penalty) countHistory(args, row, slice);
  syncThreads();
  for (int group = 0; group < kGroupsPerThread; ++group) {
    const int token = groupToken(group);
    for (int i = 0; i < kGroupTokens && token + i < args.vocab; ++i) {
      float& x = slice->x[token + i - first];
      if (penalty) x = penalised(args, row, x, slice->counts[token + i - first]);
      scratch.adjusted[row * scratch.adjustedStride + token + i] = x;
    }
  }
}

DEVICE bool isBanned(const SampleArgs& args, int row, int token) {
  bool banned = false;
  for (int i = args.biasStart[row]; i < args.biasStart[row + 1]; ++i)
    banned = banned || (args.biasId[i] == token && args.biasValue[i] == -INFINITY);
  return banned;
}

// For a row with nothing left: the lowest id that mask and biases allow, or that the mask allows, or 0.
DEVICE int fallbackToken(const SampleArgs& args, int row, AdjustShared* shared) {
  uint64_t lowestAllowed = 0;
  for (int first = 0; first < args.vocab; first += kSampleThreads) {
    const int token = first + threadX();
    const bool allowed = token < args.vocab && (args.maskRow[row] < 0 || allows(args, row, token));
    const bool open = allowed && !isBanned(args, row, token);
    const uint64_t lowestOpen = blockLargest(open ? pack(0.0f, token) : 0, shared->warps);
    if (lowestOpen) return packedToken(lowestOpen);
    if (!lowestAllowed) lowestAllowed = blockLargest(allowed ? pack(0.0f, token) : 0, shared->warps);
  }
  return lowestAllowed ? packedToken(lowestAllowed) : 0;
}

// Joins the slices: the row's largest logit, what min-p leaves, and the token of a row that needs no draw.
DEVICE void startRow(const SampleArgs& args, const SampleScratch& scratch, int row, AdjustShared* shared) {
  uint64_t best = 0;
  SlicePartial* slices = scratch.slices + static_cast<int64_t>(row) * scratch.numSlices;
  for (int i = threadX(); i < scratch.numSlices; i += kSampleThreads)
    best = largerOf(best, readBack(&slices[i].best));
  best = blockLargest(best, shared->warps);
  const bool empty = packedKey(best) == kKeyOfMinusInfinity;
  const int chosen = empty ? fallbackToken(args, row, shared) : packedToken(best);
  if (threadX() != 0) return;
  const float highest = keyValue(packedKey(best)), temperature = args.temperature[row], minP = args.minP[row];
  SampleRow state = {};
  state.highest = highest;
  state.lowKey = kKeyOfMinusInfinity;
  state.idLimit = -1;
  if (minP > 0.0f) {
    const uint32_t lowest = orderedKey(cleaned(highest + temperature * fminf(0.0f, logf(minP))));
    state.lowKey = lowest > state.lowKey ? lowest - 1 : state.lowKey;
  }
  state.done = empty || temperature <= 0.0f || highest == INFINITY;
  scratch.rows[row] = state;
  const int64_t out = outputOf(args, row);
  args.sampledIds[out] = chosen;
  args.logprob[out] = args.targetLogprob[out] = 0.0f;
  args.rank[out] = args.targetRank[out] = 0;
}

KERNEL LAUNCH_BOUNDS(kSampleThreads, 2) sampleAdjustKernel(SampleArgs args, SampleScratch scratch) {
  auto* shared = reinterpret_cast<AdjustShared*>(sharedMemory());
  auto* slice = reinterpret_cast<AdjustSlice*>(shared + 1);
  const int row = blockY();
  if (!isPresent(args, row)) return;
  const bool adjusted = isAdjusted(args, row);
  if (adjusted) adjustSlice(args, scratch, row, slice);
  uint64_t best = 0;
#pragma unroll
  for (int group = 0; group < kGroupsPerThread; ++group) {
    const int token = groupToken(group);
    Group x = {};
    if (!adjusted) x = loadGroup(args.logits + row * args.stride, token, args.vocab);
#pragma unroll
    for (int i = 0; i < kGroupTokens; ++i) {
      const float value = adjusted ? slice->x[token + i - blockX() * kSliceTokens] : x.x[i];
      if (token + i < args.vocab) best = largerOf(best, pack(value, token + i));
    }
  }
  best = blockLargest(best, shared->warps);
  const int64_t at = static_cast<int64_t>(row) * scratch.numSlices + blockX();
  if (threadX() == 0) scratch.slices[at].best = best;
  if (isLastOfRow(&scratch.counters[row], &shared->flag)) startRow(args, scratch, row, shared);
}

}  // namespace

int launchSampleAdjust(const SampleCall& call, const SampleScratch& scratch, Stream stream) {
  const size_t bytes = sizeof(AdjustShared) + (call.stages.adjust ? sizeof(AdjustSlice) : 0);
  return launch(sampleAdjustKernel, sampleGrid(call, scratch), kSampleThreads, bytes, stream, call.args,
                scratch);
}

}  // namespace octavo::cuda
