// Per-head norm of q and k where a model has it, rotary embedding [Su et al. 2021] of both, and k and v into
// the cache.
#include <initializer_list>

#include "context.h"

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

void storeHead(void* pages, bool half, int64_t offset, const float* values, int32_t count) {
  if (!half) {
    std::memcpy(static_cast<float*>(pages) + offset, values, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  auto* out = static_cast<uint16_t*>(pages) + offset;
  int32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) storeHalf(out + i, load(values + i));
  for (; i < count; ++i) out[i] = floatToHalf(values[i]);
}

// One row: norms and angles of every q and k head, then k and v to the row's slot.
void ropeStoreRow(const RopeStoreKvArgs& args, int64_t row, const float* qNorm, const float* kNorm,
                  bool halfKv) {
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
    storeHead(args.kv.pages, halfKv, kvOffset(args.kv, slot, 0, head), k + head * headDim, headDim);
    storeHead(args.kv.pages, halfKv, kvOffset(args.kv, slot, 1, head), v + head * headDim, headDim);
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
  const bool halfKv = context->kvDType == DType::F16;
  const int64_t work = static_cast<int64_t>(args->numHeads + 2 * args->numKvHeads) * args->headDim * 2;
  forRows(self(context), args->rows, work, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) kernel(*args, row, qNorm, kNorm, halfKv);
  });
  return 0;
}

}  // namespace octavo::cpu
#endif
