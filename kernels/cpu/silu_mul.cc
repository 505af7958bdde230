// Gated activation [Shazeer 2020, SwiGLU]: out = silu(gate) * up, in = [gate, up].
#include "context.h"

#ifdef OCTAVO_ISA
namespace octavo::cpu::OCTAVO_ISA {
namespace {

struct GatedSilu {
  V operator()(V gate, V up) const { return mul(silu(gate), up); }
};

void siluMulRow(const float* in, float* out, int32_t width) {
  mapPairs(in, in + width, out, width, GatedSilu{});
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
#else
#define OCTAVO_KERNEL_FILE "silu_mul.cc"
#include "foreach_isa.h"

namespace octavo::cpu {

int siluMul(Context* context, const SiluMulArgs* args) {
  const auto kernel = OCTAVO_SELECT(self(context)->isa, siluMulRow);
  forRows(self(context), args->rows, 4 * args->width, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row)
      kernel(rowOf(args->in, row), rowOf(args->out, row), args->width);
  });
  return 0;
}

}  // namespace octavo::cpu
#endif
