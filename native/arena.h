// The arena: one step's inputs and outputs in one block of memory that JavaScript sees as an ArrayBuffer. The
// table below is the twin of ARENA_ARRAYS in src/runner/step-arena.ts: same names, same order, same types.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "check.h"
#include "spec.h"

namespace octavo {

constexpr int32_t kMaxBiasPerRow = 1024;  // MAX_BIAS_PER_ROW of src/core/sampling-params.ts
constexpr size_t kArenaAlignment = 64;    // bytes; a cache line

// Indexes of `timings`, microseconds: Timing in src/runner/step-arena.ts.
enum Timing { kCopyIn, kForward, kHead, kSample, kCopyOut, kTotal, kNumTimings };

// X(name, C++ type, kind in JavaScript, length in elements); T, S, R: maxNumTokens, maxNumSeqs,
// maxNumSamples. In: per token, per sequence, per sampled row. Then out, per sampled row.
#define OCTAVO_ARENA_INPUTS(X)                                              \
  X(inputIds, int32_t, "i32", T)                                            \
  X(positions, int32_t, "i32", T)                                           \
  X(slotMapping, int32_t, "i32", T)                                         \
  X(queryStart, int32_t, "i32", S + 1)                                      \
  X(contextLens, int32_t, "i32", S)                                         \
  X(seqSlot, int32_t, "i32", S)                                             \
  X(numPromptTokens, int32_t, "i32", S)                                     \
  X(blockTables, int32_t, "i32", S* static_cast<size_t>(s.maxBlocksPerSeq)) \
  X(sampleRows, int32_t, "i32", R)                                          \
  X(rowSlot, int32_t, "i32", R)                                             \
  X(rowPosition, int32_t, "i32", R)                                         \
  X(temperature, float, "f32", R)                                           \
  X(topP, float, "f32", R)                                                  \
  X(minP, float, "f32", R)                                                  \
  X(repetition, float, "f32", R)                                            \
  X(presence, float, "f32", R)                                              \
  X(frequency, float, "f32", R)                                             \
  X(topK, int32_t, "i32", R)                                                \
  X(seedLo, int32_t, "i32", R)                                              \
  X(seedHi, int32_t, "i32", R)                                              \
  X(targetId, int32_t, "i32", R)                                            \
  X(numTop, int32_t, "i32", R)                                              \
  X(biasStart, int32_t, "i32", R + 1)                                       \
  X(biasId, int32_t, "i32", R* kMaxBiasPerRow)                              \
  X(biasValue, float, "f32", R* kMaxBiasPerRow)                             \
  X(maskRow, int32_t, "i32", R)                                             \
  X(masks, uint32_t, "u32", R* static_cast<size_t>(maskWords(vocabSize)))

#define OCTAVO_ARENA_OUTPUTS(X)                 \
  X(sampledIds, int32_t, "i32", R)              \
  X(logprob, float, "f32", R)                   \
  X(rank, int32_t, "i32", R)                    \
  X(targetLogprob, float, "f32", R)             \
  X(targetRank, int32_t, "i32", R)              \
  X(topIds, int32_t, "i32", R* kMaxLogprobs)    \
  X(topLogprobs, float, "f32", R* kMaxLogprobs) \
  X(timings, double, "f64", kNumTimings)

#define OCTAVO_ARENA_ARRAYS(X) OCTAVO_ARENA_INPUTS(X) OCTAVO_ARENA_OUTPUTS(X)

// Words of one mask row.
inline int32_t maskWords(int32_t vocabSize) {
  return static_cast<int32_t>((static_cast<int64_t>(vocabSize) + 31) / 32);
}

struct ArenaEntry {
  const char* name;
  const char* kind;  // "i32", "u32", "f32", "f64"
  size_t offset;     // bytes, a multiple of kArenaAlignment
  size_t length;     // elements
};

struct ArenaLayout {
  std::vector<ArenaEntry> entries;
  size_t bytes = 0;
};

// Typed pointers into one block of arena memory; `logits` [maxNumSamples, vocabSize] is null unless kept.
struct ArenaView {
#define OCTAVO_MEMBER(name, type, kind, length) type* name = nullptr;
  OCTAVO_ARENA_ARRAYS(OCTAVO_MEMBER)
#undef OCTAVO_MEMBER
  float* logits = nullptr;
};

inline void appendArray(ArenaLayout& layout, const char* name, const char* kind, size_t elementBytes,
                        size_t length) {
  layout.entries.push_back({name, kind, layout.bytes, length});
  layout.bytes += (length * elementBytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

// The sizes have been validated: no product here overflows.
inline ArenaLayout makeLayout(const RunnerSizes& s, int32_t vocabSize, bool keepLogits) {
  const size_t T = s.maxNumTokens, S = s.maxNumSeqs, R = s.maxNumSamples;
  ArenaLayout layout;
#define OCTAVO_APPEND(name, type, kind, length) appendArray(layout, #name, kind, sizeof(type), length);
  OCTAVO_ARENA_ARRAYS(OCTAVO_APPEND)
#undef OCTAVO_APPEND
  if (keepLogits) appendArray(layout, "logits", "f32", sizeof(float), R * static_cast<size_t>(vocabSize));
  return layout;
}

// The outputs alone, as the device keeps them for each slot.
inline ArenaLayout makeOutputLayout(const RunnerSizes& s) {
  const size_t R = s.maxNumSamples;
  ArenaLayout layout;
#define OCTAVO_APPEND(name, type, kind, length) appendArray(layout, #name, kind, sizeof(type), length);
  OCTAVO_ARENA_OUTPUTS(OCTAVO_APPEND)
#undef OCTAVO_APPEND
  return layout;
}

inline ArenaView viewOutputs(void* memory, const ArenaLayout& layout) {
  ArenaView view;
  size_t next = 0;
  auto at = [&] { return static_cast<char*>(memory) + layout.entries[next++].offset; };
#define OCTAVO_VIEW(name, type, kind, length) view.name = reinterpret_cast<type*>(at());
  OCTAVO_ARENA_OUTPUTS(OCTAVO_VIEW)
#undef OCTAVO_VIEW
  return view;
}

// Views over `memory`, laid out by `layout`.
inline ArenaView viewArena(void* memory, const ArenaLayout& layout) {
  ArenaView view;
  size_t next = 0;
  auto at = [&] { return static_cast<char*>(memory) + layout.entries[next++].offset; };
#define OCTAVO_VIEW(name, type, kind, length) view.name = reinterpret_cast<type*>(at());
  OCTAVO_ARENA_ARRAYS(OCTAVO_VIEW)
#undef OCTAVO_VIEW
  if (next < layout.entries.size()) view.logits = reinterpret_cast<float*>(at());
  return view;
}

}  // namespace octavo
