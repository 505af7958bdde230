// Causal attention over paged keys and values: online softmax [Milakov and Gimelshein 2018, Dao et al. 2022]
// over fixed segments of kAttentionSegment positions. Scores of one tile and one segment are all that exists
// of them at a time.
//
// Work is cut into tiles: up to 64 queries (rows of one sequence x heads that share a KV head) that read each
// key and value once. What a query computes does not depend on its tile: a score is a sum in order of the
// head's dimension, positions have fixed lanes in the sum of the weights, a segment's values are added in
// order of position, segments merge in order, and a position that the query must not see adds exactly
// nothing, because it is left out (values) or replaced (scores), not multiplied by zero.
#include <algorithm>

#include "context.h"

namespace octavo::cpu {
namespace {

constexpr int kMaxQueries = 64;      // of a tile
constexpr int kMaxHeadDim = 256;     // ops.h
constexpr int kLeastQueries = 16;    // that a tile is not cut below
constexpr int kReadOnceQueries = 8;  // whose sums are in registers at once, about

// One head of one row.
struct Query {
  const float* q;       // [headDim]
  float* out;           // [headDim]
  int32_t first, last;  // visible positions, both included
};

struct Tile {
  const AttentionArgs* args;
  const int32_t* blockTable;  // of the sequence
  const unsigned char* head;  // the KV head's keys in block 0
  const unsigned char* next;  // those of the head that is read after it, or null
  int64_t partBytes;          // from keys to values
  int32_t stride;             // of a head in scratch: headDim in whole vectors of 16
  int32_t count;              // queries
  bool readsOnce;             // few queries: each key and value is read once only
  int32_t first, last;        // positions that some query sees
  Query queries[kMaxQueries];
};

// A head's keys [headDim][16] (part 0) or values [16][headDim] (part 1) in a block of the tile's sequence.
template <class T>
const T* blockOf(const Tile& tile, const unsigned char* head, int32_t block, int part) {
  const int64_t index = static_cast<int64_t>(tile.blockTable[block]) * 2 + part;
  return reinterpret_cast<const T*>(head + index * tile.partBytes);
}
template <class T>
const T* blockOf(const Tile& tile, int32_t block, int part) {
  return blockOf<T>(tile, tile.head, block, part);
}

// Scratch of one thread.
struct AttentionScratch {
  alignas(64) float q[kMaxHeadDim * kMaxQueries];             // [headDim][kMaxQueries]
  alignas(64) float scores[kMaxQueries * kAttentionSegment];  // then exp(score - highest)
  alignas(64) float segment[kMaxQueries * kMaxHeadDim];       // [][stride] sum of this segment's values
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

// How a call is cut: row tiles of sequences, each for every group of heads.
struct Plan {
  const AttentionArgs* args;
  DType kv;
  const RowTile* tiles;  // the longest contexts first
  int32_t groupHeads;    // heads that share a KV head
  int32_t tileHeads;     // of them in one tile
  int32_t tileRows;
  int32_t headChunks;  // tiles that a KV head's heads take
};

Tile makeTile(const Plan& plan, int64_t item) {
  const AttentionArgs& args = *plan.args;
  const int32_t headItems = args.numKvHeads * plan.headChunks;
  const RowTile& rowTile = plan.tiles[item / headItems];
  const auto headItem = static_cast<int32_t>(item % headItems);
  const int32_t s = rowTile.sequence, kvHead = headItem / plan.headChunks;
  const auto headBytes = static_cast<int64_t>(kvHeadBytes(plan.kv, args.headDim));
  Tile tile;
  tile.args = &args;
  tile.blockTable = args.blockTables + static_cast<int64_t>(s) * args.maxBlocksPerSeq;
  tile.head = static_cast<const unsigned char*>(args.kv.pages) + kvHead * headBytes;
  tile.next = kvHead + 1 < args.numKvHeads ? tile.head + headBytes : nullptr;
  tile.partBytes = args.numKvHeads * headBytes;
  tile.stride = (args.headDim + 15) / 16 * 16;
  tile.count = 0;
  const int32_t begin = args.queryStart[s], rows = args.queryStart[s + 1] - begin;
  const int32_t firstHead = headItem % plan.headChunks * plan.tileHeads;
  for (int32_t i = rowTile.firstRow; i < rowTile.firstRow + plan.tileRows && i < rows; ++i) {
    const int32_t position = args.contextLens[s] - rows + i;
    const bool windowed = args.slidingWindow > 0 && position >= args.slidingWindow;
    for (int32_t h = firstHead; h < firstHead + plan.tileHeads && h < plan.groupHeads; ++h) {
      const int64_t column = static_cast<int64_t>(kvHead * plan.groupHeads + h) * args.headDim;
      Query& query = tile.queries[tile.count++];
      query.q = rowOf(args.q, begin + i) + column;
      query.out = rowOf(args.out, begin + i) + column;
      query.first = windowed ? position - args.slidingWindow + 1 : 0;
      query.last = position;
    }
  }
  tile.readsOnce = tile.count <= kReadOnceQueries;
  tile.first = tile.queries[0].first;  // rows are in order: windows only move on
  tile.last = tile.queries[tile.count - 1].last;
  return tile;
}

// The tiles of all sequences, those that take longest first: what threads still compute when the others have
// run out is short. Returns how many.
int32_t cutRows(const AttentionArgs& args, int32_t tileRows, RowTile* tiles) {
  int32_t count = 0;
  for (int32_t s = 0; s < args.numSeqs; ++s) {
    const int32_t rows = args.queryStart[s + 1] - args.queryStart[s];
    for (int32_t first = 0; first < rows; first += tileRows) {
      const int32_t last = std::min(first + tileRows, rows), end = args.contextLens[s] - rows + last;
      const int32_t seen = args.slidingWindow > 0 ? std::min(end, args.slidingWindow + last - first) : end;
      tiles[count++] = {s, first, static_cast<int64_t>(last - first) * seen};
    }
  }
  std::sort(tiles, tiles + count, [](const RowTile& a, const RowTile& b) { return a.work > b.work; });
  return count;
}

using Kernel = void (*)(const Tile&, AttentionScratch*);

Kernel kernelFor(Isa isa, DType kv) {
  return kv == DType::F16  ? OCTAVO_SELECT(isa, attendTile<uint16_t>)
         : kv == DType::I8 ? OCTAVO_SELECT(isa, attendTile<int8_t>)
                           : OCTAVO_SELECT(isa, attendTile<float>);
}

}  // namespace

size_t attentionScratchBytes() {
  return sizeof(AttentionScratch);
}

int attention(Context* base, const AttentionArgs* args) {
  CpuContext* context = self(base);
  if (args->headDim > kMaxHeadDim) return context->fail("attention: expected headDim <= %d", kMaxHeadDim);
  if (static_cast<size_t>(args->rows) > context->rowTiles.size())
    return context->fail("attention: more rows than the context was opened for");
  Plan plan{};
  plan.args = args;
  plan.kv = context->kvDType;
  plan.groupHeads = args->numHeads / args->numKvHeads;
  plan.tileHeads = std::min(plan.groupHeads, kMaxQueries);
  plan.tileRows = kMaxQueries / plan.tileHeads;
  plan.headChunks = (plan.groupHeads + plan.tileHeads - 1) / plan.tileHeads;
  // Smaller tiles where there would be too few to share.
  const auto fewItems = [&] {
    return static_cast<int64_t>(args->rows) * args->numKvHeads <
           int64_t{4} * context->pool.threads() * plan.tileRows;
  };
  while (plan.tileRows > 1 && plan.tileRows * plan.tileHeads > kLeastQueries && fewItems())
    plan.tileRows = (plan.tileRows + 1) / 2;
  const int32_t rowTiles = cutRows(*args, plan.tileRows, context->rowTiles.data());
  plan.tiles = context->rowTiles.data();
  int64_t work = 0;
  for (int32_t i = 0; i < rowTiles; ++i) work += plan.tiles[i].work;
  const int64_t items = static_cast<int64_t>(rowTiles) * args->numKvHeads * plan.headChunks;
  const Kernel kernel = kernelFor(context->isa, plan.kv);
  const auto compute = [&](int64_t item, int thread) {
    kernel(makeTile(plan, item), static_cast<AttentionScratch*>(context->scratch(thread)));
  };
  if (work * args->numHeads * args->headDim * 2 < kParallelWork) {
    for (int64_t item = 0; item < items; ++item) compute(item, 0);
  } else {
    context->pool.run(items, compute);
  }
  return 0;
}

}  // namespace octavo::cpu
