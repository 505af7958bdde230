#include "addon_quantize.h"

#include <cmath>
#include <memory>

#include "addon_guard.h"
#include "forward.h"
#include "quantize.h"

namespace octavo {

namespace {

template <typename T>
struct Elements {
  T* data = nullptr;
  int64_t size = 0;
};

// The memory of a typed array itself: taken after every object has been read, as a getter could detach it.
// Shared memory is refused: another thread could change it while it is checked.
template <typename T>
Elements<T> elements(const Field& field, napi_typedarray_type type, const char* expected) {
  const Napi::Value& value = field.value();
  if (!value.IsTypedArray()) failArgument(field.path(), expected, "something else");
  napi_typedarray_type actual;
  size_t length = 0;
  void* data = nullptr;
  napi_value buffer;
  bool plain = false;
  if (napi_get_typedarray_info(value.Env(), value, &actual, &length, &data, &buffer, nullptr) != napi_ok ||
      actual != type)
    failArgument(field.path(), expected, "another typed array");
  if (napi_is_arraybuffer(value.Env(), buffer, &plain) != napi_ok || !plain)
    failArgument(field.path(), expected, "one of shared memory");
  return {static_cast<T*>(data), static_cast<int64_t>(length)};
}

FloatView floats(const Field& field) {
  const Elements<float> found = elements<float>(field, napi_float32_array, "a Float32Array");
  return {found.data, found.size};
}

// null: an empty view.
FloatView optionalFloats(const Field& field) {
  return field.isNull() ? FloatView() : floats(field);
}

AttentionSpec readAttention(const Field& field) {
  AttentionSpec spec;
  spec.numHeads = field.get("numHeads").int32();
  spec.numKvHeads = field.get("numKvHeads").int32();
  spec.headDim = field.get("headDim").int32();
  const Field rope = field.get("rope");
  spec.hasRope = !rope.isNull();
  if (spec.hasRope)
    spec.rope = {rope.get("inverseFrequencies").float64Array(), rope.get("scale").number(),
                 rope.get("interleaved").boolean()};
  spec.qNorm = readTensor(field.get("qNorm"));
  spec.kNorm = readTensor(field.get("kNorm"));
  spec.normEps = static_cast<float>(field.get("normEps").number());
  spec.scale = static_cast<float>(field.get("scale").number());
  spec.slidingWindow = field.get("slidingWindow").int32();
  spec.softcap = static_cast<float>(field.get("softcap").number());
  return spec;
}

class QuantizerObject : public Napi::ObjectWrap<QuantizerObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Quantizer",
                       {InstanceMethod<&QuantizerObject::readTensorFloats>("readFloats"),
                        InstanceMethod<&QuantizerObject::embed>("embed"),
                        InstanceMethod<&QuantizerObject::rmsNorm>("rmsNorm"),
                        InstanceMethod<&QuantizerObject::linear>("linear"),
                        InstanceMethod<&QuantizerObject::attention>("attention"),
                        InstanceMethod<&QuantizerObject::siluMul>("siluMul"),
                        InstanceMethod<&QuantizerObject::error>("quantizationError"),
                        InstanceMethod<&QuantizerObject::energyOf>("outputEnergy"),
                        InstanceMethod<&QuantizerObject::clip>("searchClip"),
                        InstanceMethod<&QuantizerObject::pack>("packAwq"),
                        InstanceMethod<&QuantizerObject::half>("toHalf")});
  }

  explicit QuantizerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<QuantizerObject>(info) {
    guarded(info.Env(), [&] {
      if (!info.IsConstructCall()) fail(code::kArgument, "Quantizer: expected to be called with new");
      std::vector<std::string> files;
      for (const Field& file : argument(info, 0, "files").elements()) {
        files.push_back(file.string());
        check(files.back().find('\0') == std::string::npos, file.path(), "a path without NUL", "one with it");
      }
      forward_ = std::make_unique<Forward>(files, argument(info, 1, "threads").int32());
    });
  }

 private:
  Napi::Value readTensorFloats(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const TensorSource tensor = readTensor(argument(info, 0, "readFloats: tensor"));
      const int64_t bad = forward_->readFloats(tensor, floats(argument(info, 1, "readFloats: out")));
      return Napi::Number::New(info.Env(), static_cast<double>(bad));
    });
  }

  void embed(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const TensorSource table = readTensor(argument(info, 0, "embed: table"));
      forward_->embed(table, static_cast<float>(argument(info, 1, "embed: scale").number()),
                      argument(info, 2, "embed: ids").int32Array(), floats(argument(info, 3, "embed: out")));
    });
  }

  void rmsNorm(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const TensorSource weight = readTensor(argument(info, 0, "rmsNorm: weight"));
      forward_->rmsNorm(weight, static_cast<float>(argument(info, 1, "rmsNorm: eps").number()),
                        floats(argument(info, 2, "rmsNorm: x")), floats(argument(info, 3, "rmsNorm: out")));
    });
  }

  void linear(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const LinearPlan plan = readLinear(argument(info, 0, "linear: plan"));
      forward_->linear(plan, floats(argument(info, 1, "linear: x")),
                       floats(argument(info, 2, "linear: out")));
    });
  }

  void attention(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const AttentionSpec spec = readAttention(argument(info, 0, "attention: spec"));
      forward_->attention(
          spec, argument(info, 1, "attention: lengths").int32Array(),
          floats(argument(info, 2, "attention: q")), floats(argument(info, 3, "attention: k")),
          floats(argument(info, 4, "attention: v")), floats(argument(info, 5, "attention: out")));
    });
  }

  void siluMul(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      forward_->siluMul(argument(info, 0, "siluMul: width").int32(),
                        floats(argument(info, 1, "siluMul: gate")), floats(argument(info, 2, "siluMul: up")),
                        floats(argument(info, 3, "siluMul: out")));
    });
  }

  Napi::Value error(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const double sum = quantizationError(*forward_, floats(argument(info, 0, "quantizationError: x")),
                                           floats(argument(info, 1, "quantizationError: w")),
                                           argument(info, 2, "quantizationError: k").int32(),
                                           optionalFloats(argument(info, 3, "quantizationError: scale")),
                                           optionalFloats(argument(info, 4, "quantizationError: clip")),
                                           argument(info, 5, "quantizationError: groupSize").int32());
      return Napi::Number::New(info.Env(), sum);
    });
  }

  Napi::Value energyOf(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const double sum = outputEnergy(*forward_, floats(argument(info, 0, "outputEnergy: x")),
                                      floats(argument(info, 1, "outputEnergy: w")),
                                      argument(info, 2, "outputEnergy: k").int32());
      return Napi::Number::New(info.Env(), sum);
    });
  }

  void clip(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      searchClip(*forward_, floats(argument(info, 0, "searchClip: x")),
                 floats(argument(info, 1, "searchClip: w")), argument(info, 2, "searchClip: k").int32(),
                 argument(info, 3, "searchClip: groupSize").int32(),
                 floats(argument(info, 4, "searchClip: out")));
    });
  }

  void pack(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const auto qweight =
          elements<int32_t>(argument(info, 4, "packAwq: qweight"), napi_int32_array, "an Int32Array");
      const auto qzeros =
          elements<int32_t>(argument(info, 5, "packAwq: qzeros"), napi_int32_array, "an Int32Array");
      const auto scales =
          elements<uint16_t>(argument(info, 6, "packAwq: scales"), napi_uint16_array, "a Uint16Array");
      packAwq(*forward_, floats(argument(info, 0, "packAwq: w")), argument(info, 1, "packAwq: k").int32(),
              optionalFloats(argument(info, 2, "packAwq: clip")),
              argument(info, 3, "packAwq: groupSize").int32(),
              {qweight.data, qzeros.data, scales.data, qweight.size, qzeros.size, scales.size});
    });
  }

  Napi::Value half(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto out =
          elements<uint16_t>(argument(info, 1, "toHalf: out"), napi_uint16_array, "a Uint16Array");
      const int64_t bad = toHalf(floats(argument(info, 0, "toHalf: in")), out.data, out.size);
      return Napi::Number::New(info.Env(), static_cast<double>(bad));
    });
  }

  std::unique_ptr<Forward> forward_;
};

}  // namespace

void exportQuantize(Napi::Env env, Napi::Object exports) {
  exports.Set("Quantizer", QuantizerObject::define(env));
}

}  // namespace octavo
