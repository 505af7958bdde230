// The device's side of a step: input arrays in device memory, token history, and the sequence copy in, body,
// head, sample, copy out. Called by the compute thread only.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "arena.h"
#include "backend.h"
#include "batch_check.h"
#include "playback.h"

namespace octavo {

// Tokens [0, tokens.size()) of a sequence slot.
struct HistoryUpdate {
  int32_t seqSlot;
  std::vector<int32_t> tokens;
};

// One launch as the compute thread sees it. `inputs` is a private copy of the arena, taken when the launch
// was validated, so that nothing JavaScript writes later can get past the checks.
struct StepJob {
  BatchCounts counts;
  ArenaView inputs;   // private copy
  ArenaView outputs;  // the arena itself
  std::vector<HistoryUpdate> history;
  // Returns once sampling parameters and masks are in `inputs`; false: the step is abandoned.
  std::function<bool()> waitForSampling;
};

class StepPlayer {
 public:
  StepPlayer(const Device& device, const RunnerSpec& spec, const ArenaLayout& layout);

  size_t workspaceBytes() const { return workspaceBytes_; }

  // Plays one step. Throws ERR_OCTAVO_DEVICE. False: abandoned before sampling.
  bool run(const Playback& playback, StepJob& job);

 private:
  void applyHistory(const StepJob& job);
  void resolveIds(StepJob& job) const;
  void copyIn(StepJob& job);
  void copyInSampling(const StepJob& job);
  void sampleSlice(const Playback& playback, StepJob& job, int32_t first, int32_t count);
  void copyOut(StepJob& job);
  // Uploads elements [first, first + count) of an array of the private copy to the device's copy of it.
  template <typename T>
  void up(T* target, const T* source, int64_t first, int64_t count) const;
  template <typename T>
  void down(T* target, const T* source, int64_t count) const;

  const Device& device_;
  const RunnerSizes sizes_;
  const int32_t vocabSize_;
  size_t workspaceBytes_ = 0;
  ArenaView on_;                        // the device's copy of the arena's arrays
  int32_t* history_ = nullptr;          // device [maxNumSeqs, maxModelLen]
  int32_t* numPrompt_ = nullptr;        // device [maxNumSeqs]
  std::vector<int32_t> numPromptHost_;  // [maxNumSeqs]
  std::vector<int32_t> sampled_;        // ids of the previous launch, by row
};

}  // namespace octavo
