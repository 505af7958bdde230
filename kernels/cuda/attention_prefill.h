// Prefill chunks, and shared prefixes with many rows: a warp has 16 packed rows to itself (with head dim 256
// two warps share 16 rows and divide the value columns, scoring twice). An item walks all its segments, or is
// one of them.
#pragma once
#include "attention_tile.h"

namespace octavo::cuda {

template <int kHeadDim, int kRows>
struct PrefillShape {
  static constexpr int kColumnSplit = kHeadDim > 128 ? 2 : 1;
  static constexpr int kWarps = kRows / 16 * kColumnSplit;
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kUnits = kHeadDim / 16 / kColumnSplit;  // of 16 columns, of a warp
  static constexpr int kQueries = 0;
  static constexpr int kKeys = kRows * TileRow<kHeadDim>::kBytes;
  static constexpr int kValues = kKeys + kTilePositions * TileRow<kHeadDim>::kBytes;
  static constexpr int kBytes = kValues + kTilePositions * TileRow<kHeadDim>::kBytes;
};

// Sums of a segment, or of all so far.
template <int kUnits>
struct PrefillState {
  float o[kUnits][2][4] = {};
  float sums[4] = {};  // [0] row g, [2] row g + 8
  float maxima[2] = {kNoScore, kNoScore};
};

// Masks and exponentiates the scores of a tile, rescales the sums. pairs: probabilities as A fragments.
template <int kUnits>
DEVICE void softmaxStep(const AttentionCall& call, float (&s)[kTilePositions / 8][4],
                        const int (&positions)[2], int first, PrefillState<kUnits>& state,
                        uint32_t (&pairs)[kTilePositions / 16][4]) {
  const int lane = laneOf(threadX());
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float best = kNoScore;
#pragma unroll
    for (int j = 0; j < kTilePositions / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& score = s[j][h * 2 + e];
        score = maskedScore(call, score, positions[h], first + j * 8 + (lane & 3) * 2 + e);
        best = fmaxf(best, score);
      }
    }
    const float maximum = fmaxf(state.maxima[h], quadMax(best));
    const float rescale = exp2Approx(state.maxima[h] - maximum);
    state.maxima[h] = maximum;
    state.sums[h * 2] *= rescale;
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
#pragma unroll
      for (int i = 0; i < 4; ++i) state.o[u][i / 2][h * 2 + i % 2] *= rescale;
    }
#pragma unroll
    for (int j = 0; j < kTilePositions / 8; ++j) {  // the layout of C is that of A's halves
      pairs[j / 2][j % 2 * 2 + h] =
          packHalf2(probability(s[j][h * 2], maximum), probability(s[j][h * 2 + 1], maximum));
    }
  }
}

// Merges a finished segment into the running sums and clears it.
template <int kUnits>
DEVICE void mergeSegment(PrefillState<kUnits>& totals, PrefillState<kUnits>& state) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const MergeWeights weights = mergeWeights(totals.maxima[h], state.maxima[h]);
    totals.maxima[h] = weights.maximum;
    totals.sums[h * 2] = merged(weights, totals.sums[h * 2], state.sums[h * 2]);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& total = totals.o[u][i / 2][h * 2 + i % 2];
        total = merged(weights, total, state.o[u][i / 2][h * 2 + i % 2]);
      }
    }
  }
  state = PrefillState<kUnits>();
}

