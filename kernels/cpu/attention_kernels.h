// The kernels of attention.cc, compiled once per instruction set. T is what a page holds: float, uint16_t
// (f16) or int8_t.

namespace octavo::cpu::OCTAVO_ISA {
namespace {

constexpr int kBlockVectors = kBlockSize / kLanes;                  // one number of a block's positions
constexpr int kScoreRows = kLanes == 16 ? 8 : kLanes == 8 ? 4 : 2;  // queries whose scores are in registers
constexpr int kScoreBlocks = kLanes == 16 ? 2 : 1;                  // ... of as many blocks
constexpr int kValueRows = kLanes == 4 ? 2 : 4;                     // queries whose values are in registers
constexpr int kValueVectors = kLanes == 16 ? 4 : kLanes == 8 ? 2 : 2;  // ... of as many vectors of a head
constexpr int kValuePositions = 64;  // whose values stay in the first cache for all queries of a tile

inline V loadKv(const float* p) {
  return load(p);
}
inline V loadKv(const uint16_t* p) {
  return loadHalf(p);
}
inline V loadKv(const int8_t* p) {
  return loadSigned(p);
}

// `count` < kLanes of them, then zeros; reads no further.
template <class T>
inline V loadKvPart(const T* p, int32_t count) {
  T part[kLanes] = {};
  std::memcpy(part, p, static_cast<size_t>(count) * sizeof(T));
  return loadKv(part);
}

// A head's part of a block is too short for the processor to see a stream in it: whoever reads it once asks,
// line by line while it computes, for the part that is read kAhead parts later. All at once they would fill
// the processor's queue of misses, and it would wait instead of computing.
template <class T>
constexpr int32_t kAhead = 8 / static_cast<int32_t>(sizeof(T));

// `offset`, elements from the start of a part, is asked for if it begins a line.
template <class T>
inline void prefetchLine(const T* part, int64_t offset) {
  if (offset * sizeof(T) % 64 == 0) __builtin_prefetch(part + offset);
}

// q [headDim][kMaxQueries] of the tile, times the scale of the scores.
void packQueries(const Tile& tile, float* q) {
  const int32_t headDim = tile.args->headDim;
  for (int32_t r = 0; r < tile.count; ++r) {
    for (int32_t d = 0; d < headDim; ++d) q[d * kMaxQueries + r] = tile.queries[r].q[d] * tile.args->scale;
  }
}

// Scores of kRows queries for kBlocks adjacent blocks of keys [headDim][16], to scores + r *
// kAttentionSegment. kAsks: and asks for the parts `ahead` [kBlocks].
template <class T, int kRows, int kBlocks, bool kAsks>
void scoreRows(const AttentionArgs& args, const T* const* blocks, const T* const* ahead, const float* q,
               float* scores) {
  constexpr int kVectors = kBlocks * kBlockVectors;
  V sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = zero();
  }
  const T* keys[kBlocks];
  for (int b = 0; b < kBlocks; ++b) keys[b] = blocks[b];
  for (int32_t d = 0; d < args.headDim; ++d) {
    if (kAsks) {
#pragma GCC unroll 2
      for (int b = 0; b < kBlocks; ++b) prefetchLine(ahead[b], d * kBlockSize);
    }
    V key[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      key[v] = loadKv(keys[v / kBlockVectors] + d * kBlockSize + v % kBlockVectors * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V value = set1(q[d * kMaxQueries + r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(value, key[v], sum[r][v]);
    }
  }
  const V cap = set1(args.softcap);
  for (int v = 0; v < kVectors; ++v) {
    V scale = set1(1);
    if (sizeof(T) == 1) {
      const auto* scales =
          reinterpret_cast<const float*>(keys[v / kBlockVectors] + args.headDim * kBlockSize);
      scale = load(scales + v % kBlockVectors * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      V score = sum[r][v];
      if (sizeof(T) == 1) score = mul(score, scale);
      if (args.softcap > 0) score = mul(cap, hyperbolicTangent(div(score, cap)));
      store(scores + r * kAttentionSegment + v * kLanes, score);
    }
  }
}

// All queries of the tile, most at a time; the first ones ask for what is `ahead`.
template <class T, int kRows, int kBlocks, bool kAsks>
void scoreQueries(const AttentionArgs& args, int32_t count, const T* const* blocks, const T* const* ahead,
                  const float* q, float* scores) {
  if (kAsks && count >= kRows) {
    scoreRows<T, kRows, kBlocks, true>(args, blocks, ahead, q, scores);
    return scoreQueries<T, kRows, kBlocks, false>(args, count - kRows, blocks, ahead, q + kRows,
                                                  scores + kRows * kAttentionSegment);
  }
  for (; count >= kRows; count -= kRows, q += kRows, scores += kRows * kAttentionSegment)
    scoreRows<T, kRows, kBlocks, false>(args, blocks, ahead, q, scores);
  if constexpr (kRows > 1) scoreQueries<T, kRows / 2, kBlocks, kAsks>(args, count, blocks, ahead, q, scores);
}

// -inf where a query must not look: positions [from, to) hold scores.
void maskScores(const Tile& tile, int32_t segment, int32_t from, int32_t to, float* scores) {
  for (int32_t r = 0; r < tile.count; ++r, scores += kAttentionSegment) {
    const Query& query = tile.queries[r];
    const int32_t first = query.first < to ? query.first : to,
                  last = query.last + 1 > from ? query.last + 1 : from;
    for (int32_t p = from; p < first; ++p) scores[p - segment] = -INFINITY;
    for (int32_t p = last; p < to; ++p) scores[p - segment] = -INFINITY;
  }
}

// Turns scores [from, to) of one query into exp(score - highest); sets the segment's highest score and sum.
// from and to are multiples of 16. Nothing visible: the highest is -inf, the sum 0.
void softmaxSegment(float* scores, int32_t from, int32_t to, float* highest, float* total) {
  V top = set1(-INFINITY);
  for (int32_t i = from; i < to; i += kLanes) top = max(top, load(scores + i));
  *highest = maxLanes(top);
  *total = 0;
  if (*highest == -INFINITY) return;
  const V shift = set1(*highest);
  V sum = zero();
  for (int32_t i = from; i < to; i += kLanes) {
    const V weight = exponential(sub(load(scores + i), shift));
    store(scores + i, weight);
    sum = add(sum, weight);
  }
  *total = sumLanes(sum);
}

// What values are multiplied by, where pages hold bytes: weight times the value's scale.
void scaleWeights(const Tile& tile, int32_t segment, int32_t from, int32_t to, float* weights) {
  for (int32_t p = from; p < to; p += kBlockSize) {
    const auto* scales = reinterpret_cast<const float*>(blockOf<int8_t>(tile, p / kBlockSize, 1) +
                                                        tile.args->headDim * kBlockSize);
    for (int32_t r = 0; r < tile.count; ++r) {
      float* row = weights + r * kAttentionSegment + p - segment;
      for (int v = 0; v < kBlockSize; v += kLanes) store(row + v, mul(load(row + v), load(scales + v)));
    }
  }
}

// sums[r][d..] += weights[r][p] * values[p][d..] for the positions [from, to) of the segment: kRows queries,
// kVectors vectors at d, of which the last may reach beyond the head. ahead: null, or the part that is asked
// for meanwhile.
template <class T, int kRows, int kVectors>
void addValues(const Tile& tile, const T* ahead, int32_t segment, int32_t from, int32_t to, int32_t d,
               const float* weights, float* sums) {
  const int32_t headDim = tile.args->headDim, stride = tile.stride;
  V sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(sums + r * stride + d + v * kLanes);
  }
  for (int32_t p = from; p < to;) {
    const int32_t block = p / kBlockSize;
    const T* block0 = blockOf<T>(tile, block, 1);
    const int32_t end = (block + 1) * kBlockSize < to ? (block + 1) * kBlockSize : to;
    for (; p < end; ++p) {
      const int32_t at = p % kBlockSize * headDim + d;
      if (ahead) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) prefetchLine(ahead, at + v * kLanes);
      }
      V value[kVectors];
      // Beyond a head lies the next token's, but nothing at the end of the block.
      if (kVectors == 1 && at + kLanes > kBlockSize * headDim) {
        value[0] = loadKvPart(block0 + at, kBlockSize * headDim - at);
      } else {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) value[v] = loadKv(block0 + at + v * kLanes);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const V weight = set1(weights[r * kAttentionSegment + p - segment]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(weight, value[v], sum[r][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(sums + r * stride + d + v * kLanes, sum[r][v]);
  }
}

// The whole head of kRows queries that see all of [from, to).
template <class T, int kRows>
void addHead(const Tile& tile, const T* ahead, int32_t segment, int32_t from, int32_t to,
             const float* weights, float* sums) {
  if (from >= to) return;
  const int32_t headDim = tile.args->headDim;
  int32_t d = 0;
  for (; d + kValueVectors * kLanes <= headDim; d += kValueVectors * kLanes)
    addValues<T, kRows, kValueVectors>(tile, ahead, segment, from, to, d, weights, sums);
  for (; d < headDim; d += kLanes) addValues<T, kRows, 1>(tile, ahead, segment, from, to, d, weights, sums);
}

// Queries from r on, most at a time: the positions in [from, to) that all kRows see together, and one by one
// those before and after. Each query's positions stay in order.
template <class T, int kRows>
void addQueries(const Tile& tile, const T* ahead, int32_t r, int32_t segment, int32_t from, int32_t to,
                AttentionScratch* scratch) {
  for (; r + kRows <= tile.count; r += kRows) {
    const Query* queries = tile.queries + r;
    int32_t first = from, last = to;
    for (int i = 0; i < kRows; ++i) {
      first = queries[i].first > first ? queries[i].first : first;
      last = queries[i].last + 1 < last ? queries[i].last + 1 : last;
    }
    if (first > last) first = last = to;
    const float* weights = scratch->scores + r * kAttentionSegment;
    float* sums = scratch->segment + r * tile.stride;
    for (int i = 0; i < kRows && kRows > 1; ++i) {
      const int32_t begin = queries[i].first > from ? queries[i].first : from;
      const int32_t end = queries[i].last + 1 < first ? queries[i].last + 1 : first;
      addHead<T, 1>(tile, nullptr, segment, begin, end, weights + i * kAttentionSegment,
                    sums + i * tile.stride);
    }
    addHead<T, kRows>(tile, r == 0 ? ahead : nullptr, segment, first, last, weights, sums);
    for (int i = 0; i < kRows && kRows > 1; ++i) {
      const int32_t end = queries[i].last + 1 < to ? queries[i].last + 1 : to;
      addHead<T, 1>(tile, nullptr, segment, last, end, weights + i * kAttentionSegment, sums + i * tile.stride);
    }
  }
  if constexpr (kRows > 1) addQueries<T, kRows / 2>(tile, ahead, r, segment, from, to, scratch);
}

// Merges the segment into what came before it.
void mergeSegment(const Tile& tile, AttentionScratch* scratch, int32_t r) {
  const float segmentHighest = scratch->segmentHighest[r];
  if (segmentHighest == -INFINITY) return;
  float* value = scratch->value + r * tile.stride;
  const float* segment = scratch->segment + r * tile.stride;
  if (scratch->highest[r] == -INFINITY) {
    std::memcpy(value, segment, static_cast<size_t>(tile.stride) * sizeof(float));
    scratch->highest[r] = segmentHighest;
    scratch->sum[r] = scratch->segmentSum[r];
    return;
  }
  const float highest = scratch->highest[r] > segmentHighest ? scratch->highest[r] : segmentHighest;
  const V before = exponential(set1(scratch->highest[r] - highest));
  const V now = exponential(set1(segmentHighest - highest));
  for (int32_t d = 0; d < tile.stride; d += kLanes)
    store(value + d, fma(load(value + d), before, mul(load(segment + d), now)));
  alignas(64) float sum[kLanes];
  store(sum, fma(set1(scratch->sum[r]), before, mul(set1(scratch->segmentSum[r]), now)));
  scratch->sum[r] = sum[0];
  scratch->highest[r] = highest;
}

// Blocks [from, to) of a segment, in the order in which a tile reads them: all keys, then all values.
struct Blocks {
  int32_t from, to;
};

// What a tile reads kAhead parts after the given one of the segment's: of the keys that follow the segment
// (its own, or the next head's) when that is over. Null: nothing.
template <class T>
const T* partAhead(const Tile& tile, Blocks blocks, int32_t part) {
  const int32_t count = blocks.to - blocks.from, later = part + kAhead<T>;
  if (later < count) return blockOf<T>(tile, blocks.from + later, 0);
  if (later < 2 * count) return blockOf<T>(tile, blocks.from + later - count, 1);
  const bool ends = tile.last < blocks.to * kBlockSize;
  const int32_t block = (ends ? tile.first / kBlockSize : blocks.to) + later - 2 * count;
  const unsigned char* head = ends ? tile.next : tile.head;
  return head && block <= tile.last / kBlockSize ? blockOf<T>(tile, head, block, 0) : nullptr;
}

// Scores of the kBlocks blocks of keys from `block` on.
template <class T, int kBlocks>
void scoreBlocks(const Tile& tile, int32_t segment, Blocks range, int32_t block, AttentionScratch* scratch) {
  const T *keys[kBlocks], *ahead[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    keys[b] = blockOf<T>(tile, block + b, 0);
    ahead[b] = tile.readsOnce ? partAhead<T>(tile, range, block + b - range.from) : nullptr;
    if (!ahead[b]) ahead[b] = keys[b];
  }
  float* scores = scratch->scores + block * kBlockSize - segment;
  if (tile.readsOnce) {
    scoreQueries<T, kScoreRows, kBlocks, true>(*tile.args, tile.count, keys, ahead, scratch->q, scores);
  } else {
    scoreQueries<T, kScoreRows, kBlocks, false>(*tile.args, tile.count, keys, ahead, scratch->q, scores);
  }
}

// Positions [from, to) of the segment, whole blocks, of which some query of the tile sees some in the first
// and in the last.
template <class T>
void attendSegment(const Tile& tile, int32_t segment, int32_t from, int32_t to, AttentionScratch* scratch) {
  const Blocks range{from / kBlockSize, to / kBlockSize};
  int32_t block = range.from;
  for (; block + kScoreBlocks <= range.to; block += kScoreBlocks)
    scoreBlocks<T, kScoreBlocks>(tile, segment, range, block, scratch);
  if (block < range.to) scoreBlocks<T, 1>(tile, segment, range, block, scratch);
  maskScores(tile, segment, from, to, scratch->scores);
  for (int32_t r = 0; r < tile.count; ++r)
    softmaxSegment(scratch->scores + r * kAttentionSegment, from - segment, to - segment,
                   &scratch->segmentHighest[r], &scratch->segmentSum[r]);
  if (sizeof(T) == 1) scaleWeights(tile, segment, from, to, scratch->scores);
  std::memset(scratch->segment, 0, static_cast<size_t>(tile.count * tile.stride) * sizeof(float));
  const int32_t step = tile.readsOnce ? kBlockSize : kValuePositions;
  for (int32_t p = from; p < to; p += step) {
    const int32_t part = range.to - range.from + p / kBlockSize - range.from;
    const T* ahead = tile.readsOnce ? partAhead<T>(tile, range, part) : nullptr;
    addQueries<T, kValueRows>(tile, ahead, 0, segment, p, p + step < to ? p + step : to, scratch);
  }
  for (int32_t r = 0; r < tile.count; ++r) mergeSegment(tile, scratch, r);
}

template <class T>
void attendTile(const Tile& tile, AttentionScratch* scratch) {
  for (int32_t r = 0; r < tile.count; ++r) {
    scratch->highest[r] = -INFINITY;
    scratch->sum[r] = 0;
  }
  packQueries(tile, scratch->q);
  std::memset(scratch->value, 0, static_cast<size_t>(tile.count * tile.stride) * sizeof(float));
  for (int32_t segment = tile.first / kAttentionSegment * kAttentionSegment; segment <= tile.last;
       segment += kAttentionSegment) {
    const int32_t from = tile.first > segment ? tile.first : segment;
    const int32_t to =
        tile.last < segment + kAttentionSegment - 1 ? tile.last : segment + kAttentionSegment - 1;
    attendSegment<T>(tile, segment, from / kBlockSize * kBlockSize, (to / kBlockSize + 1) * kBlockSize,
                     scratch);
  }
  for (int32_t r = 0; r < tile.count; ++r) {
    float* value = scratch->value + r * tile.stride;
    const V total = set1(scratch->sum[r]);
    for (int32_t d = 0; d < tile.stride; d += kLanes) store(value + d, div(load(value + d), total));
    std::memcpy(tile.queries[r].out, value, static_cast<size_t>(tile.args->headDim) * sizeof(float));
  }
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
