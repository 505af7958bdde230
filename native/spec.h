// What a runner is made from: the C++ twin of RunnerSpec in src/runner/addon.ts.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../kernels/ops.h"
#include "program.h"

namespace octavo {

// Twin of RunnerSizes.
struct RunnerSizes {
  int32_t maxNumTokens = 0;     // token budget of one step
  int32_t maxNumSeqs = 0;       // sequences of one step, and sequence slots
  int32_t maxNumSamples = 0;    // sampled rows of one step
  int32_t maxModelLen = 0;      // longest sequence
  int32_t maxBlocksPerSeq = 0;  // ceil(maxModelLen / kBlockSize)
  int32_t numBlocks = 0;        // KV blocks of the pool
  int32_t logitsRows = 0;       // sample rows whose logits are computed at once
};

// The tile, by name, of calls of up to `mostRows` rows to the linears of one shape (shapes.h, linearName).
struct TileSpec {
  std::string shape;
  int32_t mostRows = 0;
  std::string tile;
};

struct RunnerSpec {
  std::string device;
  int32_t threads = 0;  // 0: one per physical core
  Program program;
  std::vector<std::string> files;
  RunnerSizes sizes;
  DType kvCacheDtype = DType::F32;
  bool int8Activations = false;  // cpuActivations "int8"
  bool keepLogits = false;
  uint32_t dummySeed = 0;
  // Rows of the graphs to be captured for decoding, ascending; backends without graphs take no notice.
  std::vector<int32_t> graphRows;
  std::vector<TileSpec> tiles;  // by ascending rows of each shape; the backend chooses what is left open
  bool useMatmulLibrary = false;
};

// Ranges of the sizes, and that they agree with each other.
void validateSizes(const RunnerSizes& sizes);

}  // namespace octavo
