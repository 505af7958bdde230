// What the attention kernels share: tiles of 64 KV positions in shared memory, scores, the softmax step, the
// merge of segments. Every function computes an element by the same chain of operations whoever calls it:
// scores are chained over the head dim, a row's maximum is exact in any order, probabilities are functions of
// score and maximum, sums of them and of values are chained over positions by the tensor cores. So kernels
// may divide the work as they like.
//
// Rows of shared tiles are padded by 16 bytes: an odd number of 16-byte chunks, so that the 8 rows of a
// matrix load lie in different banks for every head dim.
#pragma once
#include "device.h"
#include "launchers.h"

namespace octavo::cuda {

constexpr int kTilePositions = 64;
constexpr int kPageTokens = 16;
constexpr float kNoScore = -1e30f;  // of what a row doesn't see; finite, so that differences are never NaN

template <int kHeadDim>
struct TileRow {
  static constexpr int kChunks = kHeadDim / 8;
  static constexpr int kBytes = (kChunks + 1) * 16;
};

// The token and head of a packed row of an item.
struct PackedRow {
  int token;  // -1: beyond the item
  int head;
};

DEVICE PackedRow packedRow(const AttentionCall& call, const AttentionItem& item, int row, int kvHead) {
  if (row >= item.numRows) return {-1, 0};
  const int group = call.numHeads / call.numKvHeads, packed = item.firstRow + row;
  return {call.itemTokens[item.firstToken + packed / group], kvHead * group + packed % group};
}

template <int kHeadDim>
DEVICE void loadQueries(const AttentionCall& call, const AttentionItem& item, unsigned char* to, int rows) {
  constexpr int kChunks = TileRow<kHeadDim>::kChunks;
  for (int i = threadX(); i < rows * kChunks; i += blockThreads()) {
    const int r = i / kChunks, chunk = i % kChunks;
    const PackedRow packed = packedRow(call, item, r, blockY());
    const Half* from = packed.token < 0 ? call.q
                                        : call.q + packed.token * call.qStride +
                                              static_cast<int64_t>(packed.head) * kHeadDim + chunk * 8;
    copyAsync16(to + r * TileRow<kHeadDim>::kBytes + chunk * 16, from, packed.token >= 0);
  }
}

// Keys (part 0) or values (1) of positions first..first + 63; zeros outside [kvBegin, kvEnd), whatever the
// pages hold.
template <int kHeadDim>
DEVICE void loadKv(const AttentionCall& call, const AttentionItem& item, int part, int first,
                   unsigned char* to) {
  constexpr int kChunks = TileRow<kHeadDim>::kChunks;
  const int32_t* table = call.blockTables + static_cast<int64_t>(item.sequence) * call.maxBlocksPerSeq;
  for (int i = threadX(); i < kTilePositions * kChunks; i += blockThreads()) {
    const int r = i / kChunks, chunk = i % kChunks, position = first + r;
    const bool valid = position >= item.kvBegin && position < item.kvEnd;
    const Half* from = call.pages;
    if (valid) {
      const int64_t page = static_cast<int64_t>(table[position / kPageTokens]) * 2 + part;
      from +=
          ((page * call.numKvHeads + blockY()) * kPageTokens + position % kPageTokens) * kHeadDim + chunk * 8;
    }
    copyAsync16(to + r * TileRow<kHeadDim>::kBytes + chunk * 16, from, valid);
  }
}

// Scores of 16 rows against 16 kTiles keys: s[j] is keys 8j..8j + 7.
template <int kHeadDim, int kTiles>
DEVICE void scoreKeys(const unsigned char* queries, const unsigned char* keys, float (&s)[2 * kTiles][4]) {
  constexpr int kRow = TileRow<kHeadDim>::kBytes;
  const int lane = laneOf(threadX());
#pragma unroll
  for (int kk = 0; kk < kHeadDim / 16; ++kk) {
    uint32_t a[4], b[4];
    ldmatrix4(a, queries + (lane & 15) * kRow + (kk * 2 + (lane >> 4)) * 16);
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      ldmatrix4(b, keys + (j * 16 + (lane & 7) + (lane >> 4) * 8) * kRow + (kk * 2 + (lane >> 3 & 1)) * 16);
      mma16816<Half>(s[2 * j], a, b[0], b[1]);
      mma16816<Half>(s[2 * j + 1], a, b[2], b[3]);
    }
  }
}

// Score in units of log2 e; kNoScore for what a query at `query` doesn't see.
DEVICE float maskedScore(const AttentionCall& call, float score, int query, int position) {
  if (position > query || (call.slidingWindow > 0 && position <= query - call.slidingWindow)) return kNoScore;
  score *= call.scale;
  if (call.softcap > 0) score = call.softcap * tanhf(score / call.softcap);
  return score * kLog2E;
}

DEVICE float probability(float score, float maximum) {
  return score == kNoScore ? 0.0f : exp2Approx(score - maximum);
}

