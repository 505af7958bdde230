#include "addon_bench.h"

#include "../kernels/cpu/cpu.h"
#include "addon_guard.h"
#include "bench_ops.h"

namespace octavo {

namespace {

// Absent: `otherwise`.
int32_t optional(const Field& field, int32_t otherwise) {
  return field.isNull() ? otherwise : field.int32();
}

OpBenchSpec readOpBench(const Field& field) {
  static const DType kKvTypes[] = {DType::F32, DType::F16, DType::I8};
  static const Epilogue kEpilogues[] = {Epilogue::None, Epilogue::SiluMul, Epilogue::Add};
  OpBenchSpec spec;
  spec.device = field.get("device").string();
  spec.threads = field.get("threads").int32();
  spec.op = field.get("op").string();
  spec.rows = field.get("rows").int32Array();
  spec.seconds = field.get("seconds").number();
  spec.workingSet = field.get("workingSet").int64();
  const Field scheme = field.get("scheme"), epilogue = field.get("epilogue");
  if (!scheme.isNull()) spec.scheme = scheme.string();
  if (!epilogue.isNull()) spec.epilogue = kEpilogues[epilogue.oneOf({"none", "silu_mul", "add"})];
  spec.k = optional(field.get("k"), 0);
  spec.n = optional(field.get("n"), 0);
  spec.groupSize = optional(field.get("groupSize"), 0);
  spec.width = optional(field.get("width"), 0);
  spec.numHeads = optional(field.get("numHeads"), 0);
  spec.numKvHeads = optional(field.get("numKvHeads"), 0);
  spec.headDim = optional(field.get("headDim"), 0);
  spec.contextLen = optional(field.get("contextLen"), 0);
  spec.queryLen = optional(field.get("queryLen"), 1);
  const Field cpuActivations = field.get("cpuActivations");
  if (!cpuActivations.isNull()) spec.int8Activations = cpuActivations.oneOf({"f32", "int8"}) == 1;
  const Field kvCacheDtype = field.get("kvCacheDtype"), topKTopP = field.get("topKTopP");
  if (!kvCacheDtype.isNull()) spec.kvDType = kKvTypes[kvCacheDtype.oneOf({"f32", "f16", "int8"})];
  spec.vocabSize = optional(field.get("vocabSize"), 0);
  spec.topKTopP = !topKTopP.isNull() && topKTopP.boolean();
  return spec;
}

Napi::Object toObject(Napi::Env env, const OpBenchRow& row) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("rows", Napi::Number::New(env, row.rows));
  object.Set("calls", Napi::Number::New(env, double(row.calls)));
  object.Set("medianSeconds", Napi::Number::New(env, row.medianSeconds));
  object.Set("bestSeconds", Napi::Number::New(env, row.bestSeconds));
  object.Set("bytes", Napi::Number::New(env, row.bytes));
  object.Set("flop", Napi::Number::New(env, row.flop));
  return object;
}

Napi::Value runBenchOp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const OpBenchResult result = benchOp(readOpBench(argument(info, 0, "spec")));
    Napi::Array rows = Napi::Array::New(env, result.rows.size());
    for (size_t i = 0; i < result.rows.size(); i++) rows.Set(uint32_t(i), toObject(env, result.rows[i]));
    Napi::Object object = Napi::Object::New(env);
    object.Set("rows", rows);
    object.Set("copies", Napi::Number::New(env, result.copies));
    object.Set("threads", Napi::Number::New(env, result.threads));
    object.Set("error", Napi::Number::New(env, result.error));
    return object;
  });
}

Napi::Value runMeasureCeilings(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const int32_t threads = argument(info, 0, "threads").int32();
    const double seconds = argument(info, 1, "seconds").number();
    checkRange(threads, 0, kMaxThreads, "threads");
    check(seconds >= 0 && seconds <= 60, "seconds", "a number from 0 to 60", seconds);
    CpuCeilings ceilings;
    if (!measureCpuCeilings(threads, seconds, &ceilings))
      fail(code::kMemory, "measureCeilings: expected 256 MiB of memory and ", threads, " threads");
    Napi::Object object = Napi::Object::New(env);
    object.Set("readBytesPerSecond", Napi::Number::New(env, ceilings.readBytesPerSecond));
    object.Set("flopPerSecond", Napi::Number::New(env, ceilings.flopPerSecond));
    object.Set("int8OpPerSecond", Napi::Number::New(env, ceilings.int8OpPerSecond));
    object.Set("threads", Napi::Number::New(env, ceilings.threads));
    return object;
  });
}

}  // namespace

void exportBench(Napi::Env env, Napi::Object exports) {
  exports.Set("benchOp", Napi::Function::New(env, runBenchOp, "benchOp"));
  exports.Set("measureCeilings", Napi::Function::New(env, runMeasureCeilings, "measureCeilings"));
}

}  // namespace octavo
