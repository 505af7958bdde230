// A batch for the sampler's tests: rows with every parameter, run by the CUDA kernels and by the reference
// backend.
#pragma once
#include <utility>

#include "../../kernels/cuda/sample.h"
#include "harness.h"

namespace octavo::test {

constexpr int kSampleContext = 96, kSampleSlots = 4;
constexpr int32_t kUntouched = -77;  // what results hold before a call

struct SampleRowCase {
  std::vector<float> logits;  // [vocab]
  float temperature = 1, topP = 1, minP = 0, repetition = 1, presence = 0, frequency = 0;
  int32_t topK = 0, seedLo = 1, seedHi = 2, targetId = -1, numTop = -1, slot = 0, position = 20;
  std::vector<std::pair<int32_t, float>> bias;
  std::vector<uint32_t> mask;  // empty: none
};

struct SampleResult {
  std::vector<int32_t> ids, rank, targetRank, topIds;
  std::vector<float> logprob, targetLogprob, topLogprobs;
};

struct SampleBatch {
  explicit SampleBatch(int size) : vocab(size), history(kSampleSlots * kSampleContext, 0) {}

  int vocab;
  int padding = 3;  // elements between rows; the kernels take 16-byte loads only where rows are aligned
  std::vector<SampleRowCase> rows;
  std::vector<int32_t> history;  // [kSampleSlots, kSampleContext]
  std::vector<int32_t> numPrompt = {10, 21, 30, 0};
};

// Runs the batch `calls` times over one workspace, which each must leave ready for the next; fails if two
// results differ.
SampleResult sampleOnDevice(const SampleBatch& batch, int calls = 2);
// The batch as a replay of a captured call of all its rows computes it when only the first `present` are
// there: every array of the result begins with `offset` entries that the call must not touch.
SampleResult sampleReplayed(const SampleBatch& batch, int present, int offset);
SampleResult sampleByReference(const SampleBatch& batch);

// Chosen ids, ranks and top ids must be equal, log-probabilities within 2e-5.
void checkEqual(const SampleResult& got, const SampleResult& want, const char* what);
bool sameResult(const SampleResult& a, const SampleResult& b);

std::vector<float> normalLogits(int vocab, float scale);

// One row of the result.
SampleResult rowOf(const SampleResult& result, size_t row);

}  // namespace octavo::test
