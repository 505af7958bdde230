#include "program.h"

#include <cstring>

#include "check.h"

namespace octavo {

namespace {

constexpr int32_t kMaxWidth = 1 << 28;  // activations per row; far above any model, far below overflow
constexpr int32_t kMaxHeadDim = 1024;
constexpr int32_t kColumnAlignment =
    16;  // columns: 64 bytes of f32, so that every buffer starts on a cache line

struct OpcodeInfo {
  const char* name;
  int32_t argc;
};

const OpcodeInfo* findOpcode(int32_t opcode) {
  static const OpcodeInfo kInfo[] = {{"embed", 3},       {"rmsNorm", 5},    {"linear", 5},
                                     {"ropeStoreKv", 9}, {"attention", 9},  {"siluMul", 2},
                                     {"add", 3},         {"gatherRows", 2}, {"softcap", 2}};
  if (opcode < 1 || opcode > static_cast<int32_t>(std::size(kInfo))) return nullptr;
  return &kInfo[opcode - 1];
}

// Checks one instruction at a time against the plans it names.
class CodeChecker {
 public:
  explicit CodeChecker(const Program& program) : program_(program) {}

  void run() {
    bool headIsFirst = true, logitsWritten = false;
    for (const Instruction& instruction : readTape(program_)) {
      inHead_ = instruction.start >= program_.headStart;
      where_ = concat("program.code[", instruction.start, "] (",
                      findOpcode(int32_t(instruction.opcode))->name, ")");
      if (inHead_ && headIsFirst) {
        check(instruction.opcode == Opcode::GatherRows, where_,
              "gatherRows as the first instruction of the head",
              findOpcode(int32_t(instruction.opcode))->name);
        headIsFirst = false;
      }
      checkInstruction(instruction.opcode, instruction.args);
      if (inHead_ && written_ == program_.logits) logitsWritten = true;
    }
    check(logitsWritten, "program.logits", "a buffer that the head writes", program_.logits);
  }

 private:
  void checkInstruction(Opcode opcode, const int32_t* a) {
    switch (opcode) {
      case Opcode::Embed:
        return checkEmbed(a);
      case Opcode::RmsNorm:
        return checkRmsNorm(a);
      case Opcode::Linear:
        return checkLinear(a);
      case Opcode::RopeStoreKv:
        return checkRopeStoreKv(a);
      case Opcode::Attention:
        return checkAttention(a);
      case Opcode::SiluMul:
        return checkSiluMul(a);
      case Opcode::Add:
        return checkAdd(a);
      case Opcode::GatherRows:
        return checkGatherRows(a);
      case Opcode::Softcap:
        return checkSoftcap(a);
    }
  }

  // The buffer of an argument, in the row class of this half of the tape unless said otherwise.
  const BufferPlan& buffer(int32_t index, const char* name) {
    return buffer(index, name, inHead_ ? RowClass::Samples : RowClass::Tokens);
  }

  const BufferPlan& buffer(int32_t index, const char* name, RowClass rows) {
    checkRange(index, 0, int64_t(program_.buffers.size()) - 1, where_ + "." + name);
    const BufferPlan& plan = program_.buffers[index];
    check(plan.rows == rows, where_ + "." + name,
          rows == RowClass::Tokens ? "a token buffer" : "a sample buffer", plan.name);
    return plan;
  }

  const TensorSource& dense(int32_t index, const char* name) {
    checkRange(index, 0, int64_t(program_.dense.size()) - 1, where_ + "." + name);
    return program_.dense[index].source;
  }

  void vector(int32_t index, int32_t width, const char* name) {
    const TensorSource& source = dense(index, name);
    check(source.shape.size() == 1 && source.shape[0] == width, where_ + "." + name,
          concat("a vector of ", width).c_str(), concat(source.name, " of ", source.cols()));
  }

  void width(const BufferPlan& plan, int64_t expected, const char* name) {
    check(plan.width == expected, where_ + "." + name, concat("a buffer of width ", expected).c_str(),
          concat(plan.name, " of width ", plan.width));
  }

  void disjoint(const BufferPlan& a, const BufferPlan& b, const char* names) {
    const bool apart = a.rows != b.rows || a.column + a.width <= b.column || b.column + b.width <= a.column;
    check(apart, where_ + "." + names, "buffers that do not overlap", concat(a.name, " and ", b.name));
  }

  // The same memory or none in common: what an elementwise op may write in place.
  void sameOrDisjoint(const BufferPlan& a, const BufferPlan& b, const char* names) {
    if (a.rows != b.rows || a.column != b.column || a.width != b.width) disjoint(a, b, names);
  }

  float number(int32_t bits, const char* name, float low) {
    const float value = floatArgument(bits);
    check(std::isfinite(value) && value >= low, where_ + "." + name,
          concat("a finite number >= ", low).c_str(), value);
    return value;
  }

