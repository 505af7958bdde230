// Causal attention over paged keys and values: online softmax [Milakov and Gimelshein 2018, Dao et al. 2022]
// over fixed segments of kAttentionSegment positions.
//
// Work is cut into tiles: up to 16 queries (rows of one sequence x heads that share a KV head) that read each
// key and value once. What a query computes does not depend on its tile: positions have fixed lanes, a
// segment's sums run in order of position from its first, segments merge in order, and a position that the
// query must not see adds exactly nothing, because it is left out (values) or replaced (scores), not
// multiplied by zero.
#include "context.h"

namespace octavo::cpu {
namespace {

constexpr int kMaxQueries = 16;   // of a tile
constexpr int kMaxHeadDim = 256;  // ops.h

// One head of one row.
struct Query {
  const float* q;       // [headDim]
  float* out;           // [headDim]
  int32_t first, last;  // visible positions, both included
};

struct Tile {
  const AttentionArgs* args;
  bool halfKv;
  const int32_t* blockTable;  // of the sequence
  int32_t kvHead;
  int32_t count;  // queries
  Query queries[kMaxQueries];
};

// Scratch of one thread; rows are per query.
struct AttentionScratch {
  alignas(64) float block[kBlockSize * kMaxHeadDim];  // [16][padded headDim] as f32, if not read in place
  alignas(64) float keys[kMaxHeadDim * kBlockSize];   // [headDim][16]
  alignas(64) float scores[kMaxQueries * kAttentionSegment];  // then exp(score - highest)
  alignas(64) float segment[kMaxQueries * kMaxHeadDim];       // sum of weighted values of this segment
  alignas(64) float value[kMaxQueries * kMaxHeadDim];         // ... of the segments merged so far
  float segmentHighest[kMaxQueries], segmentSum[kMaxQueries];
  float highest[kMaxQueries], sum[kMaxQueries];
};

}  // namespace
}  // namespace octavo::cpu

#define OCTAVO_KERNEL_FILE "attention_kernels.h"
#include "foreach_isa.h"

namespace octavo::cpu {
namespace {

// How a call is cut: sequence s has tileStart[s + 1] - tileStart[s] row tiles, each for every group of heads.
struct Plan {
  const AttentionArgs* args;
  const int32_t* tileStart;  // [numSeqs + 1]
  int32_t groupHeads;        // heads that share a KV head
  int32_t tileHeads;         // of them in one tile
  int32_t tileRows;
  int32_t headChunks;  // tiles that a KV head's heads take
};

Tile makeTile(const Plan& plan, int64_t item, bool halfKv) {
  const AttentionArgs& args = *plan.args;
  const int32_t headItems = args.numKvHeads * plan.headChunks;
  const auto rowTile = static_cast<int32_t>(item / headItems);
  const auto headItem = static_cast<int32_t>(item % headItems);
  int32_t low = 0, high = args.numSeqs - 1;  // the last sequence that starts at or before rowTile
  while (low < high) {
    const int32_t middle = (low + high + 1) / 2;
    if (plan.tileStart[middle] <= rowTile) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const int32_t s = low;
  Tile tile;
  tile.args = &args;
  tile.halfKv = halfKv;
  tile.blockTable = args.blockTables + static_cast<int64_t>(s) * args.maxBlocksPerSeq;
  tile.kvHead = headItem / plan.headChunks;
  tile.count = 0;
  const int32_t begin = args.queryStart[s], rows = args.queryStart[s + 1] - begin;
  const int32_t firstRow = (rowTile - plan.tileStart[s]) * plan.tileRows;
  const int32_t firstHead = headItem % plan.headChunks * plan.tileHeads;
  for (int32_t i = firstRow; i < firstRow + plan.tileRows && i < rows; ++i) {
    const int32_t position = args.contextLens[s] - rows + i;
    const bool windowed = args.slidingWindow > 0 && position >= args.slidingWindow;
    for (int32_t h = firstHead; h < firstHead + plan.tileHeads && h < plan.groupHeads; ++h) {
      const int64_t column = static_cast<int64_t>(tile.kvHead * plan.groupHeads + h) * args.headDim;
      Query& query = tile.queries[tile.count++];
      query.q = rowOf(args.q, begin + i) + column;
      query.out = rowOf(args.out, begin + i) + column;
      query.first = windowed ? position - args.slidingWindow + 1 : 0;
      query.last = position;
    }
  }
  return tile;
}

}  // namespace

size_t attentionScratchBytes() {
  return sizeof(AttentionScratch);
}

int attention(Context* base, const AttentionArgs* args) {
  CpuContext* context = self(base);
  if (args->headDim > kMaxHeadDim) return context->fail("attention: expected headDim <= %d", kMaxHeadDim);
  if (args->numSeqs >= static_cast<int32_t>(context->tileStart.size()))
    return context->fail("attention: more sequences than the context was opened for");
  Plan plan{};
  plan.args = args;
  plan.tileStart = context->tileStart.data();
  plan.groupHeads = args->numHeads / args->numKvHeads;
  plan.tileHeads = plan.groupHeads < kMaxQueries ? plan.groupHeads : kMaxQueries;
  plan.tileRows = kMaxQueries / plan.tileHeads;
  plan.headChunks = (plan.groupHeads + plan.tileHeads - 1) / plan.tileHeads;
  int64_t work = 0;
  context->tileStart[0] = 0;
  for (int32_t s = 0; s < args->numSeqs; ++s) {
    const int32_t rows = args->queryStart[s + 1] - args->queryStart[s];
    const auto at = static_cast<size_t>(s);
    context->tileStart[at + 1] = context->tileStart[at] + (rows + plan.tileRows - 1) / plan.tileRows;
    work += static_cast<int64_t>(rows) * args->contextLens[s] * args->numHeads * args->headDim * 2;
  }
  const int32_t rowTiles = context->tileStart[static_cast<size_t>(args->numSeqs)];
  const int64_t items = static_cast<int64_t>(rowTiles) * args->numKvHeads * plan.headChunks;
  const bool halfKv = context->kvDType == DType::F16;
  const auto kernel = OCTAVO_SELECT(context->isa, attendTile);
  const auto compute = [&](int64_t item, int thread) {
    kernel(makeTile(plan, item, halfKv), static_cast<AttentionScratch*>(context->scratch(thread)));
  };
  if (work < kParallelWork) {
    for (int64_t item = 0; item < items; ++item) compute(item, 0);
  } else {
    context->pool.run(items, compute);
  }
  return 0;
}

}  // namespace octavo::cpu
