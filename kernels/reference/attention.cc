// Causal attention over paged keys and values, one query and head at a time: softmax(q K^T * scale) V.
#include "reference.h"

namespace octavo::reference {
namespace {

// Keys (part 0) or values (part 1) of one head of one token.
class KvVector {
 public:
  KvVector(const Context* context, const KvLayer& kv, int64_t slot, int part, int32_t head)
      : dtype_(context->kvDType),
        data_(kvHead(kv, dtype_, slot / kBlockSize, part, head)),
        stride_(kvStride(kv, part, static_cast<int32_t>(slot % kBlockSize))),
        scale_(dtype_ == DType::I8 ? kvScales(kv, data_)[slot % kBlockSize] : 1) {}

  double operator[](int32_t d) const {
    const int32_t index = stride_.start + d * stride_.step;
    if (dtype_ == DType::I8)
      return static_cast<double>(reinterpret_cast<const int8_t*>(data_)[index]) * scale_;
    return readFloat(data_, dtype_, index);
  }

 private:
  DType dtype_;
  unsigned char* data_;
  KvStride stride_;
  float scale_;
};

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
    const KvVector key(context, args.kv, slotOf(query, position), 0, query.head);
    double score = 0;
    for (int32_t i = 0; i < args.headDim; ++i) score += query.q[i] * key[i];
    score *= args.scale;
    if (args.softcap > 0) score = args.softcap * std::tanh(score / args.softcap);
    scores[position - query.first] = score;
    if (score > highest) highest = score;
  }
  double sum = 0;
  for (int32_t i = 0; i <= query.last - query.first; ++i) sum += scores[i] = std::exp(scores[i] - highest);
  for (int32_t d = 0; d < args.headDim; ++d) {
    double value = 0;
    for (int32_t position = query.first; position <= query.last; ++position)
      value += scores[position - query.first] *
               KvVector(context, args.kv, slotOf(query, position), 1, query.head)[d];
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
