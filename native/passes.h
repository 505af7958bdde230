// The parts of a step that the host computes one after the other.
#pragma once
#include <cstdint>
#include <vector>

#include "spec.h"

namespace octavo {

// Device pointers of one step's inputs (shapes: arena.h).
struct StepInputs {
  int32_t numTokens, numSeqs;
  const int32_t* ids;  // resolved: never negative
  const int32_t *positions, *slotMapping;
  const int32_t *queryStart, *contextLens, *blockTables;
};

// Rows of a pass at most. Linears round as many to 8 bits at once; a prompt of 2,000 tokens takes the same time
// in steps of 256, 512 and 2,048 rows.
constexpr int32_t kPassRows = 512;  // PASS_ROWS

// Cuts steps of more than kPassRows rows, so that activations need the memory of a pass only. A pass goes through
// all layers before the next one begins: rows find the keys and values of those before them in the cache, whether
// a step of their own or a pass has put them there.
//
//   rows      0                   512                  1024       1300
//   sequences [     a     ][        b        ][ c ][        d        ]
//   passes    [   a, b as far as 512 ][  b, c, d  ][ rest of d       ]
class Passes {
 public:
  explicit Passes(const RunnerSizes& sizes);

  // Rows [first, first + count) of a step in host memory. Valid until the next call.
  StepInputs part(const StepInputs& step, int32_t first, int32_t count);

 private:
  const int32_t maxBlocksPerSeq_;
  std::vector<int32_t> queryStart_, contextLens_;
};

}  // namespace octavo
