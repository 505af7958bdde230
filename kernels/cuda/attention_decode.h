// Decode and verification: 16 packed rows against one segment, by four warps together. Each scores 16 of a
// tile's 64 positions; maxima and probabilities meet in shared memory; each adds values for a quarter of the
// columns.
#pragma once
#include "attention_tile.h"

namespace octavo::cuda {

template <int kHeadDim>
struct DecodeShared {
  static constexpr int kWarps = 4, kRows = 16;
  static constexpr int kProbabilityRow = kTilePositions * 2 + 16;  // padded like the other tiles
  static constexpr int kQueries = 0;
  static constexpr int kKeys = kQueries + kRows * TileRow<kHeadDim>::kBytes;
  static constexpr int kValues = kKeys + kTilePositions * TileRow<kHeadDim>::kBytes;
  static constexpr int kProbabilities = kValues + kTilePositions * TileRow<kHeadDim>::kBytes;
  static constexpr int kMaxima = kProbabilities + kRows * kProbabilityRow;
  static constexpr int kBytes = kMaxima + kWarps * kRows * 4;
};

// Sums of one segment. A warp owns the 16-column units warp, warp + 4, ...; all warps have the same maxima
// and sums.
template <int kHeadDim>
struct DecodeState {
  static constexpr int kUnits = (kHeadDim / 16 + 3) / 4;
  float o[kUnits][2][4] = {};
  float sums[4] = {};  // [0] row g, [2] row g + 8
  float maxima[2] = {kNoScore, kNoScore};
};

// Scores of this warp's 16 positions, masked; their row maxima to shared memory.
template <int kHeadDim>
DEVICE void decodeScores(const AttentionCall& call, unsigned char* shared, int first,
                         const int (&positions)[2], float (&s)[2][4]) {
  using Shared = DecodeShared<kHeadDim>;
  const int lane = laneOf(threadX()), warp = warpOf(threadX());
  scoreKeys<kHeadDim, 1>(shared + Shared::kQueries,
                         shared + Shared::kKeys + warp * 16 * TileRow<kHeadDim>::kBytes, s);
  auto* maxima = reinterpret_cast<float*>(shared + Shared::kMaxima);  // [4 warps][16]
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float best = kNoScore;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& score = s[i / 2][h * 2 + i % 2];
      score = maskedScore(call, score, positions[h], first + warp * 16 + i / 2 * 8 + (lane & 3) * 2 + i % 2);
      best = fmaxf(best, score);
    }
    best = quadMax(best);
    if ((lane & 3) == 0) maxima[warp * 16 + (lane >> 2) + h * 8] = best;
  }
}

// New maxima, rescaled sums, and this warp's probabilities to shared memory.
template <int kHeadDim>
DEVICE void decodeProbabilities(unsigned char* shared, const float (&s)[2][4], DecodeState<kHeadDim>& state) {
  using Shared = DecodeShared<kHeadDim>;
  const int lane = laneOf(threadX()), warp = warpOf(threadX());
  const auto* maxima = reinterpret_cast<const float*>(shared + Shared::kMaxima);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = (lane >> 2) + h * 8;
    float maximum = state.maxima[h];
#pragma unroll
    for (int w = 0; w < Shared::kWarps; ++w) maximum = fmaxf(maximum, maxima[w * 16 + row]);
    const float rescale = exp2Approx(state.maxima[h] - maximum);
    state.maxima[h] = maximum;
    state.sums[h * 2] *= rescale;
#pragma unroll
    for (int u = 0; u < DecodeState<kHeadDim>::kUnits; ++u) {
#pragma unroll
      for (int i = 0; i < 4; ++i) state.o[u][i / 2][h * 2 + i % 2] *= rescale;
    }
    unsigned char* to =
        shared + Shared::kProbabilities + row * Shared::kProbabilityRow + (warp * 16 + (lane & 3) * 2) * 2;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      *reinterpret_cast<uint32_t*>(to + j * 16) =
          packHalf2(probability(s[j][h * 2], maximum), probability(s[j][h * 2 + 1], maximum));
    }
  }
}

template <int kHeadDim>
DEVICE void decodeValues(const unsigned char* shared, DecodeState<kHeadDim>& state) {
  using Shared = DecodeShared<kHeadDim>;
  const int lane = laneOf(threadX()), warp = warpOf(threadX());
  uint32_t pairs[kTilePositions / 16][4];
#pragma unroll
  for (int kk = 0; kk < kTilePositions / 16; ++kk) {
    ldmatrix4(pairs[kk], shared + Shared::kProbabilities + (lane & 15) * Shared::kProbabilityRow +
                             (kk * 2 + (lane >> 4)) * 16);
  }
  addProbabilities(pairs, state.sums);
#pragma unroll
  for (int u = 0; u < DecodeState<kHeadDim>::kUnits; ++u) {
    const int unit = warp + u * Shared::kWarps;
    if (unit < kHeadDim / 16) addValues<kHeadDim>(pairs, shared + Shared::kValues, unit * 16, state.o[u]);
  }
}

