// RMS norm [Zhang and Sennrich 2019], after adding to the residual stream where there is one:
// residual += in; out = residual / sqrt(mean(residual^2) + eps) * weight.
#include "context.h"

#ifdef OCTAVO_ISA
namespace octavo::cpu::OCTAVO_ISA {
namespace {

struct Sum {
  V operator()(V a, V b) const { return add(a, b); }
};

// residual may be null; weight [width].
void rmsNormRow(const float* in, float* residual, const float* weight, float* out, int32_t width, float eps) {
  if (residual) {
    mapPairs(residual, in, residual, width, Sum{});
    in = residual;
  }
  normalise(in, weight, out, width, eps);
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
#else
#define OCTAVO_KERNEL_FILE "rms_norm.cc"
#include "foreach_isa.h"

namespace octavo::cpu {

int rmsNorm(Context* context, const RmsNormArgs* args) {
  if (args->weight->dtype != DType::F32)
    return context->fail("rmsNorm: expected weights loaded with keep = 0");
  const auto kernel = OCTAVO_SELECT(self(context)->isa, rmsNormRow);
  const auto* weight = static_cast<const float*>(args->weight->data);
  forRows(self(context), args->rows, 3 * args->width, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) {
      float* residual = args->residual.data ? rowOf(args->residual, row) : nullptr;
      kernel(rowOf(args->in, row), residual, weight, rowOf(args->out, row), args->width, args->eps);
    }
  });
  return 0;
}

}  // namespace octavo::cpu
#endif
