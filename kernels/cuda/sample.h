// Choosing a token per row on the device: the semantics of SampleArgs in ops.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../ops.h"
#include "types.h"

namespace octavo::cuda {

// What the rows of a call ask for. A set flag costs a launch that rows without the wish leave at once; a flag
// that is not set, though a row needs it, is a mistake of the caller. A row's own result depends on none of
// them.
struct SampleStages {
  bool adjust;    // some row has a mask, a bias or a penalty
  bool draw;      // some row has a temperature above 0
  bool topK;      // some such row has 0 < topK < vocab
  bool topP;      // some such row has topP < 1
  bool logprobs;  // some row wants log-probabilities or has a target
};

// What a captured call is made of: greedy rows and plain draws. Each further stage would cost every step that
// doesn't need it a launch (the adjusted slices 33 KB of shared memory a block), and the steps that do need
// it have their sampling launched behind the graph.
constexpr SampleStages kReplayedStages = {false, true, false, false, false};

// Whether a captured call computes what these stages ask for.
inline bool fitsReplay(const SampleStages& stages) {
  return !stages.adjust && !stages.topK && !stages.topP && !stages.logprobs;
}

// The stages of a call, from its per-row parameters in host memory (temperature, topK, ... maskRow).
SampleStages sampleStages(const SampleArgs& host);

struct SampleCall {
  SampleArgs args;  // every pointer on the device
  SampleStages stages;
  void* workspace;  // sampleWorkspaceBytes(maxRows, args.vocab), zero before the first call, 16-byte aligned
  int maxRows;      // at least args.rows; the same for every call with this workspace
};

constexpr int kMostSampleVocab = 1 << 20;  // the fixed-point masses of a row fit 64 bits
constexpr int kMostSampleRows = 65535;     // a grid's y

size_t sampleWorkspaceBytes(int maxRows, int vocab);

// Returns 0, the device's error code, or kInvalidShape; doesn't wait.
int sample(const SampleCall& call, Stream stream);

}  // namespace octavo::cuda
