// The lowered model: twin of src/program/program.ts (same opcodes, same arguments, same numbers). It is read
// and validated once, at load; after validateProgram() playback.cc may trust every index, width and shape in
// it.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "../kernels/ops.h"
#include "manifest.h"

namespace octavo {

constexpr int32_t kProgramVersion = 1;  // PROGRAM_VERSION

// Instruction = [opcode, argc, ...args]; the arguments are listed beside Opcode in program.ts.
enum class Opcode : int32_t {
  Embed = 1,
  RmsNorm = 2,
  Linear = 3,
  RopeStoreKv = 4,
  Attention = 5,
  SiluMul = 6,
  Add = 7,
  GatherRows = 8,
  Softcap = 9,
};

enum class RowClass : int32_t { Tokens, Samples };

struct BufferPlan {
  std::string name;
  RowClass rows = RowClass::Tokens;
  int32_t width = 0;
  int32_t column = 0;  // start within its row class: byte offset = column * maxRows * sizeof(activation)
};

struct RopePlan {
  std::vector<double> inverseFrequencies;  // [rotaryDim / 2]
  double scale = 1;
  bool interleaved = false;
};

struct KvLayerPlan {
  int32_t numKvHeads = 0;
  int32_t headDim = 0;
};

struct Program {
  int32_t version = kProgramVersion;
  std::string architecture;
  int32_t vocabSize = 0;
  std::vector<int32_t> code;
  int32_t headStart = 0;  // index into code; played once per slice of sample rows
  std::vector<BufferPlan> buffers;
  int32_t tokenColumns = 0;
  int32_t sampleColumns = 0;
  int32_t logits = 0;  // buffer [samples, vocabSize]
  std::vector<DensePlan> dense;
  std::vector<LinearPlan> linears;
  std::vector<RopePlan> ropes;
  std::vector<KvLayerPlan> kvLayers;
};

// One instruction as found on the tape; `args` points into Program::code.
struct Instruction {
  Opcode opcode;
  const int32_t* args;
  int32_t start;  // index of the opcode in the tape
};

// IEEE bits as written by floatBits().
float floatArgument(int32_t bits);

// The instructions in order. Throws ERR_OCTAVO_ARGUMENT where the tape is malformed.
std::vector<Instruction> readTape(const Program& program);

// Everything that playback relies on. Throws ERR_OCTAVO_ARGUMENT naming the field.
void validateProgram(const Program& program);

}  // namespace octavo
