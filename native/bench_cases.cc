#include "bench_cases.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "../kernels/half.h"
#include "bench_row_cases.h"
#include "check.h"
#include "manifest.h"
#include "weights.h"

namespace octavo {

namespace {

constexpr uint32_t kSeed = 0;

TensorSource tensor(const std::string& name, DType dtype, std::vector<int64_t> shape, double mean,
                    double spread) {
  TensorSource source;
  source.present = true;
  source.name = name;
  source.dtype = dtype;
  source.shape = std::move(shape);
  source.dummyMean = mean;
  source.dummySpread = spread;
  return source;
}

int64_t ceilDiv(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Pages of the sequences of one call.
int64_t blocksPerSeq(const OpBenchSpec& spec) {
  return ceilDiv(spec.contextLen, kBlockSize);
}

size_t kvBytesPerBlock(const OpBenchSpec& spec) {
  return checkedProduct("spec: KV block",
                        {2, spec.numKvHeads, static_cast<int64_t>(kvHeadBytes(spec.kvDType, spec.headDim))});
}

class LinearCase : public OpCase {
 public:
  LinearCase(Device& device, const OpBenchSpec& spec, int32_t maxRows, int32_t copies)
      : OpCase(device), spec_(spec), outWidth_(spec.epilogue == Epilogue::SiluMul ? spec.n / 2 : spec.n) {
    const LinearPlan plan = benchLinearPlan(spec);
    std::vector<std::vector<char>> data;
    const LinearSource source = toLinearSource(plan, [&](const TensorSource& one) -> const void* {
      data.emplace_back(one.bytes());
      fillDummy(one, kSeed, data.back().data());
      return data.back().data();
    });
    weightBytes_ = double(device.ops.linearBytes(&source));
    for (int32_t i = 0; i < copies; i++) {
      weights_.push_back(device.ops.loadLinear(device.context, &source));
      if (!weights_.back()) fail(code::kDevice, "loadLinear failed: ", device.lastError());
    }
    device.expect(device.ops.finishLoading(device.context), "load");
    in_ = randomFloats(size_t(maxRows) * spec.k, "in");
    out_ = zeroFloats(size_t(maxRows) * outWidth_, "out");
  }

  int run(int32_t rows, int32_t copy) override {
    const LinearArgs args{{in_, spec_.k}, {out_, outWidth_}, weights_[copy], rows, spec_.epilogue, 0};
    return device_.ops.linear(device_.context, &args);
  }
  double bytes(int32_t rows) const override {
    const int64_t out = spec_.epilogue == Epilogue::Add ? 2 * outWidth_ : outWidth_;
    return weightBytes_ + 4.0 * rows * double(spec_.k + out);
  }
  double flop(int32_t rows) const override { return 2.0 * rows * spec_.k * spec_.n; }
  std::vector<float> output(int32_t rows) override { return download(out_, size_t(rows) * outWidth_); }

 private:
  const OpBenchSpec spec_;
  const int64_t outWidth_;
  double weightBytes_ = 0;
  std::vector<Linear*> weights_;
  float *in_, *out_;
};

// Sequences of contextLen positions, the last queryLen of them new.
class AttentionCase : public OpCase {
 public:
  AttentionCase(Device& device, const OpBenchSpec& spec, int32_t maxRows, int32_t copies)
      : OpCase(device), spec_(spec), width_(int64_t(spec.numHeads) * spec.headDim) {
    const int64_t maxSeqs = maxRows / spec.queryLen, perSeq = blocksPerSeq(spec);
    for (int32_t i = 0; i < copies; i++) pages_.push_back(makePages(perSeq * maxSeqs));
    std::vector<int32_t> start(maxSeqs + 1), tables(maxSeqs * perSeq);
    for (int64_t s = 0; s <= maxSeqs; s++) start[s] = int32_t(s * spec.queryLen);
    std::iota(tables.begin(), tables.end(), 0);
    queryStart_ = uploadInts(start, "queryStart");
    contextLens_ = uploadInts(std::vector<int32_t>(maxSeqs, spec.contextLen), "contextLens");
    blockTables_ = uploadInts(tables, "blockTables");
    q_ = randomFloats(size_t(maxRows) * width_, "q");
    out_ = zeroFloats(size_t(maxRows) * width_, "out");
  }

  int run(int32_t rows, int32_t copy) override {
    AttentionArgs args{};
    args.q = {q_, width_};
    args.out = {out_, width_};
    args.rows = rows;
    args.numSeqs = rows / spec_.queryLen;
    args.queryStart = queryStart_;
    args.contextLens = contextLens_;
    args.blockTables = blockTables_;
    args.maxBlocksPerSeq = int32_t(blocksPerSeq(spec_));
    args.numHeads = spec_.numHeads;
    args.numKvHeads = spec_.numKvHeads;
    args.headDim = spec_.headDim;
    args.scale = 1.0f / std::sqrt(float(spec_.headDim));
    args.kv = {pages_[copy], spec_.numKvHeads, spec_.headDim};
    return device_.ops.attention(device_.context, &args);
  }
  double bytes(int32_t rows) const override {
    const double positions = double(rows / spec_.queryLen) * spec_.contextLen;
    return positions * double(kvBytesPerBlock(spec_)) / kBlockSize + 8.0 * rows * double(width_);
  }
  // q . k and p . v for every position that each query sees.
  double flop(int32_t rows) const override {
    const double seen = spec_.contextLen - (spec_.queryLen - 1) / 2.0;
    return 4.0 * rows * seen * double(width_);
  }
  std::vector<float> output(int32_t rows) override { return download(out_, size_t(rows) * width_); }

 private:
  // Keys and values of every slot, stored as a model's are.
  void* makePages(int64_t blocks) {
    void* pages = device_.alloc(size_t(blocks) * kvBytesPerBlock(spec_), "KV pages");
    const int64_t width = (1 + 2 * int64_t(spec_.numKvHeads)) * spec_.headDim;
    const TensorSource source = tensor("pages", DType::F32, {kBlockSize * width}, 0, 1);
    std::vector<float> qkv(source.bytes() / sizeof(float));
    std::vector<int32_t> slots(kBlockSize);
    RopeStoreKvArgs args{};
    args.qkv = {qkv.data(), width};
    args.rows = kBlockSize;
    args.positions = args.slotMapping = slots.data();  // without angles, positions go unread
    args.numHeads = 1;
    args.numKvHeads = spec_.numKvHeads;
    args.headDim = spec_.headDim;
    args.kv = {pages, spec_.numKvHeads, spec_.headDim};
    for (int64_t block = 0; block < blocks; block++) {
      fillDummy(source, kSeed + uint32_t(block % 64), qkv.data());
      std::iota(slots.begin(), slots.end(), int32_t(block * kBlockSize));
      device_.expect(device_.ops.ropeStoreKv(device_.context, &args), "ropeStoreKv");
    }
    device_.expect(device_.ops.sync(device_.context), "sync");
    return pages;
  }

  const OpBenchSpec spec_;
  const int64_t width_;
  std::vector<void*> pages_;
  int32_t *queryStart_, *contextLens_, *blockTables_;
  float *q_, *out_;
};

// rms_norm with the residual, silu_mul, add: a few floats in, a few out, all of them in a cache when a model
// runs.
class ElementwiseCase : public OpCase {
 public:
  ElementwiseCase(Device& device, const OpBenchSpec& spec, int32_t maxRows) : OpCase(device), spec_(spec) {
    const size_t count = size_t(maxRows) * spec.width;
    in_ = randomFloats(2 * count, "in");
    residual_ = randomFloats(count, "residual");
    out_ = zeroFloats(count, "out");
    const std::vector<float> ones(spec.width, 1.0f);
    const HostTensor host{ones.data(), DType::F32, 1, spec.width};
    weight_ = device.ops.loadDense(device.context, &host, 0);
    if (!weight_) fail(code::kDevice, "loadDense failed: ", device.lastError());
    device.expect(device.ops.finishLoading(device.context), "load");
  }

  int run(int32_t rows, int32_t) override {
    const int64_t width = spec_.width;
    if (spec_.op == "silu_mul") {
      const SiluMulArgs args{{in_, 2 * width}, {out_, width}, rows, spec_.width};
      return device_.ops.siluMul(device_.context, &args);
    }
    if (spec_.op == "add") {
      const AddArgs args{{in_, width}, {residual_, width}, {out_, width}, rows, spec_.width};
      return device_.ops.add(device_.context, &args);
    }
    const RmsNormArgs args{{in_, width}, {nullptr, 0}, weight_, {out_, width}, rows, spec_.width, 1e-5f};
    return device_.ops.rmsNorm(device_.context, &args);
  }
  double bytes(int32_t rows) const override {
    const double floats = spec_.op == "rms_norm" ? 2 : 3;
    return 4.0 * floats * rows * spec_.width;
  }
  double flop(int32_t rows) const override {
    const double each = spec_.op == "add" ? 1 : 4;
    return each * rows * spec_.width;
  }
  std::vector<float> output(int32_t rows) override { return download(out_, size_t(rows) * spec_.width); }

 private:
  const OpBenchSpec spec_;
  float *in_, *residual_, *out_;
  Dense* weight_;
};

// Each row is the next position of its own sequence, one block apart.
class RopeStoreKvCase : public OpCase {
 public:
  RopeStoreKvCase(Device& device, const OpBenchSpec& spec, int32_t maxRows)
      : OpCase(device), spec_(spec), width_((int64_t(spec.numHeads) + 2 * spec.numKvHeads) * spec.headDim) {
    std::vector<int32_t> positions(maxRows), slots(maxRows);
    for (int32_t row = 0; row < maxRows; row++) {
      positions[row] = row;
      slots[row] = row * kBlockSize + row % kBlockSize;
    }
    positions_ = uploadInts(positions, "positions");
    slots_ = uploadInts(slots, "slotMapping");
    qkv_ = randomFloats(size_t(maxRows) * width_, "qkv");
    pages_ = device.alloc(size_t(maxRows) * kvBytesPerBlock(spec), "KV pages");
    // A rotation that keeps lengths, so that repeated calls in place keep the values' size.
    std::vector<float> cosSin(size_t(maxRows) * spec.headDim);
    for (int32_t row = 0; row < maxRows; row++)
      for (int32_t i = 0; i < spec.headDim / 2; i++) {
        const double angle = row * std::pow(10000.0, -2.0 * i / spec.headDim);
        cosSin[size_t(row) * spec.headDim + i] = float(std::cos(angle));
        cosSin[size_t(row) * spec.headDim + spec.headDim / 2 + i] = float(std::sin(angle));
      }
    cosSin_ = uploadFloats(cosSin, "cosSin");
  }

  int run(int32_t rows, int32_t) override {
    RopeStoreKvArgs args{};
    args.qkv = {qkv_, width_};
    args.rows = rows;
    args.positions = positions_;
    args.slotMapping = slots_;
    args.cosSin = cosSin_;
    args.rotaryDim = spec_.headDim / 2 * 2;
    args.numHeads = spec_.numHeads;
    args.numKvHeads = spec_.numKvHeads;
    args.headDim = spec_.headDim;
    args.kv = {pages_, spec_.numKvHeads, spec_.headDim};
    return device_.ops.ropeStoreKv(device_.context, &args);
  }
  double bytes(int32_t rows) const override {
    const double heads = spec_.numHeads, kvHeads = spec_.numKvHeads;
    return double(rows) * spec_.headDim * (8 * heads + kvHeads * 8.0) +
           double(rows) * double(kvBytesPerBlock(spec_)) / kBlockSize;
  }
  double flop(int32_t rows) const override {
    return 3.0 * rows * spec_.headDim * (double(spec_.numHeads) + spec_.numKvHeads);
  }
  // q, rotated in place; k and v lie in pages of the backend's own type.
  std::vector<float> output(int32_t rows) override { return download(qkv_, size_t(rows) * width_); }

 private:
  const OpBenchSpec spec_;
  const int64_t width_;
  int32_t *positions_, *slots_;
  float *qkv_, *cosSin_;
  void* pages_;
};

class SampleCase : public OpCase {
 public:
  SampleCase(Device& device, const OpBenchSpec& spec, int32_t maxRows) : OpCase(device), spec_(spec) {
    const std::vector<int32_t> zeros(maxRows, 0);
    std::vector<int32_t> index(maxRows);
    std::iota(index.begin(), index.end(), 0);
    logits_ = randomFloats(size_t(maxRows) * spec.vocabSize, "logits");
    rowSlot_ = uploadInts(index, "rowSlot");
    zeros_ = uploadInts(zeros, "zeros");
    none_ = uploadInts(std::vector<int32_t>(maxRows, -1), "none");
    topK_ = uploadInts(std::vector<int32_t>(maxRows, spec.topKTopP ? 50 : 0), "topK");
    biasStart_ = uploadInts(std::vector<int32_t>(size_t(maxRows) + 1, 0), "biasStart");
    history_ = uploadInts(std::vector<int32_t>(maxRows, 0), "history");
    temperature_ = uploadFloats(std::vector<float>(maxRows, spec.topKTopP ? 1.0f : 0.0f), "temperature");
    topP_ = uploadFloats(std::vector<float>(maxRows, spec.topKTopP ? 0.9f : 1.0f), "topP");
    ones_ = uploadFloats(std::vector<float>(maxRows, 1.0f), "ones");
    zeroFloats_ = zeroFloats(maxRows, "zero floats");
    outs_ = zeroFloats(size_t(maxRows) * (5 + 2 * kMaxLogprobs), "sampled");
    maxRows_ = maxRows;
  }

  int run(int32_t rows, int32_t) override {
    SampleArgs args{};
    args.logits = logits_;
    args.stride = spec_.vocabSize;
    args.rows = rows;
    args.vocab = spec_.vocabSize;
    args.rowSlot = rowSlot_;
    args.rowPosition = args.seedLo = args.seedHi = zeros_;
    args.temperature = temperature_;
    args.topP = topP_;
    args.repetition = ones_;
    args.minP = args.presence = args.frequency = zeroFloats_;
    args.topK = topK_;
    args.targetId = args.numTop = args.maskRow = none_;
    args.biasStart = biasStart_;
    args.biasId = zeros_;
    args.biasValue = zeroFloats_;
    args.history = history_;
    args.numPrompt = zeros_;
    args.maxContext = 1;
    args.sampledIds = reinterpret_cast<int32_t*>(outs_);
    args.logprob = outs_ + maxRows_;
    args.targetLogprob = outs_ + 2 * maxRows_;
    args.rank = reinterpret_cast<int32_t*>(outs_ + 3 * maxRows_);
    args.targetRank = reinterpret_cast<int32_t*>(outs_ + 4 * maxRows_);
    args.topIds = reinterpret_cast<int32_t*>(outs_ + 5 * maxRows_);
    args.topLogprobs = outs_ + (5 + int64_t(kMaxLogprobs)) * maxRows_;
    return device_.ops.sample(device_.context, &args);
  }
  double bytes(int32_t rows) const override { return 4.0 * rows * spec_.vocabSize; }
  double flop(int32_t) const override { return 0; }
  std::vector<float> output(int32_t rows) override {
    std::vector<float> bits = download(outs_, size_t(rows));
    for (float& value : bits) value = float(int32_t(floatToBits(value)));
    return bits;
  }

 private:
  const OpBenchSpec spec_;
  int64_t maxRows_ = 0;
  float *logits_, *temperature_, *topP_, *ones_, *zeroFloats_, *outs_;
  int32_t *rowSlot_, *zeros_, *none_, *topK_, *biasStart_, *history_;
};

}  // namespace

float* OpCase::randomFloats(size_t count, const char* name) {
  const TensorSource source = tensor(name, DType::F32, {static_cast<int64_t>(count)}, 0, 1);
  std::vector<float> host(count);
  fillDummy(source, kSeed, host.data());
  return uploadFloats(host, name);
}

float* OpCase::zeroFloats(size_t count, const char* name) {
  return static_cast<float*>(device_.alloc(count * sizeof(float), name));
}

int32_t* OpCase::uploadInts(const std::vector<int32_t>& values, const char* name) {
  const size_t bytes = values.size() * sizeof(int32_t);
  auto* memory = static_cast<int32_t*>(device_.alloc(bytes, name));
  device_.expect(device_.ops.upload(device_.context, memory, values.data(), bytes), "upload");
  device_.expect(device_.ops.sync(device_.context), "sync");
  return memory;
}

float* OpCase::uploadFloats(const std::vector<float>& values, const char* name) {
  const size_t bytes = values.size() * sizeof(float);
  float* memory = zeroFloats(values.size(), name);
  device_.expect(device_.ops.upload(device_.context, memory, values.data(), bytes), "upload");
  device_.expect(device_.ops.sync(device_.context), "sync");
  return memory;
}

std::vector<float> OpCase::download(const float* from, size_t count) {
  std::vector<float> values(count);
  device_.expect(device_.ops.download(device_.context, values.data(), from, count * sizeof(float)),
                 "download");
  device_.expect(device_.ops.sync(device_.context), "sync");
  return values;
}

LinearPlan benchLinearPlan(const OpBenchSpec& spec) {
  LinearPlan plan;
  plan.name = "spec";
  plan.k = spec.k;
  plan.n = spec.n;
  plan.siluMulPairs = spec.epilogue == Epilogue::SiluMul;
  const bool int4 = spec.scheme == "int4";
  plan.scheme = int4 ? LinearScheme::AwqInt4 : LinearScheme::Dense;
  plan.groupSize = int4 ? spec.groupSize : 0;
  const DType dense = spec.scheme == "f16" ? DType::F16 : spec.scheme == "bf16" ? DType::BF16 : DType::F32;
  const int32_t parts = plan.siluMulPairs ? 2 : 1, n = spec.n / parts;
  for (int32_t i = 0; i < parts; i++) {
    LinearPartPlan part;
    part.n = n;
    if (int4) {
      const int64_t groups = spec.groupSize > 0 ? spec.k / spec.groupSize : 0;
      part.weight = tensor("qweight", DType::I32, {spec.k, n / 8}, 0, 0);
      part.zeros = tensor("qzeros", DType::I32, {groups, n / 8}, 0, 0);
      part.scales = tensor("scales", DType::F16, {groups, n}, 0.01, 0.005);
    } else {
      part.weight = tensor("weight", dense, {n, spec.k}, 0, 0.05);
    }
    plan.parts.push_back(std::move(part));
  }
  return plan;
}

size_t streamedBytes(const Ops& ops, const OpBenchSpec& spec) {
  if (spec.op == "linear") {
    static const char kPresent = 0;  // sizes depend on which tensors there are, never on their bytes
    const LinearSource source =
        toLinearSource(benchLinearPlan(spec), [](const TensorSource&) -> const void* { return &kPresent; });
    return ops.linearBytes(&source);
  }
  if (spec.op != "attention") return 0;
  const int32_t seqs = *std::max_element(spec.rows.begin(), spec.rows.end()) / spec.queryLen;
  return checkedProduct("spec: KV pages",
                        {seqs, blocksPerSeq(spec), static_cast<int64_t>(kvBytesPerBlock(spec))});
}

std::unique_ptr<OpCase> makeOpCase(Device& device, const OpBenchSpec& spec, int32_t maxRows, int32_t copies) {
  if (spec.op == "linear") return std::make_unique<LinearCase>(device, spec, maxRows, copies);
  if (spec.op == "attention") return std::make_unique<AttentionCase>(device, spec, maxRows, copies);
  if (spec.op == "rope_store_kv") return std::make_unique<RopeStoreKvCase>(device, spec, maxRows);
  if (spec.op == "sample") return std::make_unique<SampleCase>(device, spec, maxRows);
  if (auto op = makeRowCase(device, spec, maxRows)) return op;
  return std::make_unique<ElementwiseCase>(device, spec, maxRows);
}

}  // namespace octavo
