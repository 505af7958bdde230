// The kernels of attention.cc, compiled once per instruction set.

namespace octavo::cpu::OCTAVO_ISA {
namespace {

constexpr int kBlockVectors = kBlockSize / kLanes;   // scores of one block of positions
constexpr int kQueryRows = kLanes == 4 ? 2 : 4;      // queries whose sums are in registers at once
constexpr int kValueVectors = kLanes == 16 ? 4 : 2;  // vectors of the head dimension at once

// A block's 16 keys or values of one head as f32 rows, whole vectors readable.
struct BlockRows {
  const float* data;
  int32_t stride;
};

// In place where that reads nothing beyond the row, else by way of `copy`.
BlockRows blockRows(const Tile& tile, int32_t block, int part, float* copy) {
  const KvLayer& kv = tile.args->kv;
  const int32_t headDim = kv.headDim;
  const int64_t offset =
      kvOffset(kv, static_cast<int64_t>(tile.blockTable[block]) * kBlockSize, part, tile.kvHead);
  if (!tile.halfKv) {
    const float* rows = static_cast<const float*>(kv.pages) + offset;
    if (headDim % kLanes == 0) return {rows, headDim};
    const int32_t padded = (headDim + kLanes - 1) / kLanes * kLanes;
    for (int j = 0; j < kBlockSize; ++j) {
      std::memcpy(copy + j * padded, rows + j * headDim, static_cast<size_t>(headDim) * sizeof(float));
      for (int32_t d = headDim; d < padded; ++d) copy[j * padded + d] = 0;
    }
    return {copy, padded};
  }
  const uint16_t* rows = static_cast<const uint16_t*>(kv.pages) + offset;
  const int32_t padded = (headDim + kLanes - 1) / kLanes * kLanes;
  for (int j = 0; j < kBlockSize; ++j, rows += headDim) {
    int32_t d = 0;
    for (; d + kLanes <= headDim; d += kLanes) store(copy + j * padded + d, loadHalf(rows + d));
    for (; d < padded; ++d) copy[j * padded + d] = d < headDim ? halfToFloat(rows[d]) : 0;
  }
  return {copy, padded};
}

// keys [headDim][16] from rows [16][headDim].
void transposeBlock(BlockRows rows, int32_t headDim, float* keys) {
  int32_t d = 0;
  for (; d + kLanes <= headDim; d += kLanes) {
    for (int j = 0; j < kBlockSize; j += kLanes)
      transposeTile(rows.data + j * rows.stride + d, rows.stride, keys + d * kBlockSize + j, kBlockSize);
  }
  for (; d < headDim; ++d) {
    for (int j = 0; j < kBlockSize; ++j) keys[d * kBlockSize + j] = rows.data[j * rows.stride + d];
  }
}

// Scores of one block for kRows queries, to scores + r * kAttentionSegment.
template <int kRows>
void scoreRows(const AttentionArgs& args, const Query* queries, const float* keys, float* scores) {
  V sum[kRows][kBlockVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kBlockVectors; ++v) sum[r][v] = zero();
  }
  const float* q[kRows];
  for (int r = 0; r < kRows; ++r) q[r] = queries[r].q;
  for (int32_t d = 0; d < args.headDim; ++d) {
    V key[kBlockVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kBlockVectors; ++v) key[v] = load(keys + d * kBlockSize + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V value = set1(q[r][d]);
#pragma GCC unroll 4
      for (int v = 0; v < kBlockVectors; ++v) sum[r][v] = fma(value, key[v], sum[r][v]);
    }
  }
  const V scale = set1(args.scale), cap = set1(args.softcap);
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kBlockVectors; ++v) {
      V score = mul(sum[r][v], scale);
      if (args.softcap > 0) score = mul(cap, hyperbolicTangent(div(score, cap)));
      store(scores + r * kAttentionSegment + v * kLanes, score);
    }
  }
}

