// The kernels' scratch memory, sized once from the model's shapes and the step's limits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../ops.h"
#include "attention_plan.h"
#include "types.h"

namespace octavo::cuda {

// The most that one attention shape's plan holds.
struct PlanCapacity {
  int64_t partials = 0;  // slots of [numHeads][headDim + 2] floats
  int items = 0, tokens = 0;
  size_t partialBytes = 0;
};

// Where a plan's arrays lie, in the live copy as in the staged block.
struct PlanArrays {
  int32_t* count = nullptr;  // items of 16 rows
  AttentionItem* items = nullptr;
  int32_t* itemTokens = nullptr;
  AttentionToken* tokens = nullptr;
};

// Bytes of each area.
struct ScratchPlan {
  size_t linearPartials = 0, linearCounters = 0;
  size_t attentionPartials = 0, attentionCounters = 0;
  size_t sample = 0;
  size_t plans = 0;    // of all attention shapes
  size_t queries = 0;  // heads padded to a size that has kernels, and as many for the results; 0: none
  // The matmul library's: fp16 weights of a slice, gate and up columns of one, its own.
  size_t librarySlice = 0, libraryPairs = 0, libraryWorkspace = 0;
  std::vector<PlanCapacity> attentions;  // one per shape

  // On the device: a live copy of the plans and one for each slot.
  size_t total() const {
    return linearPartials + linearCounters + attentionPartials + attentionCounters + sample +
           (1 + kStepSlots) * plans + 2 * queries + librarySlice + libraryPairs + libraryWorkspace;
  }
};

struct LibraryScratch {
  Half* slice = nullptr;
  Half* pairs = nullptr;
  void* workspace = nullptr;
};

struct Scratch {
  float* linearPartials = nullptr;
  int32_t* linearCounters = nullptr;
  float* attentionPartials = nullptr;
  int32_t* attentionCounters = nullptr;
  void* sample = nullptr;
  char* plans = nullptr;
  Half* queries = nullptr;
  Half* attended = nullptr;
  LibraryScratch library;
};

// Sizes for these shapes. Shapes without kernels count as nothing: loading refuses them by name.
ScratchPlan planScratch(const OpenOptions& options);

// The arrays of each shape in a block of ScratchPlan::plans bytes.
std::vector<PlanArrays> cutPlans(const ScratchPlan& plan, char* block);

}  // namespace octavo::cuda
