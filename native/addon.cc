// The N-API surface (src/runner/addon.ts): unpacks arguments, calls the runner, turns errors into
// JavaScript's. napi.h is included here, in addon_* and in
// spec_reader only.
#include <napi.h>

#include <memory>

#include "addon_bench.h"
#include "addon_guard.h"
#include "addon_quantize.h"
#include "addon_tuner.h"
#include "arena.h"
#include "backend.h"
#include "check.h"
#include "runner.h"
#include "shapes.h"
#include "spec_reader.h"
#include "time_slice.h"
#include "weights.h"

namespace octavo {

namespace {

class RunnerObject : public Napi::ObjectWrap<RunnerObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Runner",
        {InstanceAccessor<&RunnerObject::state>("state", napi_enumerable),
         InstanceAccessor<&RunnerObject::layout>("layout", napi_enumerable),
         InstanceMethod<&RunnerObject::load>("load"), InstanceMethod<&RunnerObject::arena>("arena"),
         InstanceMethod<&RunnerObject::setHistory>("setHistory"),
         InstanceMethod<&RunnerObject::launch>("launch"), InstanceMethod<&RunnerObject::sample>("sample"),
         InstanceMethod<&RunnerObject::collect>("collect"), InstanceMethod<&RunnerObject::close>("close")});
  }

  explicit RunnerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RunnerObject>(info) {
    guarded(info.Env(), [&] {
      if (!info.IsConstructCall()) fail(code::kArgument, "Runner: expected to be called with new");
      runner_ = std::make_unique<Runner>(readSpec(argument(info, 0, "spec")));
    });
  }

 private:
  Napi::Value state(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), runner_->state());
  }

  Napi::Value layout(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Napi::Object layout = Napi::Object::New(env);
    for (const ArenaEntry& entry : runner_->layout().entries) {
      Napi::Object fields = Napi::Object::New(env);
      fields.Set("offset", toNumber(env, entry.offset));
      fields.Set("length", toNumber(env, entry.length));
      fields.Set("type", Napi::String::New(env, entry.kind));
      layout.Set(entry.name, fields);
    }
    return layout;
  }

  Napi::Value load(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      if (!info[0].IsUndefined() && !info[0].IsFunction())
        failArgument("load: progress", "a function", "something else");
      const MemoryUse use = runner_->load([&](size_t done, size_t total) {
        const Napi::HandleScope scope(env);
        if (info[0].IsFunction())
          info[0].As<Napi::Function>().Call({toNumber(env, done), toNumber(env, total)});
      });
      Napi::Object memory = Napi::Object::New(env);
      memory.Set("weights", toNumber(env, use.weights));
      memory.Set("kvCache", toNumber(env, use.kvCache));
      memory.Set("workspace", toNumber(env, use.workspace));
      Napi::Object graphs = Napi::Object::New(env);
      graphs.Set("count", toNumber(env, use.graphs.count));
      graphs.Set("seconds", Napi::Number::New(env, use.graphs.seconds));
      graphs.Set("bytes", toNumber(env, use.graphs.bytes));
      memory.Set("graphs", graphs);
      return memory;
    });
  }

  // The same ArrayBuffer each time. It shares ownership of the memory: should it outlive the runner unclosed,
  // it stays valid.
  Napi::Value arena(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const int32_t slot = argument(info, 0, "arena: slot").int32();
      const std::shared_ptr<ArenaMemory> memory = runner_->arena(slot);
      if (!buffers_[slot].IsEmpty()) return buffers_[slot].Value();
      auto share = std::make_unique<std::shared_ptr<ArenaMemory>>(memory);
      const Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
          env, memory->data(), memory->bytes(),
          [](Napi::BasicEnv, void*, std::shared_ptr<ArenaMemory>* held) { delete held; }, share.get());
      share.release();
      buffers_[slot] = Napi::Persistent(buffer);
      return buffer;
    });
  }

  void setHistory(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      runner_->setHistory(argument(info, 0, "setHistory: slot").int32(),
                          argument(info, 1, "setHistory: seqSlot").int32(),
                          argument(info, 2, "setHistory: tokens").int32Array());
    });
  }

  void launch(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const int32_t slot = argument(info, 0, "launch: slot").int32();
      const BatchCounts counts{argument(info, 1, "launch: numTokens").int32(),
                               argument(info, 2, "launch: numSeqs").int32(),
                               argument(info, 3, "launch: numSamples").int32()};
      const bool deferSampling = argument(info, 4, "launch: deferSampling").boolean();
      const bool onCollect = !info[5].IsUndefined() && argument(info, 5, "launch: onCollect").boolean();
      runner_->launch(slot, counts, deferSampling, onCollect);
    });
  }

  void sample(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { runner_->sample(argument(info, 0, "sample: slot").int32()); });
  }

  void collect(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { runner_->collect(argument(info, 0, "collect: slot").int32()); });
  }

  void close(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      std::shared_ptr<ArenaMemory> memory[kNumSlots];
      for (int slot = 0; slot < kNumSlots; slot++)
        if (!buffers_[slot].IsEmpty()) memory[slot] = runner_->arena(slot);
      runner_->close();
      for (int slot = 0; slot < kNumSlots; slot++) {
        if (buffers_[slot].IsEmpty()) continue;
        // Detached, it reads as empty; only then may the memory go at once rather than with the ArrayBuffer.
        // Had somebody else detached it before, the bytes might live on under another ArrayBuffer.
        const napi_value buffer = buffers_[slot].Value();
        bool isDetached = true;
        if (napi_is_detached_arraybuffer(info.Env(), buffer, &isDetached) == napi_ok && !isDetached &&
            napi_detach_arraybuffer(info.Env(), buffer) == napi_ok)
          memory[slot]->release();
        buffers_[slot].Reset();
      }
    });
  }

  std::unique_ptr<Runner> runner_;
  Napi::Reference<Napi::ArrayBuffer> buffers_[kNumSlots];
};

