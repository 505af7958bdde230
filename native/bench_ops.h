// Times one op of a backend at given shapes: what `octavo bench kernels` is made of.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../kernels/ops.h"
#include "backend.h"

namespace octavo {

// Twin of OpBenchSpec in src/runner/addon.ts. Fields that an op has no use for are ignored.
struct OpBenchSpec {
  std::string device;
  int32_t threads = 0;        // 0: one per physical core
  std::string op;             // as the op union of its twin
  std::vector<int32_t> rows;  // token rows of one call; each number is timed in turn
  double seconds = 0.2;       // for each number of rows
  int64_t workingSet = 0;  // bytes of weights or KV pages to walk through, so that caches hold none of them

  std::string scheme;  // linear: int4 (AWQ), f16, bf16, f32
  int32_t k = 0, n = 0, groupSize = 0;
  Epilogue epilogue = Epilogue::None;
  int32_t width = 0;                                  // embed, rms_norm, silu_mul, add, gather_rows
  int32_t numHeads = 0, numKvHeads = 0, headDim = 0;  // attention, rope_store_kv
  int32_t contextLen = 0;  // attention: positions of each sequence, the new included
  int32_t queryLen = 1;    // attention: new tokens of each sequence
  bool int8Activations = false;  // linear: cpuActivations "int8"
  DType kvDType = DType::F32;
  int32_t vocabSize = 0;  // embed, softcap, sample
  bool topKTopP = false;  // sample: temperature 1, top-k 50, top-p 0.9 instead of greedy
};

struct OpBenchRow {
  int32_t rows = 0;
  int64_t calls = 0;
  double medianSeconds = 0, bestSeconds = 0;
  double bytes = 0;  // that one call has to read and write, each once
  double flop = 0;   // multiplications and additions of one call; 0 where they are not what counts
};

struct OpBenchResult {
  std::vector<OpBenchRow> rows;
  int32_t copies = 0;  // of the weights or KV pages that calls take turns with
  int32_t threads = 0;
  // Root mean square of the difference from the reference backend over that of the reference's values, at the
  // same widths with few rows; sample: the share of rows with another token.
  double error = 0;
};

// Validates, makes the data, and times. Throws ERR_OCTAVO_ARGUMENT, ERR_OCTAVO_MEMORY or ERR_OCTAVO_DEVICE.
OpBenchResult benchOp(const OpBenchSpec& spec);

}  // namespace octavo
