// The work of one step's attention, planned once on the host and read by every layer.
//
// The KV of a sequence is cut in segments of 512 positions. A query row (one head of one token) is the
// in-order merge of its segments' (max, sum, accumulator), each computed by the same chain of operations in
// every kernel, so which item computes a segment, beside which other rows, changes no bit:
//
//   positions  0        512       1024      1536
//              |  seg 0  |  seg 1  |  seg 2  |
//   prefill    [ item: 64 or 128 rows walk all their segments               ] -> out
//   decode     [ item   ][ item    ][ item   ]   16 rows each                 -> partials, last arrival
//   merges shared     [ item for the rows of many sequences ][ item ][ item ]        -> partials, last
//   arrival merges
//
// Rows are packed: row p of an item's token list is head p % G of its token p / G, for the G query heads of
// one KV head (the grid's second dimension).
#pragma once
#include <cstdint>
#include <vector>

namespace octavo::cuda {

constexpr int kSegment = 512;  // positions, ops.h kAttentionSegment

struct AttentionToken {
  int32_t position;
  int32_t firstSegment;  // the first that it sees (sliding window), and how many
  int32_t numSegments;
  int32_t
      firstPartial;  // its partial of segment s is slot firstPartial + s - firstSegment; unused if only one
};

struct AttentionItem {
  int32_t sequence;           // whose block table to read
  int32_t firstToken;         // index in itemTokens of the token of packed row 0
  int32_t firstRow, numRows;  // packed rows
  int32_t kvBegin, kvEnd;     // positions that any row sees, within the item's segments
  int32_t walksAll;           // 1: kvBegin..kvEnd covers all segments of all rows; 0: lies in one segment
};

struct AttentionRun {
  int32_t tileRows;  // 16 (decode, verification), 64 or 128
  int32_t firstItem, numItems;
};

// Sequences whose first `length` positions are the same blocks.
struct SharedPrefix {
  std::vector<int32_t> sequences;
  int32_t length;
};

struct AttentionBatch {
  int32_t numSeqs;
  const int32_t* queryStart;   // [numSeqs + 1]
  const int32_t* contextLens;  // [numSeqs], this step included
  int32_t numHeads, numKvHeads, headDim;
  int32_t slidingWindow;               // 0: none
  std::vector<SharedPrefix> prefixes;  // no sequence in two; ignored with a sliding window
  int64_t maxPartials;                 // slots of the workspace
};

struct AttentionPlan {
  std::vector<AttentionItem> items;
  std::vector<int32_t> itemTokens;
  std::vector<AttentionToken> tokens;  // [queryStart[numSeqs]]
  std::vector<AttentionRun> runs;
  int32_t numPartials;  // slots; a slot is [numHeads][headDim + 2] floats
};

// Head dims with kernels: 32, 64, 80, 96, 128, 256.
bool attentionSupports(int headDim);

// Decoding and longer prefills are split over segments only where partial slots are left: fewer blocks work
// on them then, and the results are the same. Throws std::length_error where shared prefixes need more than
// maxPartials slots: at most the segments of their context for each of their tokens.
AttentionPlan planAttention(const AttentionBatch& batch);

}  // namespace octavo::cuda
