// Guards at the door of a launch: everything that kernels take on trust is checked here, on the caller's
// thread, before anything is touched. Each error names the array, the index, what was expected and what came.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "arena.h"

namespace octavo {

// What one launch was asked to compute.
struct BatchCounts {
  int32_t numTokens = 0;
  int32_t numSeqs = 0;
  int32_t numSamples = 0;
};

class BatchChecker {
 public:
  BatchChecker(const RunnerSizes& sizes, int32_t vocabSize);

  // Token, sequence and row arrays. `previousSamples`: sampled rows of the previous launch, which negative
  // ids name; 0 where there is none. Throws ERR_OCTAVO_ARGUMENT. O(tokens + blocks in the tables).
  void checkBatch(const ArenaView& arena, const BatchCounts& counts, int32_t previousSamples);

  // Sampling parameters, biases and mask rows of `numSamples` rows.
  void checkSampling(const ArenaView& arena, int32_t numSamples) const;

  // Tokens of one sequence's history.
  void checkHistory(int32_t seqSlot, const int32_t* tokens, size_t length) const;

 private:
  void checkCounts(const BatchCounts& counts) const;
  void checkSequence(const ArenaView& arena, int32_t seq, int32_t numTokens);
  void checkTokens(const ArenaView& arena, int32_t seq, int32_t previousSamples);
  void checkSampleRows(const ArenaView& arena, const BatchCounts& counts) const;
  void nextStamp();

  const RunnerSizes sizes_;
  const int32_t vocabSize_;
  // Stamps say "seen in this check" without clearing between launches.
  uint32_t stamp_ = 0;
  struct Free {
    void operator()(uint32_t* memory) const { std::free(memory); }
  };
  std::unique_ptr<uint32_t[], Free>
      kvSlotStamp_;  // [numBlocks * kBlockSize]: written by this batch; zero pages at first
  std::vector<uint32_t> seqSlotStamp_;  // [maxNumSeqs]: used by this batch
};

}  // namespace octavo
