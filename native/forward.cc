#include "forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "../kernels/cpu/cpu.h"
#include "../kernels/half.h"
#include "check.h"
#include "rope_table.h"

namespace octavo {

namespace {

constexpr int32_t kMaxHeadDim = 1024;
constexpr int32_t kMaxHeads = 1 << 16;
// Rows of gate and up that are brought side by side at a time.
constexpr int64_t kPairRows = 64;

void checkSize(FloatView view, int64_t rows, int64_t width, const std::string& where) {
  if (view.size != rows * width) failArgument(where, concat(rows, " rows of ", width), view.size);
}

void checkFinite(double value, const std::string& where) {
  check(std::isfinite(value), where, "a finite number", value);
}

Rows rowsAt(FloatView view, int64_t width) {
  return {view.data, width};
}

void checkSpec(const AttentionSpec& spec) {
  const std::string where = "attention: spec";
  checkRange(spec.headDim, 1, kMaxHeadDim, where + ".headDim");
  checkRange(spec.numKvHeads, 1, kMaxHeads, where + ".numKvHeads");
  checkRange(spec.numHeads, 1, kMaxHeads, where + ".numHeads");
  check(spec.numHeads % spec.numKvHeads == 0, where + ".numHeads", "a multiple of numKvHeads", spec.numHeads);
  if (spec.hasRope) {
    const auto half = static_cast<int64_t>(spec.rope.inverseFrequencies.size());
    checkRange(2 * half, 2, spec.headDim, where + ".rope (rotaryDim)");
    for (double frequency : spec.rope.inverseFrequencies) checkFinite(frequency, where + ".rope");
    checkFinite(spec.rope.scale, where + ".rope.scale");
  }
  for (const TensorSource* norm : {&spec.qNorm, &spec.kNorm})
    if (norm->present)
      check(norm->shape == std::vector<int64_t>{spec.headDim}, where + ": " + norm->name, "[headDim]",
            norm->cols());
  for (double value : {spec.normEps, spec.scale, spec.softcap}) checkFinite(value, where);
  checkRange(spec.slidingWindow, 0, std::numeric_limits<int32_t>::max(), where + ".slidingWindow");
}

// Where the rows of whole sequences lie in a cache that holds nothing else.
struct Ragged {
  std::vector<int32_t> positions, slotMapping;  // [rows]
  std::vector<int32_t> queryStart, contextLens,
      blocks;  // [sequences + 1], [sequences], [sequences, maxBlocks]
  int32_t maxBlocks = 0, numBlocks = 0;

