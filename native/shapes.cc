#include "shapes.h"

#include <algorithm>

namespace octavo {

Shapes::Shapes(const Program& program, const RunnerSizes& sizes, int32_t threads, bool int8Activations) {
  for (const LinearPlan& linear : program.linears) {
    const auto same = [&](const LinearShape& shape) {
      return shape.n == linear.n && shape.k == linear.k && shape.siluMulPairs == int(linear.siluMulPairs);
    };
    if (std::none_of(linears_.begin(), linears_.end(), same))
      linears_.push_back({linear.n, linear.k, linear.siluMulPairs ? 1 : 0});
  }
  for (const Instruction& instruction : readTape(program)) {
    if (instruction.opcode != Opcode::Attention) continue;
    const int32_t* a = instruction.args;
    const auto same = [&](const AttentionShape& shape) {
      return shape.numHeads == a[3] && shape.numKvHeads == a[4] && shape.headDim == a[5] &&
             shape.slidingWindow == a[7];
    };
    if (std::none_of(attentions_.begin(), attentions_.end(), same))
      attentions_.push_back({a[3], a[4], a[5], a[7]});
  }
  options_.threads = threads;
  options_.maxRows = sizes.maxNumTokens;
  options_.maxSeqs = sizes.maxNumSeqs;
  options_.maxSamples = sizes.logitsRows;
  options_.maxContext = sizes.maxModelLen;
  options_.vocabSize = program.vocabSize;
  options_.linears = linears_.data();
  options_.numLinears = static_cast<int32_t>(linears_.size());
  options_.attentions = attentions_.data();
  options_.numAttentions = static_cast<int32_t>(attentions_.size());
  options_.int8Activations = int8Activations;
}

size_t scratchBytes(const Ops& ops, const Program& program, const RunnerSizes& sizes) {
  return ops.scratchBytes ? ops.scratchBytes(&Shapes(program, sizes, 0).options()) : 0;
}

}  // namespace octavo
