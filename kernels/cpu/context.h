// The cpu backend's own state: the pool, the instruction set, and scratch for each thread, all taken at open.
#pragma once
#include "../host.h"
#include "int8_rows.h"
#include "isa.h"
#include "thread_pool.h"

namespace octavo::cpu {

// Rows of one sequence that attention computes together.
struct RowTile {
  int32_t sequence, firstRow;  // of the sequence's rows
  int64_t work;                // rows x positions that they see, about
};

struct CpuContext : Context {
  using Context::Context;

  // Zeroed at open, 64-byte aligned, `scratchBytes` for each thread.
  void* scratch(int thread) { return scratchMemory.data() + static_cast<size_t>(thread) * scratchBytes; }

  // For sample alone, whose counts stay zero between rows.
  void* sampleScratch(int thread) { return sampleMemory.data() + static_cast<size_t>(thread) * sampleBytes; }

  size_t sampleBytes = 0;
  Buffer<unsigned char> sampleMemory;
  Buffer<RowTile> rowTiles;  // [maxRows], of attention: no tile is empty
  Int8Rows int8Rows;
  Isa isa = Isa::Generic;
  ThreadPool pool;
  size_t scratchBytes = 0;
  Buffer<unsigned char> scratchMemory;
};

inline CpuContext* self(Context* context) {
  return static_cast<CpuContext*>(context);
}

// Below this much work (multiply-adds, or values touched times a few) an op stays on the calling thread:
// waking others takes a few microseconds.
constexpr int64_t kParallelWork = 50000;

// Calls body(first, last, thread) over row ranges, in parallel if rows * workPerRow is worth it.
template <class Body>
void forRows(CpuContext* context, int64_t rows, int64_t workPerRow, const Body& body) {
  if (rows * workPerRow < kParallelWork) {
    body(0, rows, 0);
    return;
  }
  const int64_t chunk = workPerRow >= kParallelWork / 4 ? 1 : kParallelWork / 4 / (workPerRow + 1) + 1;
  context->pool.run((rows + chunk - 1) / chunk, [&](int64_t item, int thread) {
    const int64_t first = item * chunk;
    body(first, first + chunk < rows ? first + chunk : rows, thread);
  });
}

size_t linearScratchBytes();
size_t linearInt8ScratchBytes();
size_t attentionScratchBytes();
size_t sampleScratchBytes(const OpenOptions& options);

Linear* loadLinear(Context*, const LinearSource*);
size_t linearBytes(const LinearSource*);
int embed(Context*, const EmbedArgs*);
int rmsNorm(Context*, const RmsNormArgs*);
int linear(Context*, const LinearArgs*);
int ropeStoreKv(Context*, const RopeStoreKvArgs*);
int attention(Context*, const AttentionArgs*);
int siluMul(Context*, const SiluMulArgs*);
int add(Context*, const AddArgs*);
int gatherRows(Context*, const GatherRowsArgs*);
int softcap(Context*, const SoftcapArgs*);
int sample(Context*, const SampleArgs*);

}  // namespace octavo::cpu
