#include "addon_tuner.h"

#include <memory>

#include "addon_guard.h"
#include "linear_tuner.h"
#include "runner.h"

namespace octavo {

namespace {

Napi::Array toArray(Napi::Env env, const std::vector<std::string>& names) {
  Napi::Array array = Napi::Array::New(env, names.size());
  for (size_t i = 0; i < names.size(); i++)
    array.Set(static_cast<uint32_t>(i), Napi::String::New(env, names[i]));
  return array;
}

Napi::Value tileSet(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const Ops& ops = findBackend(argument(info, 0, "device").string());
    std::vector<std::string> names;
    for (int32_t tile = 0; ops.tileName && ops.tileName(tile); tile++) names.emplace_back(ops.tileName(tile));
    Napi::Object set = Napi::Object::New(env);
    set.Set("revision", Napi::Number::New(env, ops.tileRevision));
    set.Set("names", toArray(env, names));
    return set;
  });
}

Napi::Value linearShapes(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const Program program = readProgram(argument(info, 0, "program"));
    validateProgram(program);
    const RunnerSizes sizes = readSizes(argument(info, 1, "sizes"));
    validateSizes(sizes);
    const Shapes shapes(program, sizes, 0);
    Napi::Array array = Napi::Array::New(env);
    for (int32_t i = 0; i < shapes.options().numLinears; i++) {
      Napi::Object entry = Napi::Object::New(env);
      entry.Set("name", Napi::String::New(env, shapes.linearName(i)));
      entry.Set("maxRows", Napi::Number::New(env, shapes.options().linears[i].maxRows));
      array.Set(array.Length(), entry);
    }
    return array;
  });
}

Napi::Value matmulLibrary(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const Ops& ops = findBackend(argument(info, 0, "device").string());
    char text[256] = "it has none";
    const bool found = ops.matmulLibrary && ops.matmulLibrary(text, sizeof text) == 0;
    Napi::Object result = Napi::Object::New(env);
    result.Set("found", Napi::Boolean::New(env, found));
    result.Set("text", Napi::String::New(env, text));
    return result;
  });
}

class TunerObject : public Napi::ObjectWrap<TunerObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "LinearTuner",
                       {InstanceMethod<&TunerObject::candidates>("candidates"),
                        InstanceMethod<&TunerObject::time>("time"),
                        InstanceMethod<&TunerObject::close>("close")});
  }

  explicit TunerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TunerObject>(info) {
    guarded(info.Env(), [&] {
      if (!info.IsConstructCall()) fail(code::kArgument, "LinearTuner: expected to be called with new");
      const std::string device = argument(info, 0, "device").string();
      const Program program = readProgram(argument(info, 1, "program"));
      validateProgram(program);
      const RunnerSizes sizes = readSizes(argument(info, 2, "sizes"));
      validateSizes(sizes);
      const bool library = argument(info, 3, "useMatmulLibrary").boolean();
      tuner_ = std::make_unique<LinearTuner>(device, program, sizes, library);
    });
  }

 private:
  LinearTuner& open(const char* method) {
    if (!tuner_) fail(code::kState, method, ": expected an open tuner, got one that is closed");
    return *tuner_;
  }

  Napi::Value candidates(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const std::string shape = argument(info, 0, "candidates: shape").string();
      return toArray(info.Env(),
                     open("candidates").candidates(shape, argument(info, 1, "candidates: rows").int32()));
    });
  }

  Napi::Value time(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const std::string shape = argument(info, 0, "time: shape").string();
      const int32_t rows = argument(info, 1, "time: rows").int32();
      const std::string tile = argument(info, 2, "time: tile").string();
      return Napi::Number::New(info.Env(), open("time").time(shape, rows, tile));
    });
  }

  void close(const Napi::CallbackInfo&) { tuner_.reset(); }

  std::unique_ptr<LinearTuner> tuner_;
};

}  // namespace

void exportTuner(Napi::Env env, Napi::Object exports) {
  exports.Set("linearShapes", Napi::Function::New(env, linearShapes, "linearShapes"));
  exports.Set("tileSet", Napi::Function::New(env, tileSet, "tileSet"));
  exports.Set("matmulLibrary", Napi::Function::New(env, matmulLibrary, "matmulLibrary"));
  exports.Set("LinearTuner", TunerObject::define(env));
}

}  // namespace octavo
