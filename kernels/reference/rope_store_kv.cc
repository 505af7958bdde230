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

void store(const Context* context, void* pages, int64_t offset, const float* values, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    if (context->kvDType == DType::F16) {
      static_cast<uint16_t*>(pages)[offset + i] = floatToHalf(values[i]);
    } else {
      static_cast<float*>(pages)[offset + i] = values[i];
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
      store(context, args->kv.pages, kvOffset(args->kv, slot, 0, head), k + head * headDim, headDim);
      store(context, args->kv.pages, kvOffset(args->kv, slot, 1, head), v + head * headDim, headDim);
    }
  }
  return 0;
}

}  // namespace octavo::reference
