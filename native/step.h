// A step on the device: its inputs in device memory, token history, and the sequence stage, resolve, body,
// head, sample, copy out (drawn in kernels/ops.h). enqueue() is called by the compute thread and need not
// wait for the device; finish() waits, on whichever thread collects.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "arena.h"
#include "backend.h"
#include "batch_check.h"
#include "playback.h"
#include "stage_block.h"

namespace octavo {

constexpr int kNumSlots = kStepSlots;

// Tokens [0, tokens.size()) of a sequence slot.
struct HistoryUpdate {
  int32_t seqSlot;
  std::vector<int32_t> tokens;
};

// One launch as the compute thread sees it. `inputs` is a private copy of the arena, taken when the launch
// was validated, so that nothing JavaScript writes later can get past the checks.
struct StepJob {
  int32_t slot = 0;
  BatchCounts counts;
  ArenaView inputs;   // private copy
  ArenaView outputs;  // the arena itself
  // Whether sampling parameters are in `inputs` from the beginning.
  bool samplingReady = true;
  std::vector<HistoryUpdate> history;
  // Returns once sampling parameters and masks are in `inputs`; false: the step is abandoned.
  std::function<bool()> waitForSampling;
};

class StepPlayer {
 public:
  StepPlayer(const Device& device, const RunnerSpec& spec, const ArenaLayout& layout);

  size_t workspaceBytes() const { return workspaceBytes_; }

  // Captures two graphs for each number of rows in `buckets`, for steps that decode one token of each
  // sequence: body and head, and the same with sampling. Throws ERR_OCTAVO_DEVICE.
  GraphUse capture(const Playback& playback, const std::vector<int32_t>& buckets);

  // Hands one step to the device. Throws ERR_OCTAVO_DEVICE. False: abandoned before sampling.
  bool enqueue(const Playback& playback, StepJob& job);
  // Waits for it; its outputs are then in the arena. Throws ERR_OCTAVO_DEVICE.
  void finish(StepJob& job) const;

 private:
  struct CapturedGraphs {
    int32_t rows;
    Graph* toLogits;   // the step then waits for its masks, or samples by stages that no graph holds
    Graph* toSamples;  // parameters are in place before it begins
  };
  struct SlotMemory {
    std::unique_ptr<StageBlock> batch, sampling;
    ArenaView out;  // on the device
  };

  Graph* captureOne(const Playback& playback, int32_t rows, bool withSampling) const;
  void applyHistory(const StepJob& job);
  // The graphs that compute this step, or null. Tells the device what is coming.
  const CapturedGraphs* begin(const StepJob& job) const;
  // Whether a graph can sample all rows of this step.
  bool samplesInGraph(const StepJob& job) const;
  void stageBatch(const StepJob& job);
  void stageSampling(const StepJob& job);
  void resolve(const StepJob& job, int32_t fixedRows) const;
  // Head and sampling by slices of logitsRows; `headDone`: a graph has computed the only one's logits.
  bool sampleRows(const Playback& playback, StepJob& job, const StepInputs& step, bool headDone);
  void sampleSlice(const Playback& playback, StepJob& job, int32_t first, int32_t count) const;
  void downloadLogits(const Playback& playback, const StepJob& job, int32_t first, int32_t count) const;
  SampleArgs deviceArgs(const Playback& playback, int32_t slot, int32_t first, int32_t count) const;
  SampleArgs sampleArgs(const ArenaView& in, const ArenaView& out, int32_t first, int32_t count) const;
  void copyOut(const StepJob& job) const;
  void mark(const StepJob& job, int32_t stage) const;
  StepInputs stepInputs(int32_t numTokens, int32_t numSeqs) const;

  const Device& device_;
  const RunnerSizes sizes_;
  const int32_t vocabSize_;
  size_t workspaceBytes_ = 0;
  ArenaView on_;                      // the device's copy of the arena's inputs
  int32_t* history_ = nullptr;        // device [maxNumSeqs, maxModelLen]
  int32_t* numPrompt_ = nullptr;      // device [maxNumSeqs]
  ReplayedRows* replayed_ = nullptr;  // device, of the latest replay
  SlotMemory slots_[kNumSlots];
  int32_t slotDistance_ = 0;                        // elements from a slot's outputs to the next one's
  std::vector<CapturedGraphs> graphs_;              // ascending rows
  int32_t previousSlot_ = 0, previousSamples_ = 0;  // of the latest enqueue
};

}  // namespace octavo