  explicit Ragged(const std::vector<int32_t>& lengths) : queryStart{0}, contextLens(lengths) {
    maxBlocks = (*std::max_element(lengths.begin(), lengths.end()) + kBlockSize - 1) / kBlockSize;
    for (int32_t length : lengths) {
      const int32_t first = numBlocks;
      numBlocks += (length + kBlockSize - 1) / kBlockSize;
      for (int32_t i = 0; i < length; i++) {
        positions.push_back(i);
        slotMapping.push_back(first * kBlockSize + i);
      }
      for (int32_t i = 0; i < maxBlocks; i++) blocks.push_back(std::min(first + i, numBlocks - 1));
      queryStart.push_back(queryStart.back() + length);
    }
  }
};

void copyColumns(FloatView from, int64_t width, std::vector<float>* to, int64_t stride, int64_t column) {
  for (int64_t row = 0; row < from.size / width; row++)
    std::copy_n(from.data + row * width, width, to->data() + row * stride + column);
}

}  // namespace

int64_t rowsOf(FloatView view, int64_t width, const std::string& where) {
  if (width < 1 || view.size < width || view.size % width != 0)
    failArgument(where, concat("whole rows of ", width), concat(view.size, " values"));
  checkRange(view.size / width, 1, std::numeric_limits<int32_t>::max() / kBlockSize, where + ": rows");
  return view.size / width;
}

Forward::Forward(const std::vector<std::string>& files, int32_t threads)
    : threads_(threads > 0 ? threads : physicalCores()) {
  checkRange(threads, 0, kMaxThreads, "threads");
  for (const std::string& path : files) files_.push_back(std::make_unique<MappedFile>(path));
}

std::unique_ptr<Device> Forward::open(int64_t rows, int64_t sequences, int64_t context) const {
  const Ops& ops = findBackend("cpu");
  OpenOptions options{};
  options.threads = threads_;
  options.maxRows = static_cast<int32_t>(rows);
  options.maxSeqs = static_cast<int32_t>(sequences);
  options.maxSamples = 1;
  options.maxContext = static_cast<int32_t>(context);
  options.vocabSize = 1;
  char error[256] = "";
  Context* opened = ops.open(&options, error, sizeof error);
  if (!opened) fail(code::kMemory, error);
  return std::make_unique<Device>(ops, opened);
}

HostTensor Forward::find(const TensorSource& tensor, const std::string& where) const {
  check(tensor.present, where, "a tensor", "null");
  validateTensor(tensor, where);
  checkRange(tensor.file, 0, int64_t(files_.size()) - 1, where + ".file");
  return {files_[tensor.file]->tensorData(tensor), tensor.dtype, tensor.rows(), tensor.cols()};
}

const Dense* Forward::loadDense(const Device& device, const TensorSource& tensor, bool keep,
                                const std::string& where) const {
  check(tensor.dtype != DType::I32, where, "a float tensor", "i32");
  const HostTensor host = find(tensor, where);
  const Dense* dense = device.ops.loadDense(device.context, &host, keep ? 1 : 0);
  if (!dense) fail(code::kMemory, tensor.name, ": ", device.lastError());
  return dense;
}

int64_t Forward::readFloats(const TensorSource& tensor, FloatView out) const {
  const HostTensor host = find(tensor, "readFloats: tensor");
  check(tensor.dtype != DType::I32, "readFloats: " + tensor.name, "a float tensor", "i32");
  checkSize(out, host.rows, host.cols, "readFloats: out");
  int64_t bad = -1;
  for (int64_t i = 0; i < out.size; i++) {
    out.data[i] = readFloat(host.data, host.dtype, i);
    if (bad < 0 && !std::isfinite(out.data[i])) bad = i;
  }
  // Large tensors are read seldom: they need not stay in this process's memory.
  files_[tensor.file]->discard(tensor);
  return bad;
}

void Forward::embed(const TensorSource& table, float scale, const std::vector<int32_t>& ids,
                    FloatView out) const {
  checkFinite(scale, "embed: scale");
  const HostTensor host = find(table, "embed: table");
  const int64_t rows = rowsOf(out, host.cols, "embed: out");
  check(int64_t(ids.size()) == rows, "embed: ids", concat(rows, " of them").c_str(), ids.size());
  for (int32_t id : ids) checkRange(id, 0, host.rows - 1, "embed: ids");
  const auto device = open(rows);
  const EmbedArgs args{ids.data(),
                       loadDense(*device, table, true, "embed: table"),
                       rowsAt(out, host.cols),
                       static_cast<int32_t>(rows),
                       static_cast<int32_t>(host.cols),
                       scale};
  device->expect(device->ops.embed(device->context, &args), "embed");
}

void Forward::rmsNorm(const TensorSource& weight, float eps, FloatView x, FloatView out) const {
  checkFinite(eps, "rmsNorm: eps");
  const int64_t width = find(weight, "rmsNorm: weight").cols;
  const int64_t rows = rowsOf(x, width, "rmsNorm: x");
  checkSize(out, rows, width, "rmsNorm: out");
  const auto device = open(rows);
  const RmsNormArgs args{rowsAt(x, width),
                         Rows{nullptr, 0},
                         loadDense(*device, weight, false, "rmsNorm: weight"),
                         rowsAt(out, width),
                         static_cast<int32_t>(rows),
                         static_cast<int32_t>(width),
                         eps};
  device->expect(device->ops.rmsNorm(device->context, &args), "rmsNorm");
}

void Forward::linear(const LinearPlan& plan, FloatView x, FloatView out) const {
  validateLinear(plan, "linear: plan");
  check(!plan.siluMulPairs, "linear: plan.siluMulPairs", "false", "true");
  const int64_t rows = rowsOf(x, plan.k, "linear: x");
  checkSize(out, rows, plan.n, "linear: out");
  const LinearSource source = toLinearSource(
      plan, [&](const TensorSource& tensor) { return find(tensor, "linear: plan: " + tensor.name).data; });
  const auto device = open(rows);
  const Linear* linear = device->ops.loadLinear(device->context, &source);
  if (!linear) fail(code::kMemory, plan.name, ": ", device->lastError());
  const LinearArgs args{rowsAt(x, plan.k),          rowsAt(out, plan.n), linear,
                        static_cast<int32_t>(rows), Epilogue::None,      0};
  device->expect(device->ops.linear(device->context, &args), "linear");
  for (const LinearPartPlan& part : plan.parts) files_[part.weight.file]->discard(part.weight);
}

void Forward::attention(const AttentionSpec& spec, const std::vector<int32_t>& lengths, FloatView q,
                        FloatView k, FloatView v, FloatView out) const {
  checkSpec(spec);
  const int64_t qWidth = int64_t(spec.numHeads) * spec.headDim,
                kvWidth = int64_t(spec.numKvHeads) * spec.headDim;
  const int64_t rows = rowsOf(q, qWidth, "attention: q");
  checkSize(k, rows, kvWidth, "attention: k");
  checkSize(v, rows, kvWidth, "attention: v");
  checkSize(out, rows, qWidth, "attention: out");
  check(!lengths.empty(), "attention: lengths", "at least one", 0);
  for (int32_t length : lengths) checkRange(length, 1, rows, "attention: lengths");
  const int64_t total = std::accumulate(lengths.begin(), lengths.end(), int64_t(0));
  check(total == rows, "attention: lengths", concat("a sum of ", rows).c_str(), total);

  const Ragged ragged(lengths);
  const int32_t longest = *std::max_element(lengths.begin(), lengths.end());
  const auto device = open(rows, int64_t(lengths.size()), longest);
  const int64_t width = qWidth + 2 * kvWidth;
  std::vector<float> qkv(static_cast<size_t>(rows * width));
  copyColumns(q, qWidth, &qkv, width, 0);
  copyColumns(k, kvWidth, &qkv, width, qWidth);
  copyColumns(v, kvWidth, &qkv, width, qWidth + kvWidth);
  const int32_t pageHeadDim = device->ops.pageHeadDim(spec.headDim);
  check(pageHeadDim >= spec.headDim, "attention: spec.headDim", "one that there are kernels for",
        spec.headDim);
  const size_t bytes = checkedProduct("keys and values", {ragged.numBlocks, 2, spec.numKvHeads,
                                                          int64_t(kvHeadBytes(DType::F32, pageHeadDim))});
  device->expect(device->ops.setKvDType(device->context, DType::F32), "setKvDType");
  const KvLayer kv{device->alloc(bytes, "keys and values"), spec.numKvHeads, spec.headDim};
  const std::vector<float> cosSin = spec.hasRope ? ropeTable(spec.rope, longest) : std::vector<float>();

  RopeStoreKvArgs store{};
  store.qkv = {qkv.data(), width};
  store.rows = static_cast<int32_t>(rows);
  store.positions = ragged.positions.data();
  store.slotMapping = ragged.slotMapping.data();
  store.cosSin = spec.hasRope ? cosSin.data() : nullptr;
  store.rotaryDim = static_cast<int32_t>(2 * spec.rope.inverseFrequencies.size());
  store.interleaved = spec.rope.interleaved ? 1 : 0;
  store.numHeads = spec.numHeads;
  store.numKvHeads = spec.numKvHeads;
  store.headDim = spec.headDim;
  if (spec.qNorm.present) store.qNorm = loadDense(*device, spec.qNorm, false, "attention: qNorm");
  if (spec.kNorm.present) store.kNorm = loadDense(*device, spec.kNorm, false, "attention: kNorm");
  store.normEps = spec.normEps;
  store.kv = kv;
  device->expect(device->ops.ropeStoreKv(device->context, &store), "ropeStoreKv");

  AttentionArgs args{};
  args.q = store.qkv;
  args.out = rowsAt(out, qWidth);
  args.rows = store.rows;
  args.numSeqs = static_cast<int32_t>(lengths.size());
  args.queryStart = ragged.queryStart.data();
  args.contextLens = ragged.contextLens.data();
  args.blockTables = ragged.blocks.data();
  args.maxBlocksPerSeq = ragged.maxBlocks;
  args.numHeads = spec.numHeads;
  args.numKvHeads = spec.numKvHeads;
  args.headDim = spec.headDim;
  args.scale = spec.scale;
  args.slidingWindow = spec.slidingWindow;
  args.softcap = spec.softcap;
  args.kv = kv;
  device->expect(device->ops.attention(device->context, &args), "attention");
}

void Forward::siluMul(int32_t width, FloatView gate, FloatView up, FloatView out) const {
  const int64_t rows = rowsOf(gate, width, "siluMul: gate");
  checkSize(up, rows, width, "siluMul: up");
  checkSize(out, rows, width, "siluMul: out");
  const auto device = open(kPairRows);
  std::vector<float> pairs(static_cast<size_t>(2 * width * kPairRows));
  for (int64_t first = 0; first < rows; first += kPairRows) {
    const int64_t count = std::min(kPairRows, rows - first), offset = first * width;
    copyColumns({gate.data + offset, count * width}, width, &pairs, 2 * width, 0);
    copyColumns({up.data + offset, count * width}, width, &pairs, 2 * width, width);
    const SiluMulArgs args{
        {pairs.data(), 2 * width}, {out.data + offset, width}, static_cast<int32_t>(count), width};
    device->expect(device->ops.siluMul(device->context, &args), "siluMul");
  }
}

}  // namespace octavo