  void bodyOnly() { check(!inHead_, where_, "an instruction of the body", "one of the head"); }

  void checkEmbed(const int32_t* a) {
    bodyOnly();
    const BufferPlan& out = buffer(a[0], "out");
    const TensorSource& table = dense(a[1], "table");
    check(table.shape.size() == 2 && table.shape[0] == program_.vocabSize && table.shape[1] == out.width,
          where_ + ".table", concat("shape [", program_.vocabSize, ", ", out.width, "]").c_str(),
          concat("[", table.rows(), ", ", table.cols(), "]"));
    number(a[2], "scale", std::numeric_limits<float>::lowest());
    written_ = a[0];
  }

  void checkRmsNorm(const int32_t* a) {
    const BufferPlan& out = buffer(a[0], "out");
    const BufferPlan& in = buffer(a[1], "in");
    width(in, out.width, "in");
    sameOrDisjoint(out, in, "out");
    vector(a[2], out.width, "weight");
    number(a[3], "eps", 0);
    if (a[4] != -1) {
      const BufferPlan& residual = buffer(a[4], "residual");
      width(residual, out.width, "residual");
      disjoint(residual, out, "residual");
      disjoint(residual, in, "residual");
    }
    written_ = a[0];
  }

  void checkLinear(const int32_t* a) {
    const BufferPlan& out = buffer(a[0], "out");
    const BufferPlan& in = buffer(a[2], "in");
    checkRange(a[3], 0, int64_t(program_.linears.size()) - 1, where_ + ".linear");
    const LinearPlan& linear = program_.linears[a[3]];
    width(in, linear.k, "in");
    checkRange(a[4], 0, 2, where_ + ".epilogue");
    const bool pairs = a[4] == static_cast<int32_t>(Epilogue::SiluMul);
    check(pairs == linear.siluMulPairs, where_ + ".epilogue", "siluMul exactly with a linear of siluMulPairs",
          a[4]);
    const int32_t outputs = pairs ? linear.n / 2 : linear.n;
    checkRange(a[1], 0, int64_t(out.width) - outputs, where_ + ".outColumn");
    disjoint(out, in, "out");
    written_ = a[0];
  }

  void checkHeads(const BufferPlan& qkv, int32_t kvLayer, int32_t heads, int32_t kvHeads, int32_t headDim) {
    checkRange(kvLayer, 0, int64_t(program_.kvLayers.size()) - 1, where_ + ".kvLayer");
    const KvLayerPlan& layer = program_.kvLayers[kvLayer];
    check(layer.numKvHeads == kvHeads && layer.headDim == headDim, where_ + ".kvLayer",
          concat("a layer of ", kvHeads, " heads of ", headDim).c_str(),
          concat(layer.numKvHeads, " heads of ", layer.headDim));
    checkRange(heads, 1, kMaxWidth / headDim, where_ + ".numHeads");
    check(heads % kvHeads == 0, where_ + ".numHeads", "a multiple of numKvHeads", heads);
    width(qkv, (int64_t(heads) + 2 * int64_t(kvHeads)) * headDim, "qkv");
  }

  void checkRopeStoreKv(const int32_t* a) {
    bodyOnly();
    const BufferPlan& qkv = buffer(a[0], "qkv");
    checkHeads(qkv, a[1], a[3], a[4], a[5]);
    checkRange(a[2], -1, int64_t(program_.ropes.size()) - 1, where_ + ".rope");
    if (a[2] >= 0)
      checkRange(int64_t(program_.ropes[a[2]].inverseFrequencies.size()) * 2, 2, a[5],
                 where_ + ".rope (rotaryDim)");
    if (a[6] != -1) vector(a[6], a[5], "qNorm");
    if (a[7] != -1) vector(a[7], a[5], "kNorm");
    number(a[8], "eps", 0);
    written_ = a[0];
  }

  void checkAttention(const int32_t* a) {
    bodyOnly();
    const BufferPlan& out = buffer(a[0], "out");
    const BufferPlan& qkv = buffer(a[1], "qkv");
    checkHeads(qkv, a[2], a[3], a[4], a[5]);
    width(out, int64_t(a[3]) * a[5], "out");
    number(a[6], "scale", std::numeric_limits<float>::lowest());
    checkRange(a[7], 0, std::numeric_limits<int32_t>::max(), where_ + ".slidingWindow");
    number(a[8], "softcap", 0);
    disjoint(out, qkv, "out");
    written_ = a[0];
  }

  void checkSiluMul(const int32_t* a) {
    const BufferPlan& out = buffer(a[0], "out");
    const BufferPlan& in = buffer(a[1], "in");
    width(in, int64_t(out.width) * 2, "in");
    disjoint(out, in, "out");
    written_ = a[0];
  }

