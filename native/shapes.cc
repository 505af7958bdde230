#include "shapes.h"

#include <algorithm>
#include <limits>

#include "check.h"

namespace octavo {

Shapes::Shapes(const Program& program, const RunnerSizes& sizes, int32_t threads, LinearModes modes) {
  addLinears(program, sizes);
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
  options_.int8Activations = modes.int8Activations ? 1 : 0;
  options_.useMatmulLibrary = modes.useMatmulLibrary ? 1 : 0;
}

// Each shape once, with the rows of whoever gives it most: a step's, or in the head the logits'.
void Shapes::addLinears(const Program& program, const RunnerSizes& sizes) {
  for (const Instruction& instruction : readTape(program)) {
    if (instruction.opcode != Opcode::Linear) continue;
    const LinearPlan& plan = program.linears[instruction.args[3]];
    const LinearShape shape{plan.n, plan.k, plan.siluMulPairs ? 1 : 0, plan.groupSize,
                            instruction.start < program.headStart ? sizes.maxNumTokens : sizes.logitsRows};
    const auto same = [&](const LinearShape& other) {
      return other.n == shape.n && other.k == shape.k && other.siluMulPairs == shape.siluMulPairs &&
             other.groupSize == shape.groupSize;
    };
    const auto known = std::find_if(linears_.begin(), linears_.end(), same);
    if (known == linears_.end()) {
      linears_.push_back(shape);
    } else {
      known->maxRows = std::max(known->maxRows, shape.maxRows);
    }
  }
}

std::string Shapes::linearName(int32_t linear) const {
  const LinearShape& shape = linears_[linear];
  const std::string scheme = shape.groupSize > 0 ? concat("int4 g", shape.groupSize) : "f16";
  return concat(shape.n, "x", shape.k, " ", scheme, shape.siluMulPairs ? " silu" : "");
}

int32_t Shapes::findLinear(const std::string& name) const {
  for (int32_t i = 0; i < options_.numLinears; i++)
    if (linearName(i) == name) return i;
  return -1;
}

void Shapes::choose(const Ops& ops, const std::vector<TileSpec>& tiles) {
  for (size_t i = 0; i < tiles.size(); i++) {
    const TileSpec& spec = tiles[i];
    const TileChoice choice{findLinear(spec.shape), spec.mostRows, findTile(ops, spec.tile)};
    const std::string where = concat("spec.tiles[", i, "]");
    check(choice.linear >= 0, where + ".shape", "a shape of the program's linears", "\"" + spec.shape + "\"");
    check(choice.tile >= 0, where + ".tile", concat("a tile of ", ops.name).c_str(), "\"" + spec.tile + "\"");
    checkRange(spec.mostRows, 1, std::numeric_limits<int32_t>::max(), where + ".mostRows");
    for (const TileChoice& earlier : tiles_)
      check(earlier.linear != choice.linear || earlier.mostRows < choice.mostRows, where + ".mostRows",
            "more rows than the shape's entry before it", choice.mostRows);
    tiles_.push_back(choice);
  }
  options_.tiles = tiles_.data();
  options_.numTiles = static_cast<int32_t>(tiles_.size());
}

size_t scratchBytes(const Ops& ops, const Program& program, const RunnerSizes& sizes, bool useMatmulLibrary) {
  return ops.scratchBytes ? ops.scratchBytes(&Shapes(program, sizes, 0, {false, useMatmulLibrary}).options()) : 0;
}

int32_t findTile(const Ops& ops, const std::string& name) {
  for (int32_t tile = 0; ops.tileName && ops.tileName(tile); tile++)
    if (name == ops.tileName(tile)) return tile;
  return -1;
}

}  // namespace octavo
