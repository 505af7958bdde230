// The draw: argmax over the kept tokens of logit / temperature + Gumbel noise, which is a sample of the
// softmax over them [Gumbel 1954; Yellott 1977]. The noise is a function of (seed, position, token) alone.
// Bytes: 4 per logit of the slices that hold a kept token. About 110 integer operations per four kept tokens
// and 60 for each (two logarithms, a division); bound by those when nothing was truncated.
#include "sample_row.h"

namespace octavo::cuda {
namespace {

// Noise lies in (-3.14, 22.9) and the likeliest token's score is its noise: what is this far below can't win.
constexpr float kHopeless = -26.2f;

struct DrawShared {
  uint64_t warps[kSampleWarps];
  int32_t flag;
};

DEVICE uint64_t bestOfGroup(const SampleArgs& args, const SampleRow& state, int row, int token,
                            const Group& group) {
  float relative[kGroupTokens];
  bool hopeful[kGroupTokens], any = false;
#pragma unroll
  for (int i = 0; i < kGroupTokens; ++i) {
    relative[i] = (group.x[i] - state.highest) / args.temperature[row];
    hopeful[i] = relative[i] > kHopeless && isKept(state, group.x[i], token + i);
    any = any || hopeful[i];
  }
  if (!any) return 0;
  const PhiloxWords words = noiseWords(args.rowPosition[row], token, args.seedLo[row], args.seedHi[row]);
  uint64_t best = 0;
#pragma unroll
  for (int i = 0; i < kGroupTokens; ++i) {
    if (hopeful[i]) best = largerOf(best, pack(relative[i] + gumbel(words.word[i]), token + i));
  }
  return best;
}

KERNEL LAUNCH_BOUNDS(kSampleThreads, 4) sampleDrawKernel(SampleArgs args, SampleScratch scratch) {
  auto* shared = reinterpret_cast<DrawShared*>(sharedMemory());
  const int row = blockY();
  if (!isPresent(args, row)) return;
  const SampleRow state = scratch.rows[row];
  if (state.done) return;
  SlicePartial* slices = scratch.slices + static_cast<int64_t>(row) * scratch.numSlices;
  uint64_t best = 0;
  if (packedKey(slices[blockX()].best) >= state.lowKey) {
    const float* x = adjustedRow(args, scratch, row);
#pragma unroll
    for (int group = 0; group < kGroupsPerThread; ++group) {
      const int token = groupToken(group);
      best = largerOf(best, bestOfGroup(args, state, row, token, loadGroup(x, token, args.vocab)));
    }
  }
  best = blockLargest(best, shared->warps);
  if (threadX() == 0) slices[blockX()].drawn = best;
  if (!isLastOfRow(&scratch.counters[row], &shared->flag)) return;
  best = 0;
  for (int i = threadX(); i < scratch.numSlices; i += kSampleThreads)
    best = largerOf(best, readBack(&slices[i].drawn));
  best = blockLargest(best, shared->warps);
  if (threadX() == 0 && best) args.sampledIds[outputOf(args, row)] = packedToken(best);
}

}  // namespace

int launchSampleDraw(const SampleCall& call, const SampleScratch& scratch, Stream stream) {
  return launch(sampleDrawKernel, sampleGrid(call, scratch), kSampleThreads, sizeof(DrawShared), stream,
                call.args, scratch);
}

}  // namespace octavo::cuda