Napi::Value describe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const DeviceInfo device =
        describeDevice(argument(info, 0, "device").string(), argument(info, 1, "threads").int32());
    Napi::Object result = Napi::Object::New(env);
    result.Set("device", Napi::String::New(env, device.device));
    result.Set("description", Napi::String::New(env, device.description));
    result.Set("totalMemory", toNumber(env, device.totalMemory));
    result.Set("availableMemory", toNumber(env, device.availableMemory));
    result.Set("threads", Napi::Number::New(env, device.threads));
    result.Set("processors", Napi::Number::New(env, device.processors));
    result.Set("isa", Napi::String::New(env, device.isa));
    result.Set("driver", Napi::String::New(env, device.driver));
    result.Set("hostMemory", Napi::Boolean::New(env, device.hostMemory));
    result.Set("graphs", Napi::Boolean::New(env, device.graphs));
    result.Set("tunes", Napi::Boolean::New(env, device.tunes));
    result.Set("activationBytes", Napi::Number::New(env, device.activationBytes));
    result.Set("kvCacheDtype", Napi::String::New(env, device.kvCacheDtype == DType::F16 ? "f16" : "f32"));
    return result;
  });
}

Napi::Value measureWeights(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Ops& ops = findBackend(argument(info, 0, "device").string());
    const Program program = readProgram(argument(info, 1, "program"));
    validateProgram(program);
    return toNumber(info.Env(), weightBytes(ops, program));
  });
}

Napi::Value measureScratch(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Ops& ops = findBackend(argument(info, 0, "device").string());
    const Program program = readProgram(argument(info, 1, "program"));
    validateProgram(program);
    const RunnerSizes sizes = readSizes(argument(info, 2, "sizes"));
    validateSizes(sizes);
    const bool useMatmulLibrary = argument(info, 3, "useMatmulLibrary").boolean();
    return toNumber(info.Env(), scratchBytes(ops, program, sizes, useMatmulLibrary));
  });
}

Napi::Value pageHeadDim(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Ops& ops = findBackend(argument(info, 0, "device").string());
    return Napi::Number::New(info.Env(), ops.pageHeadDim(argument(info, 1, "headDim").int32()));
  });
}

Napi::Value shorten(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), shortenTimeSlice());
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("version", Napi::String::New(env, OCTAVO_VERSION));
  exports.Set("describeDevice", Napi::Function::New(env, describe, "describeDevice"));
  exports.Set("weightBytes", Napi::Function::New(env, measureWeights, "weightBytes"));
  exports.Set("scratchBytes", Napi::Function::New(env, measureScratch, "scratchBytes"));
  exports.Set("pageHeadDim", Napi::Function::New(env, pageHeadDim, "pageHeadDim"));
  exports.Set("shortenTimeSlice", Napi::Function::New(env, shorten, "shortenTimeSlice"));
  exports.Set("Runner", RunnerObject::define(env));
  exportBench(env, exports);
  exportQuantize(env, exports);
  exportTuner(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(octavo, initialize)

}  // namespace octavo