  void checkAdd(const int32_t* a) {
    const BufferPlan& out = buffer(a[0], "out");
    for (int i = 1; i <= 2; i++) {
      const BufferPlan& in = buffer(a[i], i == 1 ? "a" : "b");
      width(in, out.width, i == 1 ? "a" : "b");
      sameOrDisjoint(out, in, "out");
    }
    written_ = a[0];
  }

  void checkGatherRows(const int32_t* a) {
    check(inHead_, where_, "an instruction of the head", "one of the body");
    const BufferPlan& out = buffer(a[0], "out");
    width(buffer(a[1], "in", RowClass::Tokens), out.width, "in");
    written_ = a[0];
  }

  void checkSoftcap(const int32_t* a) {
    buffer(a[0], "x");
    const float cap = number(a[1], "cap", 0);
    check(cap > 0, where_ + ".cap", "a number > 0", cap);
    written_ = a[0];
  }

  const Program& program_;
  std::string where_;
  bool inHead_ = false;
  int32_t written_ = -1;  // buffer that the instruction writes
};

void validateBuffers(const Program& program) {
  checkRange(program.tokenColumns, 0, kMaxWidth, "program.tokenColumns");
  checkRange(program.sampleColumns, 0, kMaxWidth, "program.sampleColumns");
  for (size_t i = 0; i < program.buffers.size(); i++) {
    const BufferPlan& plan = program.buffers[i];
    const std::string where = concat("program.buffers[", i, "]");
    checkRange(plan.width, 1, kMaxWidth, where + ".width");
    const int64_t columns = plan.rows == RowClass::Tokens ? program.tokenColumns : program.sampleColumns;
    checkRange(plan.column, 0, columns - plan.width, where + ".column");
    check(plan.column % kColumnAlignment == 0, where + ".column", "a multiple of 16", plan.column);
  }
  checkRange(program.logits, 0, int64_t(program.buffers.size()) - 1, "program.logits");
  const BufferPlan& logits = program.buffers[program.logits];
  check(logits.rows == RowClass::Samples && logits.width == program.vocabSize, "program.logits",
        "a sample buffer of width vocabSize", logits.name);
}

void validateRopesAndLayers(const Program& program) {
  for (size_t i = 0; i < program.ropes.size(); i++) {
    const RopePlan& rope = program.ropes[i];
    const std::string where = concat("program.ropes[", i, "]");
    checkRange(int64_t(rope.inverseFrequencies.size()), 1, kMaxHeadDim / 2,
               where + ".inverseFrequencies.length");
    for (size_t j = 0; j < rope.inverseFrequencies.size(); j++)
      check(std::isfinite(rope.inverseFrequencies[j]), concat(where, ".inverseFrequencies[", j, "]"),
            "a finite number", rope.inverseFrequencies[j]);
    check(std::isfinite(rope.scale), where + ".scale", "a finite number", rope.scale);
  }
  for (size_t i = 0; i < program.kvLayers.size(); i++) {
    const std::string where = concat("program.kvLayers[", i, "]");
    checkRange(program.kvLayers[i].headDim, 1, kMaxHeadDim, where + ".headDim");
    checkRange(program.kvLayers[i].numKvHeads, 1, kMaxWidth / kMaxHeadDim, where + ".numKvHeads");
  }
}

}  // namespace

float floatArgument(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

std::vector<Instruction> readTape(const Program& program) {
  const int64_t length = static_cast<int64_t>(program.code.size());
  std::vector<Instruction> instructions;
  bool headFound = false;
  for (int64_t at = 0; at < length;) {
    const std::string where = concat("program.code[", at, "]");
    check(at + 1 < length, where, "an opcode and its argument count", "the end of the tape");
    const OpcodeInfo* info = findOpcode(program.code[at]);
    check(info != nullptr, where, "a known opcode", program.code[at]);
    const int32_t argc = program.code[at + 1];
    if (argc != info->argc) failArgument(where, concat(info->argc, " arguments of ", info->name), argc);
    check(at + 2 + argc <= length, where, "its arguments", "the end of the tape");
    headFound = headFound || at == program.headStart;
    instructions.push_back(
        {static_cast<Opcode>(program.code[at]), &program.code[at] + 2, static_cast<int32_t>(at)});
    at += 2 + argc;
  }
  check(headFound, "program.headStart", "the start of an instruction", program.headStart);
  return instructions;
}

void validateProgram(const Program& program) {
  check(program.version == kProgramVersion, "program.version", concat(kProgramVersion).c_str(),
        program.version);
  checkRange(program.vocabSize, 1, kMaxWidth, "program.vocabSize");
  validateBuffers(program);
  validateRopesAndLayers(program);
  for (size_t i = 0; i < program.dense.size(); i++)
    validateDense(program.dense[i], concat("program.dense[", i, "]"));
  for (size_t i = 0; i < program.linears.size(); i++)
    validateLinear(program.linears[i], concat("program.linears[", i, "]"));
  CodeChecker(program).run();
}

}  // namespace octavo
