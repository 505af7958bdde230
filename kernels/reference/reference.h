// The reference backend: plain loops that accumulate in double. It is the oracle of every kernel test, so it
// is written to be read: no blocking, no vectors, no threads.
#pragma once
#include <cmath>

#include "../host.h"

namespace octavo::reference {

struct ReferenceContext : Context {
  using Context::Context;
  Buffer<double> row;      // [max(maxContext, vocabSize)] scores of one query, logits of one row
  Buffer<int32_t> order;   // [vocabSize] token ids while they are sorted
  Buffer<int32_t> counts;  // [vocabSize] occurrences of a token in a sequence
  // One row rounded to 8 bits (int8_activations.h), by input; sized as linears are loaded.
  Buffer<int32_t> roundedCodes;  // [K]
  Buffer<float> roundedScales;   // [K], that of the input's block
};

inline ReferenceContext* self(Context* context) {
  return static_cast<ReferenceContext*>(context);
}

// One linear layer as the checkpoint has it: weights, or codes with their groups' scales and zeros.
struct ReferenceLinear : Linear {
  int64_t groupSize = 0;  // 0: dense
  Buffer<float> weights;  // [N, K] if dense
  Buffer<uint8_t> codes;  // [N, K] if not
  Buffer<float> scales;   // [N, K / groupSize]
  Buffer<float> zeros;    // [N, K / groupSize]
  Buffer<float> bias;     // [N]

  // w[n, k], exactly.
  double weight(int64_t n, int64_t inputK) const {
    const auto at = static_cast<size_t>(n * k + inputK);
    if (groupSize == 0) return weights[at];
    const auto group = static_cast<size_t>(n * (k / groupSize) + inputK / groupSize);
    return (static_cast<double>(codes[at]) - zeros[group]) * scales[group];
  }
};

inline double silu(double x) {
  return x / (1.0 + std::exp(-x));
}

Linear* loadLinear(Context*, const LinearSource*);
size_t linearBytes(const LinearSource*);
int embed(Context*, const EmbedArgs*);
int rmsNorm(Context*, const RmsNormArgs*);
int linear(Context*, const LinearArgs*);
int ropeStoreKv(Context*, const RopeStoreKvArgs*);
int attention(Context*, const AttentionArgs*);
int siluMul(Context*, const SiluMulArgs*);
int add(Context*, const AddArgs*);
int gatherRows(Context*, const GatherRowsArgs*);
int softcap(Context*, const SoftcapArgs*);
int sample(Context*, const SampleArgs*);

}  // namespace octavo::reference
