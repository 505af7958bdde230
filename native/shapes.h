// The shapes in a program that a backend sizes its scratch memory by (ops.h, OpenOptions).
#pragma once
#include <string>
#include <vector>

#include "../kernels/ops.h"
#include "program.h"
#include "spec.h"

namespace octavo {

// How linears are computed beside their shapes (OpenOptions).
struct LinearModes {
  bool int8Activations = false, useMatmulLibrary = false;
};

// What open() is told of the model and the step; points into itself, so it stays where it was made.
class Shapes {
 public:
  // `program` has been validated.
  Shapes(const Program& program, const RunnerSizes& sizes, int32_t threads, LinearModes modes = {});
  Shapes(const Shapes&) = delete;
  Shapes& operator=(const Shapes&) = delete;

  const OpenOptions& options() const { return options_; }

  // Puts tiles that were chosen by name into the options. Throws ERR_OCTAVO_ARGUMENT for a shape or a tile
  // that is not there, and for rows that do not ascend.
  void choose(const Ops& ops, const std::vector<TileSpec>& tiles);
  // "28672x4096 int4 g128 silu": the name of the linear with this index, different for each.
  std::string linearName(int32_t linear) const;
  // Index of the linear of that name, or -1.
  int32_t findLinear(const std::string& name) const;

 private:
  void addLinears(const Program& program, const RunnerSizes& sizes);

  std::vector<LinearShape> linears_;
  std::vector<AttentionShape> attentions_;
  std::vector<TileChoice> tiles_;
  OpenOptions options_{};
};

// What open() takes for these, beside weights and what alloc() is asked for.
size_t scratchBytes(const Ops& ops, const Program& program, const RunnerSizes& sizes, bool useMatmulLibrary);

// Index of the backend's tile of that name, or -1.
int32_t findTile(const Ops& ops, const std::string& name);

}  // namespace octavo
