// The sampler's launcher. The order of the steps is in ops.h, the division of work in sample_row.h.
//
// For a vocabulary of 128256, fp32 logits: 513 KB a row and pass; 32 slices of 4096. Greedy rows take one
// launch and one pass; a plain draw two, of which the second is bound by its 90 operations a token at many
// rows; top-k and top-p three more each, at worst a full pass each, but only over the slices that reach the
// threshold's bin; log-probabilities one. No GPU has measured these: expected from bytes (A6000 650 GB/s,
// H200 4.3 TB/s), operations and 3 us a launch, and as a share of the floor of Llama-3.1-8B's step:
//
//   us, A6000 / H200 |  greedy    | plain draw  | top-k + top-p + draw, of the step
//   1 row            |   3 /  3   |    6 /   6  |    24 /  24     0.3 % / 2.1 %
//   16 rows          |  16 /  5   |   32 /  12  |   128 /  40     1.3 % / 2.5 %
//   64 rows          |  53 / 11   |  106 /  40  |   424 /  88     2.2 % / 2.7 %
//   256 rows         | 205 / 33   |  410 / 140  |  1640 / 264     2.8 % / 2.0 %
//
// A block per slice and not one per row: at batch 1 one SM would need 5 to 8 us a pass. Slices of 4096 keep
// the adjusted slice and its counts in 33 KB of shared memory, three blocks per SM on sm_86, and 16 values a
// thread in registers.
#include "launchers.h"
#include "sample_row.h"

namespace octavo::cuda {
namespace {

size_t alignedBytes(size_t bytes) {
  return (bytes + 127) / 128 * 128;
}

// Cuts the workspace, or only measures it. What must stay zero comes first, at offsets that depend on maxRows
// alone.
size_t cutWorkspace(unsigned char* workspace, int maxRows, int vocab, SampleScratch* scratch) {
  const auto rows = static_cast<size_t>(maxRows), slices = static_cast<size_t>(sampleSlices(vocab));
  const size_t stride = (static_cast<size_t>(vocab) + kGroupTokens - 1) / kGroupTokens * kGroupTokens;
  size_t offset = 0;
  const auto take = [&](size_t bytes) {
    const size_t at = offset;
    offset += alignedBytes(bytes);
    return workspace + at;
  };
  scratch->counters = reinterpret_cast<int32_t*>(take(rows * sizeof(int32_t)));
  scratch->histogram = reinterpret_cast<uint64_t*>(take(rows * kHistogramBins * sizeof(uint64_t)));
  scratch->rows = reinterpret_cast<SampleRow*>(take(rows * sizeof(SampleRow)));
  scratch->slices = reinterpret_cast<SlicePartial*>(take(rows * slices * sizeof(SlicePartial)));
  scratch->adjusted = reinterpret_cast<float*>(take(rows * stride * sizeof(float)));
  scratch->adjustedStride = static_cast<int64_t>(stride);
  scratch->numSlices = static_cast<int>(slices);
  return offset;
}

}  // namespace

size_t sampleWorkspaceBytes(int maxRows, int vocab) {
  SampleScratch scratch;
  return cutWorkspace(nullptr, maxRows, vocab, &scratch);
}

SampleStages sampleStages(const SampleArgs& host) {
  SampleStages stages = {};
  for (int row = 0; row < host.rows; ++row) {
    const bool draws = host.temperature[row] > 0.0f;
    stages.adjust = stages.adjust || host.maskRow[row] >= 0 ||
                    host.biasStart[row] < host.biasStart[row + 1] || host.repetition[row] != 1.0f ||
                    host.presence[row] != 0.0f || host.frequency[row] != 0.0f;
    stages.draw = stages.draw || draws;
    stages.topK = stages.topK || (draws && host.topK[row] > 0 && host.topK[row] < host.vocab);
    stages.topP = stages.topP || (draws && host.topP[row] < 1.0f);
    stages.logprobs = stages.logprobs || host.numTop[row] >= 0 || host.targetId[row] >= 0;
  }
  return stages;
}

int sample(const SampleCall& call, Stream stream) {
  const SampleArgs& args = call.args;
  if (args.vocab < 1 || args.vocab > kMostSampleVocab || args.stride < args.vocab) return kInvalidShape;
  if (args.rows > call.maxRows || args.rows > kMostSampleRows) return kInvalidShape;
  if (args.replayed && !fitsReplay(call.stages)) return kInvalidShape;
  if (args.rows == 0) return 0;
  SampleScratch scratch;
  cutWorkspace(static_cast<unsigned char*>(call.workspace), call.maxRows, args.vocab, &scratch);
  int status = launchSampleAdjust(call, scratch, stream);
  if (status == 0 && call.stages.topK) status = launchSampleSearch(call, scratch, false, stream);
  if (status == 0 && call.stages.topP) status = launchSampleSearch(call, scratch, true, stream);
  if (status == 0 && call.stages.draw) status = launchSampleDraw(call, scratch, stream);
  if (status == 0 && call.stages.logprobs) status = launchSampleLogprobs(call, scratch, stream);
  return status;
}

}  // namespace octavo::cuda
