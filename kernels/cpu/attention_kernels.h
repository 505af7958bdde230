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

// Blocks of one head lie far apart, and each is too short for the processor to see a stream in it: whoever
// reads them once asks for those kAhead later, about 8 KiB, while it computes. On an AMD EPYC 25 GB/s instead
// of 14.
template <class T>
constexpr int32_t kAhead = 8 / static_cast<int32_t>(sizeof(T));

template <class T>
inline void prefetchBlock(const Tile& tile, int32_t block, int part) {
  const auto* data = reinterpret_cast<const char*>(blockOf<T>(tile, block, part));
  const auto bytes = static_cast<int32_t>(sizeof(T)) * kBlockSize * tile.args->headDim;
  for (int32_t i = 0; i < bytes; i += 64) __builtin_prefetch(data + i);
}

// q [headDim][kMaxQueries] of the tile, times the scale of the scores.
void packQueries(const Tile& tile, float* q) {
  const int32_t headDim = tile.args->headDim;
  for (int32_t r = 0; r < tile.count; ++r) {
    for (int32_t d = 0; d < headDim; ++d) q[d * kMaxQueries + r] = tile.queries[r].q[d] * tile.args->scale;
  }
}

// Scores of kRows queries for kBlocks adjacent blocks of keys [headDim][16], to scores + r *
// kAttentionSegment.
template <class T, int kRows, int kBlocks>
void scoreRows(const AttentionArgs& args, const T* const* blocks, const float* q, float* scores) {
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

// All queries of the tile, most at a time.
template <class T, int kRows, int kBlocks>
void scoreQueries(const AttentionArgs& args, int32_t count, const T* const* blocks, const float* q,
                  float* scores) {
  for (; count >= kRows; count -= kRows, q += kRows, scores += kRows * kAttentionSegment)
    scoreRows<T, kRows, kBlocks>(args, blocks, q, scores);
  if constexpr (kRows > 1) scoreQueries<T, kRows / 2, kBlocks>(args, count, blocks, q, scores);
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
// kVectors vectors at d, of which the last may reach beyond the head.
template <class T, int kRows, int kVectors>
void addValues(const Tile& tile, int32_t segment, int32_t from, int32_t to, int32_t d, const float* weights,
               float* sums) {
  const int32_t headDim = tile.args->headDim, stride = tile.stride;
  V sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(sums + r * stride + d + v * kLanes);
  }
  for (int32_t p = from; p < to;) {
    const int32_t block = p / kBlockSize;
    if (tile.readsOnce && (block + kAhead<T>)*kBlockSize < to) prefetchBlock<T>(tile, block + kAhead<T>, 1);
    const T* block0 = blockOf<T>(tile, block, 1);
    const int32_t end = (block + 1) * kBlockSize < to ? (block + 1) * kBlockSize : to;
    for (; p < end; ++p) {
      const int32_t at = p % kBlockSize * headDim + d;
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
void addHead(const Tile& tile, int32_t segment, int32_t from, int32_t to, const float* weights, float* sums) {
  if (from >= to) return;
  const int32_t headDim = tile.args->headDim;
  int32_t d = 0;
  for (; d + kValueVectors * kLanes <= headDim; d += kValueVectors * kLanes)
    addValues<T, kRows, kValueVectors>(tile, segment, from, to, d, weights, sums);
  for (; d < headDim; d += kLanes) addValues<T, kRows, 1>(tile, segment, from, to, d, weights, sums);
}

// Queries from r on, most at a time: the positions in [from, to) that all kRows see together, and one by one
// those before and after. Each query's positions stay in order.
template <class T, int kRows>
void addQueries(const Tile& tile, int32_t r, int32_t segment, int32_t from, int32_t to,
                AttentionScratch* scratch) {
  for (; r + kRows <= tile.count; r += kRows) {
    const Query* queries = tile.queries + r;
    int32_t first = from, last = to;
    for (int i = 0; i < kRows; ++i) {
      first = queries[i].first > first ? queries[i].first : first;
      last = queries[i].last + 1 < last ? queries[i].last + 1 : last;
    }
    if (first > last) first = last = to;
    for (int i = 0; i < kRows && kRows > 1; ++i) {
      const int32_t begin = queries[i].first > from ? queries[i].first : from;
      const int32_t end = queries[i].last + 1 < first ? queries[i].last + 1 : first;
      addHead<T, 1>(tile, segment, begin, end, scratch->scores + (r + i) * kAttentionSegment,
                    scratch->segment + (r + i) * tile.stride);
    }
    addHead<T, kRows>(tile, segment, first, last, scratch->scores + r * kAttentionSegment,
                      scratch->segment + r * tile.stride);
    for (int i = 0; i < kRows && kRows > 1; ++i) {
      const int32_t end = queries[i].last + 1 < to ? queries[i].last + 1 : to;
      addHead<T, 1>(tile, segment, last, end, scratch->scores + (r + i) * kAttentionSegment,
                    scratch->segment + (r + i) * tile.stride);
    }
  }
  if constexpr (kRows > 1) addQueries<T, kRows / 2>(tile, r, segment, from, to, scratch);
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

// The keys of the blocks at `position`, or the values that are read when keys end.
template <class T>
void prefetchKeys(const Tile& tile, int32_t position, int32_t from, int32_t to) {
  for (int b = 0; b < kScoreBlocks; ++b, position += kBlockSize) {
    if (position < to) {
      prefetchBlock<T>(tile, position / kBlockSize, 0);
    } else if (position - to < to - from) {
      prefetchBlock<T>(tile, (from + position - to) / kBlockSize, 1);
    }
  }
}

// Positions [from, to) of the segment, whole blocks, of which some query of the tile sees some in the first
// and in the last.
template <class T>
void attendSegment(const Tile& tile, int32_t segment, int32_t from, int32_t to, AttentionScratch* scratch) {
  int32_t p = from;
  for (; p + kScoreBlocks * kBlockSize <= to; p += kScoreBlocks * kBlockSize) {
    const T* blocks[kScoreBlocks];
    if (tile.readsOnce) prefetchKeys<T>(tile, p + kAhead<T> * kBlockSize, from, to);
    for (int b = 0; b < kScoreBlocks; ++b) blocks[b] = blockOf<T>(tile, p / kBlockSize + b, 0);
    scoreQueries<T, kScoreRows, kScoreBlocks>(*tile.args, tile.count, blocks, scratch->q,
                                              scratch->scores + p - segment);
  }
  if (p < to) {
    const T* block = blockOf<T>(tile, p / kBlockSize, 0);
    scoreQueries<T, kScoreRows, 1>(*tile.args, tile.count, &block, scratch->q, scratch->scores + p - segment);
  }
  maskScores(tile, segment, from, to, scratch->scores);
  for (int32_t r = 0; r < tile.count; ++r)
    softmaxSegment(scratch->scores + r * kAttentionSegment, from - segment, to - segment,
                   &scratch->segmentHighest[r], &scratch->segmentSum[r]);
  if (sizeof(T) == 1) scaleWeights(tile, segment, from, to, scratch->scores);
  std::memset(scratch->segment, 0, static_cast<size_t>(tile.count * tile.stride) * sizeof(float));
  const int32_t step = tile.count <= kValueRows ? kAttentionSegment : kValuePositions;
  for (p = from; p < to; p += step)
    addQueries<T, kValueRows>(tile, 0, segment, p, p + step < to ? p + step : to, scratch);
  for (int32_t r = 0; r < tile.count; ++r) mergeSegment(tile, scratch, r);
}

template <class T>
void attendTile(const Tile& tile, AttentionScratch* scratch) {
  int32_t first = tile.queries[0].first, last = tile.queries[0].last;
  for (int32_t r = 0; r < tile.count; ++r) {
    first = tile.queries[r].first < first ? tile.queries[r].first : first;
    last = tile.queries[r].last > last ? tile.queries[r].last : last;
    scratch->highest[r] = -INFINITY;
    scratch->sum[r] = 0;
  }
  packQueries(tile, scratch->q);
  std::memset(scratch->value, 0, static_cast<size_t>(tile.count * tile.stride) * sizeof(float));
  for (int32_t segment = first / kAttentionSegment * kAttentionSegment; segment <= last;
       segment += kAttentionSegment) {
    const int32_t from = first > segment ? first : segment;
    const int32_t to = last < segment + kAttentionSegment - 1 ? last : segment + kAttentionSegment - 1;
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