// To the output for tokens with one segment, else to the segment's partial.
template <int kHeadDim>
DEVICE void storeDecode(const AttentionCall& call, const AttentionItem& item, int segment,
                        const DecodeState<kHeadDim>& state) {
  const int lane = laneOf(threadX()), warp = warpOf(threadX());
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const PackedRow packed = packedRow(call, item, (lane >> 2) + h * 8, blockY());
    if (packed.token < 0) continue;
    const AttentionToken token = call.tokens[packed.token];
    if (!sees(token, segment)) continue;
    const bool whole = token.numSegments == 1;
    Half* out = call.out + packed.token * call.outStride + static_cast<int64_t>(packed.head) * kHeadDim;
    float* partial = whole ? nullptr : partialOf<kHeadDim>(call, token, segment, packed.head);
#pragma unroll
    for (int u = 0; u < DecodeState<kHeadDim>::kUnits; ++u) {
      const int unit = warp + u * DecodeShared<kHeadDim>::kWarps;
      if (unit >= kHeadDim / 16) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = unit * 16 + i / 2 * 8 + (lane & 3) * 2 + i % 2;
        const float x = state.o[u][i / 2][h * 2 + i % 2];
        if (whole) {
          out[column] = fromFloat<Half>(x / state.sums[h * 2]);
        } else {
          partial[column] = x;
        }
      }
    }
    if (!whole && warp == 0 && (lane & 3) == 0) {
      partial[kHeadDim] = state.maxima[h];
      partial[kHeadDim + 1] = state.sums[h * 2];
    }
  }
}

template <int kHeadDim>
DEVICE void decodeItem(const AttentionCall& call, const AttentionItem& item, unsigned char* shared) {
  using Shared = DecodeShared<kHeadDim>;
  const int segment = item.kvBegin / kSegment;
  int positions[2];
  for (int h = 0; h < 2; ++h) {
    const int token = packedRow(call, item, (laneOf(threadX()) >> 2) + h * 8, blockY()).token;
    positions[h] = token < 0 ? -1 : call.tokens[token].position;
  }
  int first = item.kvBegin / kTilePositions * kTilePositions;
  loadQueries<kHeadDim>(call, item, shared + Shared::kQueries, Shared::kRows);
  loadKv<kHeadDim>(call, item, 0, first, shared + Shared::kKeys);
  commitCopies();
  loadKv<kHeadDim>(call, item, 1, first, shared + Shared::kValues);
  commitCopies();
  DecodeState<kHeadDim> state;
  for (; first < item.kvEnd; first += kTilePositions) {
    const int next = first + kTilePositions;
    float s[2][4] = {};
    waitCopies<1>();
    syncThreads();  // keys have landed; probabilities of the last tile have been read
    decodeScores<kHeadDim>(call, shared, first, positions, s);
    syncThreads();  // maxima are there; keys have been read
    if (next < item.kvEnd) loadKv<kHeadDim>(call, item, 0, next, shared + Shared::kKeys);
    commitCopies();
    decodeProbabilities<kHeadDim>(shared, s, state);
    waitCopies<1>();
    syncThreads();  // values have landed; probabilities are there
    decodeValues<kHeadDim>(shared, state);
    syncThreads();  // values have been read
    if (next < item.kvEnd) loadKv<kHeadDim>(call, item, 1, next, shared + Shared::kValues);
    commitCopies();
  }
  storeDecode<kHeadDim>(call, item, segment, state);
  finishTokens<kHeadDim>(call, item, segment, reinterpret_cast<int32_t*>(shared));
}

// Grid: items (or blocks that walk them), KV heads.
template <int kHeadDim>
KERNEL LAUNCH_BOUNDS(128, 1) attentionDecodeKernel(AttentionCall call) {
  const int count = call.itemCount ? *call.itemCount : call.numItems;
  for (int i = blockX(); i < count; i += gridX()) {
    if (i >= gridX()) {
      waitCopies<0>();
      syncThreads();  // the last item's shared memory has been read
    }
    decodeItem<kHeadDim>(call, call.items[call.firstItem + i], sharedMemory());
  }
}

}  // namespace octavo::cuda