// Maximum over the four lanes that share a row.
DEVICE float quadMax(float x) {
  x = fmaxf(x, shuffleXor(x, 1));
  return fmaxf(x, shuffleXor(x, 2));
}

// Values of 16 columns: o[0..1] += p [16 x 64] v. pairs: p as A fragments of 16 positions each.
template <int kHeadDim>
DEVICE void addValues(const uint32_t (*pairs)[4], const unsigned char* values, int column, float (*o)[4]) {
  const int lane = laneOf(threadX());
#pragma unroll
  for (int kk = 0; kk < kTilePositions / 16; ++kk) {
    uint32_t b[4];
    ldmatrix4Trans(
        b, values + (kk * 16 + (lane & 15)) * TileRow<kHeadDim>::kBytes + (column / 8 + (lane >> 4)) * 16);
    mma16816<Half>(o[0], pairs[kk], b[0], b[1]);
    mma16816<Half>(o[1], pairs[kk], b[2], b[3]);
  }
}

// Sums of the rounded probabilities, the same that multiply the values: a column of ones.
DEVICE void addProbabilities(const uint32_t (*pairs)[4], float* sums) {
  constexpr uint32_t kOnes = 0x3c003c00u;
#pragma unroll
  for (int kk = 0; kk < kTilePositions / 16; ++kk) mma16816<Half>(sums, pairs[kk], kOnes, kOnes);
}

// Merging (maximum, x) of the next segment into a running one: the weights of both.
struct MergeWeights {
  float maximum, running, next;
};

DEVICE MergeWeights mergeWeights(float running, float next) {
  const float maximum = fmaxf(running, next);
  return {maximum, exp2Approx(running - maximum), exp2Approx(next - maximum)};
}

DEVICE float merged(const MergeWeights& weights, float running, float next) {
  return fmaf(next, weights.next, running * weights.running);
}

// Partials: slot [numHeads][kHeadDim + 2], the accumulator, then maximum and sum.
template <int kHeadDim>
DEVICE float* partialOf(const AttentionCall& call, const AttentionToken& token, int segment, int head) {
  const int64_t slot = token.firstPartial + segment - token.firstSegment;
  return call.partials + (slot * call.numHeads + head) * (kHeadDim + 2);
}

// Whether rows of the token contribute to this segment.
DEVICE bool sees(const AttentionToken& token, int segment) {
  return segment >= token.firstSegment && segment < token.firstSegment + token.numSegments;
}

// Merges the G heads of one token from all its segments and writes them out.
template <int kHeadDim>
DEVICE void mergeToken(const AttentionCall& call, int tokenIndex, int kvHead) {
  const AttentionToken token = call.tokens[tokenIndex];
  const int group = call.numHeads / call.numKvHeads;
  for (int i = threadX(); i < group * kHeadDim; i += blockThreads()) {
    const int head = kvHead * group + i / kHeadDim, column = i % kHeadDim;
    float maximum = kNoScore, sum = 0, value = 0;
    for (int s = 0; s < token.numSegments; ++s) {
      const float* part = partialOf<kHeadDim>(call, token, token.firstSegment + s, head);
      const MergeWeights weights = mergeWeights(maximum, loadThrough(part + kHeadDim));
      maximum = weights.maximum;
      sum = merged(weights, sum, loadThrough(part + kHeadDim + 1));
      value = merged(weights, value, loadThrough(part + column));
    }
    call.out[tokenIndex * call.outStride + static_cast<int64_t>(head) * kHeadDim + column] =
        fromFloat<Half>(value / sum);
  }
}

// After an item has left its partials: counts its rows for each token, and merges the tokens that are
// complete. complete: shared, int32 [numRows].
template <int kHeadDim>
DEVICE void finishTokens(const AttentionCall& call, const AttentionItem& item, int segment,
                         int32_t* complete) {
  const int group = call.numHeads / call.numKvHeads, kvHead = blockY();
  fence();
  syncThreads();  // all partials of this block are written; shared memory is free
  for (int row = threadX(); row < item.numRows; row += blockThreads()) {
    const int packed = item.firstRow + row;
    complete[row] = -1;
    if (row > 0 && packed % group > 0) continue;  // not the first row of its token here
    const int tokenIndex = packedRow(call, item, row, kvHead).token;
    const AttentionToken token = call.tokens[tokenIndex];
    if (token.numSegments == 1 || !sees(token, segment)) continue;
    const int rows = minOf(group - packed % group, item.numRows - row);
    int32_t* counter = call.counters + static_cast<int64_t>(tokenIndex) * call.numKvHeads + kvHead;
    if (atomicAdd(counter, rows) + rows == group * token.numSegments) {
      *counter = 0;
      complete[row] = tokenIndex;
    }
  }
  syncThreads();
  fence();
  for (int row = 0; row < item.numRows; ++row) {
    if (complete[row] >= 0) mergeToken<kHeadDim>(call, complete[row], kvHead);
  }
}

}  // namespace octavo::cuda
