#include "bench_ops.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <initializer_list>

#include "bench_cases.h"
#include "check.h"
#include "host_memory.h"
#include "manifest.h"

namespace octavo {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kMaxRows = 1 << 16;
constexpr int32_t kMaxWidth = 1 << 20;
constexpr int32_t kMaxContext = 1 << 20;
constexpr int32_t kMaxVocab = 1 << 24;
constexpr int32_t kMaxCopies = 64;
constexpr int64_t kMaxWorkingSet = int64_t(1) << 36;
constexpr int kMinCalls = 5;
constexpr size_t kMaxCalls = 1 << 20;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void validateHeads(const OpBenchSpec& spec) {
  checkRange(spec.numHeads, 1, kMaxWidth, "spec.numHeads");
  checkRange(spec.numKvHeads, 1, spec.numHeads, "spec.numKvHeads");
  check(spec.numHeads % spec.numKvHeads == 0, "spec.numKvHeads", "a divisor of numHeads", spec.numKvHeads);
  checkRange(spec.headDim, 1, 1024, "spec.headDim");
}

void validateShape(const OpBenchSpec& spec) {
  if (spec.op == "linear") {
    checkRange(spec.k, 1, kMaxWidth, "spec.k");
    checkRange(spec.n, 1, kMaxWidth, "spec.n");
    const bool int4 = spec.scheme == "int4";
    check(int4 || spec.scheme == "f16" || spec.scheme == "bf16" || spec.scheme == "f32", "spec.scheme",
          "int4, f16, bf16 or f32", "\"" + spec.scheme + "\"");
    const int32_t step = (int4 ? 8 : 1) * (spec.epilogue == Epilogue::SiluMul ? 2 : 1);
    check(spec.n % step == 0, "spec.n", concat("a multiple of ", step).c_str(), spec.n);
    if (int4) checkRange(spec.groupSize, 1, spec.k, "spec.groupSize");
    validateLinear(benchLinearPlan(spec), "spec");
  } else if (spec.op == "attention") {
    validateHeads(spec);
    checkRange(spec.contextLen, 1, kMaxContext, "spec.contextLen");
    checkRange(spec.queryLen, 1, spec.contextLen, "spec.queryLen");
    for (size_t i = 0; i < spec.rows.size(); i++)
      check(spec.rows[i] % spec.queryLen == 0, concat("spec.rows[", i, "]"), "a multiple of queryLen",
            spec.rows[i]);
  } else if (spec.op == "rope_store_kv") {
    validateHeads(spec);
    check(spec.headDim % 2 == 0, "spec.headDim", "an even number", spec.headDim);
  } else if (spec.op == "sample" || spec.op == "softcap") {
    checkRange(spec.vocabSize, 1, kMaxVocab, "spec.vocabSize");
  } else if (spec.op == "embed") {
    checkRange(spec.vocabSize, 1, kMaxVocab, "spec.vocabSize");
    checkRange(spec.width, 1, kMaxWidth, "spec.width");
  } else if (spec.op == "rms_norm" || spec.op == "silu_mul" || spec.op == "add" || spec.op == "gather_rows") {
    checkRange(spec.width, 1, kMaxWidth, "spec.width");
  } else {
    failArgument("spec.op",
                 "linear, attention, embed, rms_norm, silu_mul, add, rope_store_kv, gather_rows, softcap or "
                 "sample",
                 "\"" + spec.op + "\"");
  }
}

void validate(const OpBenchSpec& spec) {
  checkRange(spec.threads, 0, kMaxThreads, "spec.threads");
  check(!spec.rows.empty() && spec.rows.size() <= 64, "spec.rows", "1 to 64 numbers", spec.rows.size());
  for (size_t i = 0; i < spec.rows.size(); i++)
    checkRange(spec.rows[i], 1, kMaxRows, concat("spec.rows[", i, "]"));
  check(spec.seconds >= 0 && spec.seconds <= 60, "spec.seconds", "a number from 0 to 60", spec.seconds);
  checkRange(spec.workingSet, 0, kMaxWorkingSet, "spec.workingSet");
  validateShape(spec);
}

// Floats of activations that one row takes at most, in and out together.
int64_t floatsPerRow(const OpBenchSpec& spec) {
  if (spec.op == "linear") return int64_t(spec.k) + spec.n;
  if (spec.op == "sample" || spec.op == "softcap") return int64_t(spec.vocabSize) + 64;
  if (spec.op == "rope_store_kv")
    return (int64_t(spec.numHeads) + 2 * spec.numKvHeads) * spec.headDim +
           2 * int64_t(spec.numKvHeads) * kBlockSize * spec.headDim;
  if (spec.op == "attention") return 2 * int64_t(spec.numHeads) * spec.headDim;
  return 4 * int64_t(spec.width);
}

// Refuses what this machine has no room for, before anything is taken: data is made on the host and copied.
void checkMemory(const OpBenchSpec& spec, int32_t maxRows, size_t streamed, int32_t copies) {
  const size_t rows = checkedProduct("spec.rows", {maxRows, floatsPerRow(spec), 2 * sizeof(float)});
  const size_t weights = checkedProduct("spec", {static_cast<int64_t>(streamed), copies + 2});
  const bool hasTable = spec.op == "embed";
  const size_t table = hasTable ? checkedProduct("spec", {spec.vocabSize, spec.width, sizeof(float)}) : 0;
  const uint64_t available = readHostMemory().available;
  if (available > 0 && rows + weights + table > available)
    fail(code::kMemory, "spec: expected data of at most ", available, " bytes (what is available), got ",
         rows + weights + table);
}

std::unique_ptr<Device> open(const std::string& name, const OpBenchSpec& spec, int32_t maxRows) {
  const Ops& ops = findBackend(name);
  // The cases write and read activations as floats.
  if (ops.activation != DType::F32)
    fail(code::kDevice, "benchOp: expected a device with f32 activations, got ", name);
  OpenOptions options{};
  options.threads = spec.threads;
  options.maxRows = maxRows;
  options.maxSeqs = maxRows;
  options.maxSamples = maxRows;
  options.maxContext = std::max({spec.contextLen, maxRows, 1});
  options.vocabSize = std::max(spec.vocabSize, 1);
  const LinearShape linear{spec.n, spec.k, spec.epilogue == Epilogue::SiluMul,
                           spec.scheme == "int4" ? spec.groupSize : 0, maxRows};
  const AttentionShape attention{spec.numHeads, spec.numKvHeads, spec.headDim, 0};
  options.linears = &linear;
  options.numLinears = spec.op == "linear";
  options.attentions = &attention;
  options.int8Activations = spec.int8Activations;
  options.numAttentions = spec.op == "attention" || spec.op == "rope_store_kv";
  char error[256] = "";
  Context* context = ops.open(&options, error, sizeof(error));
  if (!context) fail(code::kDevice, "device ", name, " did not open: ", error);
  auto device = std::make_unique<Device>(ops, context);
  if (options.numAttentions && ops.pageHeadDim(spec.headDim) != spec.headDim)
    failArgument("spec.headDim", concat("a size that ", ops.name, " keeps as it is"), spec.headDim);
  if (ops.setKvDType(context, spec.kvDType) != 0)
    failArgument("spec.kvCacheDtype", concat("a type that ", ops.name, " has kernels for"),
                 device->lastError());
  return device;
}

void call(Device& device, OpCase& op, const OpBenchSpec& spec, int32_t rows, int32_t copy) {
  device.expect(op.run(rows, copy), spec.op.c_str());
  device.expect(device.ops.sync(device.context), "sync");
}

OpBenchRow timeRows(Device& device, OpCase& op, const OpBenchSpec& spec, int32_t rows, int32_t copies) {
  int32_t copy = 0;
  auto once = [&] {
    const Clock::time_point before = Clock::now();
    call(device, op, spec, rows, copy);
    copy = (copy + 1) % copies;
    return secondsSince(before);
  };
  // Until threads are awake and lazily made pages are there.
  const Clock::time_point warm = Clock::now();
  do once();
  while (secondsSince(warm) < spec.seconds / 4);
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  while (times.size() < kMinCalls || (secondsSince(start) < spec.seconds && times.size() < kMaxCalls))
    times.push_back(once());
  std::sort(times.begin(), times.end());
  OpBenchRow row;
  row.rows = rows;
  row.calls = static_cast<int64_t>(times.size());
  row.medianSeconds = times[times.size() / 2];
  row.bestSeconds = times.front();
  row.bytes = op.bytes(rows);
  row.flop = op.flop(rows);
  return row;
}

// Few rows and short contexts: the reference backend is slow, and widths are what kernels differ in.
OpBenchSpec smallSpec(const OpBenchSpec& spec) {
  OpBenchSpec small = spec;
  small.contextLen = std::min(spec.contextLen, 600);  // across a boundary of attention's segments
  small.queryLen = std::min(spec.queryLen, 8);
  small.rows = {spec.op == "attention" ? small.queryLen : 2};
  return small;
}

std::vector<float> outputOn(const std::string& name, const OpBenchSpec& spec) {
  const int32_t rows = spec.rows.front();
  const std::unique_ptr<Device> device = open(name, spec, rows);
  const std::unique_ptr<OpCase> op = makeOpCase(*device, spec, rows, 1);
  call(*device, *op, spec, rows, 0);
  return op->output(rows);
}

double errorAgainstReference(const OpBenchSpec& spec) {
  const OpBenchSpec small = smallSpec(spec);
  const std::vector<float> got = outputOn(spec.device, small), expected = outputOn("reference", small);
  double difference = 0, size = 0, unequal = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    const double off = double(got[i]) - expected[i];
    difference += off * off;
    size += double(expected[i]) * expected[i];
    unequal += off != 0;
  }
  if (spec.op == "sample") return unequal / double(expected.size());
  return std::sqrt(difference / std::max(size, 1e-300));
}

}  // namespace

OpBenchResult benchOp(const OpBenchSpec& spec) {
  const Ops& ops = findBackend(spec.device);
  validate(spec);
  const int32_t maxRows = *std::max_element(spec.rows.begin(), spec.rows.end());
  const size_t streamed = streamedBytes(ops, spec);
  const int64_t wanted = streamed == 0 ? 1 : spec.workingSet / static_cast<int64_t>(streamed) + 1;
  const int32_t copies = static_cast<int32_t>(std::min<int64_t>(wanted, kMaxCopies));
  checkMemory(spec, maxRows, streamed, copies);
  OpBenchResult result;
  result.copies = copies;
  result.error = errorAgainstReference(spec);
  const std::unique_ptr<Device> device = open(spec.device, spec, maxRows);
  const std::unique_ptr<OpCase> op = makeOpCase(*device, spec, maxRows, copies);
  result.threads = ops.numThreads(device->context);
  for (const int32_t rows : spec.rows) result.rows.push_back(timeRows(*device, *op, spec, rows, copies));
  return result;
}

}  // namespace octavo
