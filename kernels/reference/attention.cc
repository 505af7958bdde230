// Causal attention over paged keys and values, one query and head at a time: softmax(q K^T * scale) V.
#include "reference.h"

namespace octavo::reference {
namespace {

double kvAt(const Context* context, const KvLayer& kv, int64_t index) {
  if (context->kvDType == DType::F16) return halfToFloat(static_cast<const uint16_t*>(kv.pages)[index]);
  return static_cast<const float*>(kv.pages)[index];
}

struct Query {
  const float* q;             // [headDim]
  float* out;                 // [headDim]
  const int32_t* blockTable;  // of its sequence
  int32_t head;               // KV head
  int32_t first, last;        // visible positions, both included
};

int64_t slotOf(const Query& query, int32_t position) {
  return static_cast<int64_t>(query.blockTable[position / kBlockSize]) * kBlockSize + position % kBlockSize;
}

void attend(ReferenceContext* context, const AttentionArgs& args, const Query& query) {
  double* scores = context->row.data();  // [position - first]
  double highest = -INFINITY;
  for (int32_t position = query.first; position <= query.last; ++position) {
    const int64_t key = kvOffset(args.kv, slotOf(query, position), 0, query.head);
    double score = 0;
    for (int32_t i = 0; i < args.headDim; ++i) score += query.q[i] * kvAt(context, args.kv, key + i);
    score *= args.scale;
    if (args.softcap > 0) score = args.softcap * std::tanh(score / args.softcap);
    scores[position - query.first] = score;
    if (score > highest) highest = score;
  }
  double sum = 0;
  for (int32_t i = 0; i <= query.last - query.first; ++i) sum += scores[i] = std::exp(scores[i] - highest);
  for (int32_t d = 0; d < args.headDim; ++d) {
    double value = 0;
    for (int32_t position = query.first; position <= query.last; ++position) {
      const int64_t v = kvOffset(args.kv, slotOf(query, position), 1, query.head);
      value += scores[position - query.first] * kvAt(context, args.kv, v + d);
    }
    query.out[d] = static_cast<float>(value / sum);
  }
}

}  // namespace

int attention(Context* context, const AttentionArgs* args) {
  const int32_t groupHeads = args->numHeads / args->numKvHeads;
  for (int32_t s = 0; s < args->numSeqs; ++s) {
    const int32_t begin = args->queryStart[s], count = args->queryStart[s + 1] - begin;
    for (int32_t i = 0; i < count; ++i) {
      const int32_t position = args->contextLens[s] - count + i;
      const int32_t window = args->slidingWindow;
      for (int32_t head = 0; head < args->numHeads; ++head) {
        Query query;
        query.q = rowOf(args->q, begin + i) + head * args->headDim;
        query.out = rowOf(args->out, begin + i) + head * args->headDim;
        query.blockTable = args->blockTables + static_cast<int64_t>(s) * args->maxBlocksPerSeq;
        query.head = head / groupHeads;
        query.first = window > 0 && position >= window ? position - window + 1 : 0;
        query.last = position;
        attend(self(context), *args, query);
      }
    }
  }
  return 0;
}

}  // namespace octavo::reference