// Scores of the block at `position`, with -inf where a query must not look.
void scoreBlock(const Tile& tile, int32_t position, const float* keys, float* scores) {
  for (int32_t r = 0; r < tile.count;) {
    const Query* queries = tile.queries + r;
    float* rows = scores + r * kAttentionSegment;
    if (kBlockVectors == 1 && r + 8 <= tile.count) {
      scoreRows<8>(*tile.args, queries, keys, rows);
      r += 8;
    } else if (r + kQueryRows <= tile.count) {
      scoreRows<kQueryRows>(*tile.args, queries, keys, rows);
      r += kQueryRows;
    } else {
      scoreRows<1>(*tile.args, queries, keys, rows);
      ++r;
    }
  }
  for (int32_t r = 0; r < tile.count; ++r) {
    const Query& query = tile.queries[r];
    if (query.first <= position && position + kBlockSize - 1 <= query.last) continue;
    for (int j = 0; j < kBlockSize; ++j) {
      if (position + j < query.first || position + j > query.last)
        scores[r * kAttentionSegment + j] = -INFINITY;
    }
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

// sums[r][d] += weights[r][j] * values[j][d] for j in [from, to), kRows queries, kVectors vectors at d.
template <int kRows, int kVectors>
void addValues(const float* weights, const float* values, int32_t stride, int from, int to, float* sums) {
  V sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(sums + r * kMaxHeadDim + v * kLanes);
  }
  for (int j = from; j < to; ++j) {
    V value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) value[v] = load(values + j * stride + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const V weight = set1(weights[r * kAttentionSegment + j]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = fma(weight, value[v], sum[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(sums + r * kMaxHeadDim + v * kLanes, sum[r][v]);
  }
}

template <int kRows>
void addValueRows(const float* weights, BlockRows values, int32_t headDim, int from, int to, float* sums) {
  int32_t d = 0;
  for (; d + kValueVectors * kLanes <= headDim; d += kValueVectors * kLanes)
    addValues<kRows, kValueVectors>(weights, values.data + d, values.stride, from, to, sums + d);
  for (; d < headDim; d += kLanes)
    addValues<kRows, 1>(weights, values.data + d, values.stride, from, to, sums + d);
}

// Adds the block at `position` to the segment's sums: queries that see all of it together, others one by one.
void addBlock(const Tile& tile, int32_t position, const float* weights, BlockRows values, float* sums) {
  const int32_t headDim = tile.args->headDim;
  for (int32_t r = 0; r < tile.count;) {
    int32_t full = 0;
    while (full < kQueryRows && r + full < tile.count && tile.queries[r + full].first <= position &&
           position + kBlockSize - 1 <= tile.queries[r + full].last)
      ++full;
    const float* rowWeights = weights + r * kAttentionSegment;
    if (full == kQueryRows) {
      addValueRows<kQueryRows>(rowWeights, values, headDim, 0, kBlockSize, sums + r * kMaxHeadDim);
      r += kQueryRows;
      continue;
    }
    const Query& query = tile.queries[r];
    const int from = query.first > position ? query.first - position : 0;
    const int to = query.last - position < kBlockSize - 1 ? query.last - position + 1 : kBlockSize;
    if (from < to) addValueRows<1>(rowWeights, values, headDim, from, to, sums + r * kMaxHeadDim);
    ++r;
  }
}

// Merges the segment into what came before it.
void mergeSegment(AttentionScratch* scratch, int32_t r, int32_t headDim) {
  const float segmentHighest = scratch->segmentHighest[r];
  if (segmentHighest == -INFINITY) return;
  float* value = scratch->value + r * kMaxHeadDim;
  const float* segment = scratch->segment + r * kMaxHeadDim;
  if (scratch->highest[r] == -INFINITY) {
    std::memcpy(value, segment, static_cast<size_t>(headDim) * sizeof(float));
    scratch->highest[r] = segmentHighest;
    scratch->sum[r] = scratch->segmentSum[r];
    return;
  }
  const float highest = scratch->highest[r] > segmentHighest ? scratch->highest[r] : segmentHighest;
  const V before = exponential(set1(scratch->highest[r] - highest));
  const V now = exponential(set1(segmentHighest - highest));
  for (int32_t d = 0; d < headDim; d += kLanes)
    store(value + d, fma(load(value + d), before, mul(load(segment + d), now)));
  alignas(64) float sum[kLanes];
  store(sum, fma(set1(scratch->sum[r]), before, mul(set1(scratch->segmentSum[r]), now)));
  scratch->sum[r] = sum[0];
  scratch->highest[r] = highest;
}

// Positions [segment, segment + kAttentionSegment) that some query of the tile sees: blocks [firstBlock,
// lastBlock].
void attendSegment(const Tile& tile, int32_t segment, int32_t firstBlock, int32_t lastBlock,
                   AttentionScratch* scratch) {
  const int32_t headDim = tile.args->headDim;
  for (int32_t block = firstBlock; block <= lastBlock; ++block) {
    transposeBlock(blockRows(tile, block, 0, scratch->block), headDim, scratch->keys);
    scoreBlock(tile, block * kBlockSize, scratch->keys, scratch->scores + block * kBlockSize - segment);
  }
  for (int32_t r = 0; r < tile.count; ++r) {
    softmaxSegment(scratch->scores + r * kAttentionSegment, firstBlock * kBlockSize - segment,
                   (lastBlock + 1) * kBlockSize - segment, &scratch->segmentHighest[r],
                   &scratch->segmentSum[r]);
    std::memset(scratch->segment + r * kMaxHeadDim, 0, kMaxHeadDim * sizeof(float));
  }
  for (int32_t block = firstBlock; block <= lastBlock; ++block)
    addBlock(tile, block * kBlockSize, scratch->scores + block * kBlockSize - segment,
             blockRows(tile, block, 1, scratch->block), scratch->segment);
  for (int32_t r = 0; r < tile.count; ++r) mergeSegment(scratch, r, headDim);
}

void attendTile(const Tile& tile, AttentionScratch* scratch) {
  int32_t first = tile.queries[0].first, last = tile.queries[0].last;
  for (int32_t r = 0; r < tile.count; ++r) {
    first = tile.queries[r].first < first ? tile.queries[r].first : first;
    last = tile.queries[r].last > last ? tile.queries[r].last : last;
    scratch->highest[r] = -INFINITY;
    scratch->sum[r] = 0;
    std::memset(scratch->value + r * kMaxHeadDim, 0, kMaxHeadDim * sizeof(float));
  }
  for (int32_t segment = first / kAttentionSegment * kAttentionSegment; segment <= last;
       segment += kAttentionSegment) {
    const int32_t from = first > segment ? first : segment;
    const int32_t to = last < segment + kAttentionSegment - 1 ? last : segment + kAttentionSegment - 1;
    attendSegment(tile, segment, from / kBlockSize, to / kBlockSize, scratch);
  }
  for (int32_t r = 0; r < tile.count; ++r) {
    float* value = scratch->value + r * kMaxHeadDim;
    const V total = set1(scratch->sum[r]);
    for (int32_t d = 0; d < tile.args->headDim; d += kLanes) store(value + d, div(load(value + d), total));
    std::memcpy(tile.queries[r].out, value, static_cast<size_t>(tile.args->headDim) * sizeof(float));
  }
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
