#include "passes.h"

#include <algorithm>

namespace octavo {

Passes::Passes(const RunnerSizes& sizes)
    : maxBlocksPerSeq_(sizes.maxBlocksPerSeq),
      queryStart_(size_t(sizes.maxNumSeqs) + 1),
      contextLens_(size_t(sizes.maxNumSeqs)) {}

StepInputs Passes::part(const StepInputs& step, int32_t first, int32_t count) {
  const int32_t* starts = step.queryStart;
  const int32_t last = first + count;
  // The sequence that row `first` belongs to.
  const auto begin =
      static_cast<int32_t>(std::upper_bound(starts, starts + step.numSeqs, first) - starts) - 1;
  int32_t numSeqs = 0;
  for (int32_t s = begin; s < step.numSeqs && starts[s] < last; s++, numSeqs++) {
    const int32_t end = std::min(starts[s + 1], last);
    queryStart_[numSeqs] = std::max(starts[s], first) - first;
    contextLens_[numSeqs] = step.contextLens[s] - (starts[s + 1] - end);
  }
  queryStart_[numSeqs] = count;
  return {count,
          numSeqs,
          step.ids + first,
          step.positions + first,
          step.slotMapping + first,
          queryStart_.data(),
          contextLens_.data(),
          step.blockTables + int64_t(begin) * maxBlocksPerSeq_};
}

}  // namespace octavo
