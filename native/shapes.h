// The shapes in a program that a backend sizes its scratch memory by (ops.h, OpenOptions).
#pragma once
#include <vector>

#include "../kernels/ops.h"
#include "program.h"
#include "spec.h"

namespace octavo {

// What open() is told of the model and the step; points into itself, so it stays where it was made.
class Shapes {
 public:
  // `program` has been validated.
  Shapes(const Program& program, const RunnerSizes& sizes, int32_t threads, bool int8Activations = false);
  Shapes(const Shapes&) = delete;
  Shapes& operator=(const Shapes&) = delete;

  const OpenOptions& options() const { return options_; }

 private:
  std::vector<LinearShape> linears_;
  std::vector<AttentionShape> attentions_;
  OpenOptions options_{};
};

// What open() takes for these, beside weights and what alloc() is asked for.
size_t scratchBytes(const Ops& ops, const Program& program, const RunnerSizes& sizes);

}  // namespace octavo
