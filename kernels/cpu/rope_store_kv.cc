// Per-head norm of q and k where a model has it, rotary embedding [Su et al. 2021] of both, and k and v into
// the cache.
#include <initializer_list>

#include "context.h"

#ifndef OCTAVO_ISA
namespace octavo::cpu {
constexpr int kMaxStoredHead = 1024;  // values of a head whose pages have fewer bits
}
#endif

#ifdef OCTAVO_ISA
namespace octavo::cpu::OCTAVO_ISA {
namespace {

// Pairs (i, i + half): whole lanes of both halves at once.
void rotateHalves(float* head, const float* cosSin, int32_t half) {
  int32_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const V a = load(head + i), b = load(head + half + i);
    const V cosine = load(cosSin + i), sine = load(cosSin + half + i);
    store(head + i, sub(mul(a, cosine), mul(b, sine)));
    store(head + half + i, add(mul(b, cosine), mul(a, sine)));
  }
  for (; i < half; ++i) {
    const float a = head[i], b = head[half + i];
    head[i] = a * cosSin[i] - b * cosSin[half + i];
    head[half + i] = b * cosSin[i] + a * cosSin[half + i];
  }
}

// Pairs (2i, 2i + 1).
void rotateInterleaved(float* head, const float* cosSin, int32_t half) {
  for (int32_t i = 0; i < half; ++i) {
    const float a = head[2 * i], b = head[2 * i + 1];
    head[2 * i] = a * cosSin[i] - b * cosSin[half + i];
    head[2 * i + 1] = b * cosSin[i] + a * cosSin[half + i];
  }
}

template <class T>
void scatter(const T* values, int32_t count, unsigned char* head, KvStride stride) {
  T* out = reinterpret_cast<T*>(head) + stride.start;
  if (stride.step == 1) {
    std::memcpy(out, values, static_cast<size_t>(count) * sizeof(T));
    return;
  }
  for (int32_t i = 0; i < count; ++i) out[i * kBlockSize] = values[i];
}

void toHalf(const float* values, int32_t count, uint16_t* out) {
  int32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) storeHalf(out + i, load(values + i));
  for (; i < count; ++i) out[i] = floatToHalf(values[i]);
}

// The scale that turns the bytes back.
float toBytes(const float* values, int32_t count, int8_t* out) {
  V highest = zero(), off = zero();  // x - x is 0 for every finite x
  for (int32_t i = 0; i < count; i += kLanes) {
    const V x = i + kLanes <= count ? load(values + i) : loadPart(values + i, count - i, 0);
    highest = max(max(x, sub(zero(), x)), highest);
    off = add(off, sub(x, x));
  }
  const KvScale scale = kvScaleOf(maxLanes(highest), sumLanes(off) == 0);
  if (scale.inverse == 0) {
    std::memset(out, 0, static_cast<size_t>(count));
    return scale.scale;
  }
  const V factor = set1(scale.inverse);
  for (int32_t i = 0; i < count; i += kLanes) {
    const V x = i + kLanes <= count ? load(values + i) : loadPart(values + i, count - i, 0);
    uint32_t words[kLanes];
    storeInt(words, roundToInt(mul(x, factor)));
    for (int32_t j = 0; j < kLanes && i + j < count; ++j)
      out[i + j] = static_cast<int8_t>(static_cast<int32_t>(words[j]));
  }
  return scale.scale;
}

// Keys (part 0) or values (part 1) of one head of the token at `slot`.
void storeHead(const KvLayer& kv, DType dtype, int64_t slot, int part, int32_t head, const float* values) {
  unsigned char* out = kvHead(kv, dtype, slot / kBlockSize, part, head);
  const auto offset = static_cast<int32_t>(slot % kBlockSize);
  const KvStride stride = kvStride(kv, part, offset);
  if (dtype == DType::F32) {
    scatter(values, kv.headDim, out, stride);
  } else if (dtype == DType::F16) {
    uint16_t half[kMaxStoredHead];
    toHalf(values, kv.headDim, half);
    scatter(half, kv.headDim, out, stride);
  } else {
    int8_t bytes[kMaxStoredHead];
    kvScales(kv, out)[offset] = toBytes(values, kv.headDim, bytes);
    scatter(bytes, kv.headDim, out, stride);
  }
}

// One row: norms and angles of every q and k head, then k and v to the row's slot.
void ropeStoreRow(const RopeStoreKvArgs& args, int64_t row, const float* qNorm, const float* kNorm,
                  DType dtype) {
  const int32_t headDim = args.headDim;
  float* q = rowOf(args.qkv, row);
  const float* angles =
      args.cosSin ? args.cosSin + static_cast<int64_t>(args.positions[row]) * args.rotaryDim : nullptr;
  for (int32_t head = 0; head < args.numHeads + args.numKvHeads; ++head) {
    float* values = q + head * headDim;
    const float* norm = head < args.numHeads ? qNorm : kNorm;
    if (norm) normalise(values, norm, values, headDim, args.normEps);
    if (!angles) continue;
    if (args.interleaved) {
      rotateInterleaved(values, angles, args.rotaryDim / 2);
    } else {
      rotateHalves(values, angles, args.rotaryDim / 2);
    }
  }
  const float* k = q + args.numHeads * headDim;
  const float* v = k + args.numKvHeads * headDim;
  for (int32_t head = 0; head < args.numKvHeads; ++head) {
    const int64_t slot = args.slotMapping[row];
    storeHead(args.kv, dtype, slot, 0, head, k + head * headDim);
    storeHead(args.kv, dtype, slot, 1, head, v + head * headDim);
  }
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
#else
#define OCTAVO_KERNEL_FILE "rope_store_kv.cc"
#include "foreach_isa.h"

namespace octavo::cpu {

int ropeStoreKv(Context* context, const RopeStoreKvArgs* args) {
  for (const Dense* norm : {args->qNorm, args->kNorm}) {
    if (norm && norm->dtype != DType::F32)
      return context->fail("ropeStoreKv: expected norms loaded with keep = 0");
  }
  const auto kernel = OCTAVO_SELECT(self(context)->isa, ropeStoreRow);
  const auto* qNorm = args->qNorm ? static_cast<const float*>(args->qNorm->data) : nullptr;
  const auto* kNorm = args->kNorm ? static_cast<const float*>(args->kNorm->data) : nullptr;
  const int64_t work = static_cast<int64_t>(args->numHeads + 2 * args->numKvHeads) * args->headDim * 2;
  forRows(self(context), args->rows, work, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) kernel(*args, row, qNorm, kNorm, context->kvDType);
  });
  return 0;
}

}  // namespace octavo::cpu
#endif
