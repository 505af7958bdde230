// Per-head norm of q and k where a model has it, rotary embedding [Su et al. 2021] of both, and k and v into
// the cache.
#include "reference.h"

namespace octavo::reference {
namespace {

void normHead(float* head, int32_t headDim, const Dense& weight, float eps) {
  double squares = 0;
  for (int32_t i = 0; i < headDim; ++i) squares += static_cast<double>(head[i]) * head[i];
  const double factor = 1.0 / std::sqrt(squares / headDim + eps);
  for (int32_t i = 0; i < headDim; ++i)
    head[i] = static_cast<float>(head[i] * factor * denseAt(weight, 0, i));
}

// Turns pair i by the angle whose cosine is cosSin[i] and sine is cosSin[rotaryDim / 2 + i].
void rotateHead(float* head, const float* cosSin, int32_t rotaryDim, bool interleaved) {
  const int32_t half = rotaryDim / 2;
  for (int32_t i = 0; i < half; ++i) {
    float& first = head[interleaved ? 2 * i : i];
    float& second = head[interleaved ? 2 * i + 1 : i + half];
    const double a = first, b = second, cosine = cosSin[i], sine = cosSin[half + i];
    first = static_cast<float>(a * cosine - b * sine);
    second = static_cast<float>(b * cosine + a * sine);
  }
}

KvScale scaleOf(const float* values, int32_t count) {
  float highest = 0;
  bool finite = true;
  for (int32_t i = 0; i < count; ++i) {
    finite = finite && std::isfinite(values[i]);
    highest = std::fmax(highest, std::fabs(values[i]));
  }
  return kvScaleOf(highest, finite);
}

void store(const Context* context, const KvLayer& kv, int64_t slot, int part, int32_t head,
           const float* values) {
  const DType dtype = context->kvDType;
  unsigned char* data = kvHead(kv, dtype, slot / kBlockSize, part, head);
  const auto offset = static_cast<int32_t>(slot % kBlockSize);
  const KvStride stride = kvStride(kv, part, offset);
  const KvScale scale = dtype == DType::I8 ? scaleOf(values, kv.headDim) : KvScale{};
  if (dtype == DType::I8) kvScales(kv, data)[offset] = scale.scale;
  for (int32_t i = 0; i < kv.headDim; ++i) {
    const int32_t index = stride.start + i * stride.step;
    if (dtype == DType::F32) {
      reinterpret_cast<float*>(data)[index] = values[i];
    } else if (dtype == DType::F16) {
      reinterpret_cast<uint16_t*>(data)[index] = floatToHalf(values[i]);
    } else {
      const float scaled = scale.inverse == 0 ? 0 : values[i] * scale.inverse;
      reinterpret_cast<int8_t*>(data)[index] = static_cast<int8_t>(std::nearbyint(scaled));
    }
  }
}

}  // namespace

int ropeStoreKv(Context* context, const RopeStoreKvArgs* args) {
  const int32_t headDim = args->headDim;
  for (int32_t row = 0; row < args->rows; ++row) {
    float* q = rowOf(args->qkv, row);
    float* k = q + args->numHeads * headDim;
    float* v = k + args->numKvHeads * headDim;
    for (int32_t head = 0; head < args->numHeads + args->numKvHeads; ++head) {
      float* values = q + head * headDim;
      const Dense* norm = head < args->numHeads ? args->qNorm : args->kNorm;
      if (norm) normHead(values, headDim, *norm, args->normEps);
      if (args->cosSin) {
        const float* angles = args->cosSin + static_cast<int64_t>(args->positions[row]) * args->rotaryDim;
        rotateHead(values, angles, args->rotaryDim, args->interleaved != 0);
      }
    }
    for (int32_t head = 0; head < args->numKvHeads; ++head) {
      const int64_t slot = args->slotMapping[row];
      store(context, args->kv, slot, 0, head, k + head * headDim);
      store(context, args->kv, slot, 1, head, v + head * headDim);
    }
  }
  return 0;
}

}  // namespace octavo::reference
