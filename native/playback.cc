#include "playback.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "check.h"
#include "rope_table.h"

namespace octavo {

namespace {

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

}  // namespace

// On a device rows are computed together: more of them fill it better, and graphs have them all.
Playback::Playback(const Device& device, const RunnerSpec& spec)
    : device_(device),
      sizes_(spec.sizes),
      passRows_(device.ops.describe ? sizes_.maxNumTokens : std::min(sizes_.maxNumTokens, kPassRows)) {
  takeKvPages(spec);
  takeWorkspace(spec.program);
  takeRopeTables(spec.program.ropes);
}

void Playback::takeKvPages(const RunnerSpec& spec) {
  for (size_t i = 0; i < spec.program.kvLayers.size(); i++) {
    const KvLayerPlan& plan = spec.program.kvLayers[i];
    const std::string purpose = concat("KV cache of layer ", i);
    const int32_t headDim = device_.ops.pageHeadDim(plan.headDim);
    check(headDim >= plan.headDim, concat("program.kvLayers[", i, "].headDim"),
          concat("a head size that ", device_.ops.name, " has kernels for").c_str(), plan.headDim);
    const size_t bytes = checkedProduct(
        purpose, {sizes_.numBlocks, 2, plan.numKvHeads, int64_t(kvHeadBytes(spec.kvCacheDtype, headDim))});
    kvLayers_.push_back({device_.alloc(bytes, purpose), plan.numKvHeads, plan.headDim});
    kvCacheBytes_ += bytes;
  }
}

void Playback::takeWorkspace(const Program& program) {
  const std::string purpose = "activations";
  const int64_t element = static_cast<int64_t>(dtypeSize(device_.ops.activation));
  const size_t tokens = checkedProduct(purpose, {program.tokenColumns, passRows_, element});
  const size_t samples =
      checkedProduct(purpose, {program.sampleColumns, sizes_.logitsRows, int64_t(sizeof(float))});
  tokenArea_ = static_cast<char*>(device_.alloc(tokens, purpose));
  sampleArea_ = static_cast<char*>(device_.alloc(samples, purpose));
  workspaceBytes_ += tokens + samples;
}

void Playback::takeRopeTables(const std::vector<RopePlan>& ropes) {
  for (size_t i = 0; i < ropes.size(); i++) {
    const RopePlan& plan = ropes[i];
    const int64_t half = static_cast<int64_t>(plan.inverseFrequencies.size());
    const std::string purpose = concat("rope table ", i);
    const size_t bytes = checkedProduct(purpose, {sizes_.maxModelLen, 2 * half, int64_t(sizeof(float))});
    const std::vector<float> table = ropeTable(plan, sizes_.maxModelLen);
    void* memory = device_.alloc(bytes, purpose);
    device_.expect(device_.ops.upload(device_.context, memory, table.data(), bytes), "upload");
    ropes_.push_back(
        {static_cast<const float*>(memory), static_cast<int32_t>(2 * half), plan.interleaved ? 1 : 0});
    workspaceBytes_ += bytes;
  }
}

Rows Playback::rowsOf(const Program& program, int32_t buffer, int32_t column) const {
  const BufferPlan& plan = program.buffers[buffer];
  const bool tokens = plan.rows == RowClass::Tokens;
  const int64_t maxRows = tokens ? passRows_ : sizes_.logitsRows;
  const int64_t element =
      buffer == program.logits ? sizeof(float) : static_cast<int64_t>(dtypeSize(device_.ops.activation));
  const int64_t columnBytes = tokens ? element : sizeof(float);
  char* area = (tokens ? tokenArea_ : sampleArea_) + plan.column * maxRows * columnBytes;
  // Buffers are planned in whole groups of 16 columns, so a stride rounded up to 8 stays inside.
  const int64_t stride = element == sizeof(float) ? plan.width : (plan.width + 7) / 8 * 8;
  if (element != sizeof(float))
    check(column % 8 == 0, concat("program.buffers[", buffer, "]"), "outputs that begin on a multiple of 8",
          column);
  return {area + column * element, stride};
}

// With 16-bit activations the logits alone are f32: a linear writes them, a softcap may follow.
void Playback::checkLogits(const Program& program, const Instruction& instruction) const {
  if (device_.ops.activation == DType::F32) return;
  const bool softcap = instruction.opcode == Opcode::Softcap, linear = instruction.opcode == Opcode::Linear;
  const bool writesLogits = instruction.args[0] == program.logits;
  const bool fits = linear ? instruction.args[2] != program.logits &&
                                 (!writesLogits || instruction.args[4] == int32_t(Epilogue::None))
                           : writesLogits == softcap;
  check(fits, concat("program.code[", instruction.start, "]"),
        concat("logits that a plain linear or a softcap writes, as ", device_.ops.name, " has them in f32")
            .c_str(),
        static_cast<int32_t>(instruction.opcode));
}

void Playback::bind(const Program& program, LoadedWeights weights) {
  tables_ = std::move(weights.tables);
  for (const Instruction& instruction : readTape(program)) {
    checkLogits(program, instruction);
    std::vector<Arguments>& tape = instruction.start < program.headStart ? body_ : head_;
    tape.push_back(bindInstruction(program, weights, instruction));
  }
  logits_ = static_cast<const float*>(rowsOf(program, program.logits).data);
  if (passRows_ < sizes_.maxNumTokens) takeKeptRows();
}

// Nothing but gatherRows reads tokens' rows in the head.
void Playback::takeKeptRows() {
  passes_ = std::make_unique<Passes>(sizes_);
  keptIndex_.resize(size_t(sizes_.maxNumSamples));
  std::iota(keptIndex_.begin(), keptIndex_.end(), 0);
  headOfKept_ = head_;
  for (Arguments& arguments : headOfKept_) {
    auto* gather = std::get_if<GatherRowsArgs>(&arguments);
    if (!gather) continue;
    auto known = std::find_if(kept_.begin(), kept_.end(),
                              [&](const KeptRows& rows) { return rows.from.data == gather->in.data; });
    if (known == kept_.end()) {
      const std::string purpose = "rows to sample";
      const size_t bytes =
          checkedProduct(purpose, {gather->width, sizes_.maxNumSamples, int64_t(sizeof(float))});
      auto* memory = static_cast<char*>(device_.alloc(bytes, purpose));
      workspaceBytes_ += bytes;
      known = kept_.insert(kept_.end(), {gather->in, memory, size_t(gather->width) * sizeof(float)});
    }
    gather->in = {known->to, gather->width};
  }
}

// The order of arguments is documented beside Opcode in src/program/program.ts.
Playback::Arguments Playback::bindInstruction(const Program& program, const LoadedWeights& weights,
                                              const Instruction& instruction) const {
  const int32_t* a = instruction.args;
  auto rows = [&](int32_t buffer, int32_t column = 0) { return rowsOf(program, buffer, column); };
  const int32_t width = program.buffers[a[0]].width;  // of the output (or the only) buffer
  switch (instruction.opcode) {
    case Opcode::Embed:
      return EmbedArgs{nullptr, weights.dense[a[1]], rows(a[0]), 0, width, floatArgument(a[2])};
    case Opcode::RmsNorm:
      return RmsNormArgs{rows(a[1]),
                         a[4] < 0 ? Rows{nullptr, 0} : rows(a[4]),
                         weights.dense[a[2]],
                         rows(a[0]),
                         0,
                         width,
                         floatArgument(a[3])};
    case Opcode::Linear:
      return LinearArgs{rows(a[2]),
                        rows(a[0], a[1]),
                        weights.linears[a[3]],
                        0,
                        static_cast<Epilogue>(a[4]),
                        a[0] == program.logits ? 1 : 0};
    case Opcode::RopeStoreKv:
      return bindRopeStoreKv(program, weights, a);
    case Opcode::Attention:
      return bindAttention(program, a);
    case Opcode::SiluMul:
      return SiluMulArgs{rows(a[1]), rows(a[0]), 0, width};
    case Opcode::Add:
      return AddArgs{rows(a[1]), rows(a[2]), rows(a[0]), 0, width};
    case Opcode::GatherRows:
      return GatherRowsArgs{rows(a[1]), nullptr, rows(a[0]), 0, width};
    case Opcode::Softcap:
      return SoftcapArgs{rows(a[0]), 0, width, floatArgument(a[1])};
  }
  fail(code::kArgument, "unknown opcode ", static_cast<int32_t>(instruction.opcode));
}

Playback::Arguments Playback::bindRopeStoreKv(const Program& program, const LoadedWeights& weights,
                                              const int32_t* a) const {
  RopeStoreKvArgs args{};
  args.qkv = rowsOf(program, a[0]);
  if (a[2] >= 0) {
    args.cosSin = ropes_[a[2]].cosSin;
    args.rotaryDim = ropes_[a[2]].rotaryDim;
    args.interleaved = ropes_[a[2]].interleaved;
  }
  args.numHeads = a[3];
  args.numKvHeads = a[4];
  args.headDim = a[5];
  args.qNorm = a[6] < 0 ? nullptr : weights.dense[a[6]];
  args.kNorm = a[7] < 0 ? nullptr : weights.dense[a[7]];
  args.normEps = floatArgument(a[8]);
  args.kv = kvLayers_[a[1]];
  return args;
}

Playback::Arguments Playback::bindAttention(const Program& program, const int32_t* a) const {
  AttentionArgs args{};
  args.out = rowsOf(program, a[0]);
  args.q = rowsOf(program, a[1]);
  args.maxBlocksPerSeq = sizes_.maxBlocksPerSeq;
  args.numHeads = a[3];
  args.numKvHeads = a[4];
  args.headDim = a[5];
  args.scale = floatArgument(a[6]);
  args.slidingWindow = a[7];
  args.softcap = floatArgument(a[8]);
  args.kv = kvLayers_[a[2]];
  return args;
}

int Playback::play(const Arguments& arguments, const StepInputs& step, const int32_t* sampleRows,
                   int32_t rows) const {
  const Ops& ops = device_.ops;
  Context* context = device_.context;
  auto withRows = [&](auto args) {
    args.rows = rows;
    return args;
  };
  return std::visit(Overloaded{
                        [&](const EmbedArgs& fixed) { return embed(fixed, step.ids, rows); },
                        [&](const RmsNormArgs& fixed) {
                          const RmsNormArgs args = withRows(fixed);
                          return ops.rmsNorm(context, &args);
                        },
                        [&](const LinearArgs& fixed) {
                          const LinearArgs args = withRows(fixed);
                          return ops.linear(context, &args);
                        },
                        [&](const RopeStoreKvArgs& fixed) {
                          RopeStoreKvArgs args = withRows(fixed);
                          args.positions = step.positions;
                          args.slotMapping = step.slotMapping;
                          return ops.ropeStoreKv(context, &args);
                        },
                        [&](const AttentionArgs& fixed) {
                          AttentionArgs args = withRows(fixed);
                          args.numSeqs = step.numSeqs;
                          args.queryStart = step.queryStart;
                          args.contextLens = step.contextLens;
                          args.blockTables = step.blockTables;
                          return ops.attention(context, &args);
                        },
                        [&](const SiluMulArgs& fixed) {
                          const SiluMulArgs args = withRows(fixed);
                          return ops.siluMul(context, &args);
                        },
                        [&](const AddArgs& fixed) {
                          const AddArgs args = withRows(fixed);
                          return ops.add(context, &args);
                        },
                        [&](const GatherRowsArgs& fixed) {
                          GatherRowsArgs args = withRows(fixed);
                          args.index = sampleRows;
                          return ops.gatherRows(context, &args);
                        },
                        [&](const SoftcapArgs& fixed) {
                          const SoftcapArgs args = withRows(fixed);
                          return ops.softcap(context, &args);
                        },
                    },
                    arguments);
}

// As many rows at once as may be read of a table in a file: a step of thousands would have all of it resident.
int Playback::embed(EmbedArgs args, const int32_t* ids, int32_t rows) const {
  auto* out = static_cast<char*>(args.out.data);
  const auto rowBytes = args.out.stride * static_cast<int64_t>(dtypeSize(device_.ops.activation));
  const int32_t together = tables_.rowsAtOnce(rows);
  for (int32_t first = 0; first < rows; first += together) {
    args.ids = ids + first;
    args.out.data = out + first * rowBytes;
    args.rows = std::min(together, rows - first);
    if (const int status = device_.ops.embed(device_.context, &args)) return status;
    tables_.noteReads(together);  // the last part counts as a whole one: nothing stays after a long step
  }
  return 0;
}

void Playback::playAll(const std::vector<Arguments>& tape, const StepInputs& step, const int32_t* sampleRows,
                       int32_t rows) const {
  for (const Arguments& arguments : tape) device_.expect(play(arguments, step, sampleRows, rows), "op");
}

void Playback::playBody(const StepInputs& step, const int32_t* sampleRows, int32_t numSamples) const {
  if (step.numTokens <= passRows_) return playAll(body_, step, nullptr, step.numTokens);
  for (int32_t first = 0; first < step.numTokens; first += passRows_) {
    const StepInputs part = passes_->part(step, first, std::min(passRows_, step.numTokens - first));
    playAll(body_, part, nullptr, part.numTokens);
    keepRows(sampleRows, numSamples, first, part.numTokens);
  }
}

// Those of a pass over rows [first, first + count).
void Playback::keepRows(const int32_t* sampleRows, int32_t numSamples, int32_t first, int32_t count) const {
  for (int32_t i = 0; i < numSamples; i++) {
    const int64_t row = int64_t(sampleRows[i]) - first;
    if (row < 0 || row >= count) continue;
    for (const KeptRows& kept : kept_)
      std::memcpy(kept.to + i * kept.rowBytes, static_cast<const float*>(kept.from.data) + row * kept.from.stride,
                  kept.rowBytes);
  }
}

void Playback::playHead(const StepInputs& step, const int32_t* sampleRows, int32_t first,
                        int32_t count) const {
  if (step.numTokens <= passRows_) {
    playAll(head_, step, sampleRows + first, count);
  } else {
    playAll(headOfKept_, step, keptIndex_.data() + first, count);
  }
}

}  // namespace octavo