// To the output for rows that this item has seen whole, else to the segment's partial.
template <int kHeadDim, int kRows>
DEVICE void storePrefill(const AttentionCall& call, const AttentionItem& item, int segment,
                         const PrefillState<PrefillShape<kHeadDim, kRows>::kUnits>& totals) {
  using Shape = PrefillShape<kHeadDim, kRows>;
  const int lane = laneOf(threadX()), warp = warpOf(threadX());
  const int firstColumn = warp % Shape::kColumnSplit * Shape::kUnits * 16;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const PackedRow packed =
        packedRow(call, item, warp / Shape::kColumnSplit * 16 + (lane >> 2) + h * 8, blockY());
    if (packed.token < 0) continue;
    const AttentionToken token = call.tokens[packed.token];
    const bool whole = item.walksAll || token.numSegments == 1;
    if (!item.walksAll && !sees(token, segment)) continue;
    Half* out = call.out + packed.token * call.outStride + static_cast<int64_t>(packed.head) * kHeadDim;
    float* partial = whole ? nullptr : partialOf<kHeadDim>(call, token, segment, packed.head);
#pragma unroll
    for (int u = 0; u < Shape::kUnits; ++u) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = firstColumn + u * 16 + j * 8 + (lane & 3) * 2;
        const float a = totals.o[u][j][h * 2], b = totals.o[u][j][h * 2 + 1];
        if (whole) {
          *reinterpret_cast<uint32_t*>(out + column) =
              packHalf2(a / totals.sums[h * 2], b / totals.sums[h * 2]);
        } else {
          partial[column] = a;
          partial[column + 1] = b;
        }
      }
    }
    if (!whole && firstColumn == 0 && (lane & 3) == 0) {
      partial[kHeadDim] = totals.maxima[h];
      partial[kHeadDim + 1] = totals.sums[h * 2];
    }
  }
}

// Grid: items, KV heads.
template <int kHeadDim, int kRows>
KERNEL LAUNCH_BOUNDS((PrefillShape<kHeadDim, kRows>::kThreads), 1)
    attentionPrefillKernel(AttentionCall call) {
  using Shape = PrefillShape<kHeadDim, kRows>;
  unsigned char* shared = sharedMemory();
  const AttentionItem item = call.items[call.firstItem + blockX()];
  const int lane = laneOf(threadX()), rowTile = warpOf(threadX()) / Shape::kColumnSplit;
  const int firstColumn = warpOf(threadX()) % Shape::kColumnSplit * Shape::kUnits * 16;
  int positions[2];
  for (int h = 0; h < 2; ++h) {
    const int token = packedRow(call, item, rowTile * 16 + (lane >> 2) + h * 8, blockY()).token;
    positions[h] = token < 0 ? -1 : call.tokens[token].position;
  }
  int first = item.kvBegin / kTilePositions * kTilePositions;
  loadQueries<kHeadDim>(call, item, shared + Shape::kQueries, kRows);
  loadKv<kHeadDim>(call, item, 0, first, shared + Shape::kKeys);
  commitCopies();
  loadKv<kHeadDim>(call, item, 1, first, shared + Shape::kValues);
  commitCopies();
  PrefillState<Shape::kUnits> state, totals;
  for (; first < item.kvEnd; first += kTilePositions) {
    const int next = first + kTilePositions;
    float s[kTilePositions / 8][4] = {};
    uint32_t pairs[kTilePositions / 16][4];
    waitCopies<1>();
    syncThreads();  // keys have landed
    scoreKeys<kHeadDim, kTilePositions / 16>(
        shared + Shape::kQueries + rowTile * 16 * TileRow<kHeadDim>::kBytes, shared + Shape::kKeys, s);
    syncThreads();  // keys have been read
    if (next < item.kvEnd) loadKv<kHeadDim>(call, item, 0, next, shared + Shape::kKeys);
    commitCopies();
    softmaxStep(call, s, positions, first, state, pairs);
    waitCopies<1>();
    syncThreads();  // values have landed
    addProbabilities(pairs, state.sums);
#pragma unroll
    for (int u = 0; u < Shape::kUnits; ++u)
      addValues<kHeadDim>(pairs, shared + Shape::kValues, firstColumn + u * 16, state.o[u]);
    syncThreads();  // values have been read
    if (next < item.kvEnd) loadKv<kHeadDim>(call, item, 1, next, shared + Shape::kValues);
    commitCopies();
    if (next % kSegment == 0 || next >= item.kvEnd) mergeSegment(totals, state);
  }
  const int segment = item.kvBegin / kSegment;
  storePrefill<kHeadDim, kRows>(call, item, segment, totals);
  if (!item.walksAll) finishTokens<kHeadDim>(call, item, segment, reinterpret_cast<int32_t*>(shared));
}

}  // namespace octavo::cuda
