#include "bench_row_cases.h"

#include <numeric>

#include "check.h"
#include "manifest.h"
#include "weights.h"

namespace octavo {

namespace {

constexpr uint32_t kSeed = 0;

// Rows of an f16 table of a vocabulary, read in place; each call goes on where the last one ended, so that every
// row is read before one is read again.
class EmbedCase : public OpCase {
 public:
  EmbedCase(Device& device, const OpBenchSpec& spec, int32_t maxRows) : OpCase(device), spec_(spec) {
    TensorSource source;
    source.name = "table";
    source.dtype = DType::F16;
    source.shape = {spec.vocabSize, spec.width};
    source.dummySpread = 1;
    table_.resize(source.bytes());
    fillDummy(source, kSeed, table_.data());
    const HostTensor host{table_.data(), DType::F16, spec.vocabSize, spec.width};
    dense_ = device.ops.loadDense(device.context, &host, 1);
    if (!dense_) fail(code::kDevice, "loadDense failed: ", device.lastError());
    device.expect(device.ops.finishLoading(device.context), "load");
    constexpr int64_t kStride = 7919;  // far apart, and in no vocabulary's size as a factor
    std::vector<int32_t> ids(size_t(spec.vocabSize) + maxRows);
    for (size_t i = 0; i < ids.size(); i++) ids[i] = int32_t(int64_t(i) * kStride % spec.vocabSize);
    ids_ = uploadInts(ids, "ids");
    out_ = zeroFloats(size_t(maxRows) * spec.width, "out");
  }

  int run(int32_t rows, int32_t) override {
    const EmbedArgs args{ids_ + next_, dense_, {out_, spec_.width}, rows, spec_.width, 2.0f};
    next_ = (next_ + rows) % spec_.vocabSize;
    return device_.ops.embed(device_.context, &args);
  }
  double bytes(int32_t rows) const override { return (2.0 + 4.0) * rows * spec_.width; }
  double flop(int32_t rows) const override { return double(rows) * spec_.width; }
  std::vector<float> output(int32_t rows) override { return download(out_, size_t(rows) * spec_.width); }

 private:
  const OpBenchSpec spec_;
  std::vector<char> table_;
  Dense* dense_;
  int64_t next_ = 0;
  int32_t* ids_;
  float* out_;
};

// All rows of a step, the last one first.
class GatherRowsCase : public OpCase {
 public:
  GatherRowsCase(Device& device, const OpBenchSpec& spec, int32_t maxRows) : OpCase(device), spec_(spec) {
    std::vector<int32_t> index(maxRows);
    std::iota(index.rbegin(), index.rend(), 0);
    index_ = uploadInts(index, "index");
    in_ = randomFloats(size_t(maxRows) * spec.width, "in");
    out_ = zeroFloats(size_t(maxRows) * spec.width, "out");
  }

  int run(int32_t rows, int32_t) override {
    const GatherRowsArgs args{{in_, spec_.width}, index_, {out_, spec_.width}, rows, spec_.width};
    return device_.ops.gatherRows(device_.context, &args);
  }
  double bytes(int32_t rows) const override { return 8.0 * rows * spec_.width; }
  double flop(int32_t) const override { return 0; }
  std::vector<float> output(int32_t rows) override { return download(out_, size_t(rows) * spec_.width); }

 private:
  const OpBenchSpec spec_;
  int32_t* index_;
  float *in_, *out_;
};

// Logits, in place: what calls leave of them stays within the cap, and far from zero.
class SoftcapCase : public OpCase {
 public:
  SoftcapCase(Device& device, const OpBenchSpec& spec, int32_t maxRows) : OpCase(device), spec_(spec) {
    x_ = randomFloats(size_t(maxRows) * spec.vocabSize, "logits");
  }

  int run(int32_t rows, int32_t) override {
    const SoftcapArgs args{{x_, spec_.vocabSize}, rows, spec_.vocabSize, 30.0f};
    return device_.ops.softcap(device_.context, &args);
  }
  double bytes(int32_t rows) const override { return 8.0 * rows * spec_.vocabSize; }
  double flop(int32_t rows) const override { return 4.0 * rows * spec_.vocabSize; }
  std::vector<float> output(int32_t rows) override { return download(x_, size_t(rows) * spec_.vocabSize); }

 private:
  const OpBenchSpec spec_;
  float* x_;
};

}  // namespace

std::unique_ptr<OpCase> makeRowCase(Device& device, const OpBenchSpec& spec, int32_t maxRows) {
  if (spec.op == "embed") return std::make_unique<EmbedCase>(device, spec, maxRows);
  if (spec.op == "gather_rows") return std::make_unique<GatherRowsCase>(device, spec, maxRows);
  if (spec.op == "softcap") return std::make_unique<SoftcapCase>(device, spec, maxRows);
  return nullptr;
}

}  // namespace octavo
