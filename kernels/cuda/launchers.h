// What the CUDA backend calls: raw pointers to device memory, sizes, a stream. A launcher returns 0, the
// device's error code, or kInvalidShape; it doesn't wait. T is the activation type, Half or Bf16. Strides are
// in elements; widths and strides are multiples of 8 and rows 16-byte aligned (the loader pads), unless said
// otherwise.
#pragma once
#include <cstddef>
#include <cstdint>

#include "attention_plan.h"
#include "int4_tiles.h"
#include "linear_plan.h"
#include "sample.h"
#include "types.h"

namespace octavo::cuda {

constexpr int kInvalidShape = -1;

// Puts the pieces of a block in device memory in place (ops.h, stage).
constexpr int kMostPieces = 64;  // of one launch: they travel as its arguments, 40 bytes each
int placePieces(const void* block, const StagePiece* pieces, int count, Stream stream);

// Tokens, histories and the rows that fill up a graph (ops.h). A previous step's id outside of the vocabulary
// becomes 0, so that it can do no harm before the host has seen it.
int resolve(const ResolveArgs& args, Stream stream);

// out[r][h][i] = in[r][h][i], 0 for i >= fromDim; i < toDim.
int copyHeads(const Half* in, int64_t inStride, int fromDim, Half* out, int64_t outStride, int toDim,
              int rows, int heads, Stream stream);

// out[r] = table[ids[r]] * scale.  table [vocab, width]
template <class T>
int embed(const int32_t* ids, const T* table, T* out, int64_t outStride, int rows, int width, float scale,
          Stream stream);

// out = in / rms(in) * weight; with a residual: residual += in first, and residual is normed. out may be in.
template <class T>
int rmsNorm(const T* in, int64_t inStride, T* residual, int64_t residualStride, const T* weight, T* out,
            int64_t outStride, int rows, int width, float eps, Stream stream);

// out = silu(in[:, :width]) * in[:, width:].  in [rows, 2 width]
template <class T>
int siluMul(const T* in, int64_t inStride, T* out, int64_t outStride, int rows, int width, Stream stream);

// The same of gate and up columns interleaved in blocks of 8 (LinearEpilogue::SiluMul).
int siluMulBlocks(const Half* in, int64_t inStride, Half* out, int64_t outStride, int rows, int width,
                  Stream stream);

template <class T>
int add(const T* a, int64_t aStride, const T* b, int64_t bStride, T* out, int64_t outStride, int rows,
        int width, Stream stream);

// out[r] = in[index[r]]
template <class T>
int gatherRows(const T* in, int64_t inStride, const int32_t* index, T* out, int64_t outStride, int rows,
               int width, Stream stream);

// x = cap * tanh(x / cap), in place, of fp32 logits. Any width.
int softcap(float* x, int64_t stride, int rows, int width, float cap, Stream stream);

// For each pair: page to[i] of every layer becomes a copy of page from[i]. pages
// [layers][numPages][pageBytes], pageBytes a multiple of 16. No page may be both read and written.
int copyPages(void* pages, int layers, int64_t numPages, int64_t pageBytes, const int32_t* from,
              const int32_t* to, int count, Stream stream);

// Q heads (in place), k and v (into the cache) of qkv [rows, (numHeads + 2 numKvHeads) * headDim]: RMS norm
// per head where a weight is given, then rotary embedding. Any even rotaryDim <= headDim <= 256.
template <class T>
struct RopeStoreKv {
  T* qkv;
  int64_t stride;
  int rows;
  const int32_t* positions;    // [rows]
  const int32_t* slotMapping;  // [rows] page * 16 + offset; negative: nothing is stored
  const float* cosSin;         // [maxContext][rotaryDim]: cosines, then sines; null: no rope
  int rotaryDim;
  bool interleaved;  // pairs (2i, 2i + 1) instead of (i, i + rotaryDim / 2)
  int numHeads, numKvHeads, headDim;
  const T* qNorm;  // [headDim] or null
  const T* kNorm;  // [headDim] or null
  float normEps;
  Half* pages;      // [numPages][2][numKvHeads][16][pageHeadDim]
  int pageHeadDim;  // at least headDim; what is beyond it is not written
};
template <class T>
int ropeStoreKv(const RopeStoreKv<T>& args, Stream stream);

enum class LinearEpilogue : int32_t {
  None = 0,
  Residual = 1,  // out += y
  SiluMul = 2,   // out [rows, N/2]: gate and up columns interleaved in blocks of 8 (16b + i, 16b + 8 + i)
};

// Scratch of the linear kernels. Partial sums of the segments of K, and a counter per output tile that each
// call leaves at zero.
struct LinearWorkspace {
  float* partials;    // [linearPartials(rows, N, K)]
  int32_t* counters;  // [linearCounters(N)], zero before the first call
};
// The most that any tile takes; n, k: padded.
int64_t linearPartials(int rows, int n, int k);
int linearCounters(int n);
// The number of segments that K is cut in: a function of the weight's shape alone.
int linearSegments(int n, int k);

// y = in weight^T + bias.  in [rows, inWidth], out [rows, outWidth], Out = T or float (logits; epilogue
// None).
template <class T, class Out>
struct LinearCall {
  const T* in;
  int64_t inStride;
  Out* out;
  int64_t outStride;
  int rows;
  int inWidth;    // K before padding: a multiple of 8
  int outWidth;   // columns of out, N before padding; any number
  const T* bias;  // [N] in the weight's order of columns, or null
  LinearEpilogue epilogue;
  LinearWorkspace workspace;
};

// Weight in Int4Tiles form, device pointers.
struct Int4Weight {
  const Words4* codes;
  const Half* scales;
  const uint8_t* zeros;
  int n, k, groupSize;  // padded
};
template <class Out>
int linearInt4(const LinearCall<Half, Out>& call, const Int4Weight& weight, Stream stream,
               const LinearTile& tile = {});

// weight [n, k] row-major, k a multiple of 8.
template <class T, class Out>
int linearDense(const LinearCall<T, Out>& call, const T* weight, int n, int k, Stream stream,
                const LinearTile& tile = {});

// Rows [firstColumn, firstColumn + columns) of the weight as fp16, out [columns, k]; multiples of 64.
int dequantizeInt4(const Int4Weight& weight, int firstColumn, int columns, Half* out, Stream stream);

// Paged attention by a plan (attention_plan.h) whose arrays have been copied to the device.
struct AttentionCall {
  const Half* q;
  int64_t qStride;  // q [tokens, numHeads * headDim]
  Half* out;
  int64_t outStride;
  const Half* pages;           // [numPages][2][numKvHeads][16][headDim]
  const int32_t* blockTables;  // [numSeqs, maxBlocksPerSeq]
  int maxBlocksPerSeq;
  int numHeads, numKvHeads, headDim;
  float scale;
  int slidingWindow;  // 0: none
  float softcap;      // 0: none
  const AttentionItem* items;
  int firstItem, numItems, tileRows;  // one run of items of one tile size
  const int32_t* itemTokens;
  const AttentionToken* tokens;
  float* partials;    // [plan.numPartials][numHeads][headDim + 2]
  int32_t* counters;  // [tokens][numKvHeads], zero before the first call, and again after the last run
  // Null; or on the device, the number of items (tileRows 16), and numItems is the number of blocks that walk
  // them: a launch that serves any number of items.
  const int32_t* itemCount;
};
int attention(const AttentionCall& call, Stream stream);

}  // namespace octavo::cuda
