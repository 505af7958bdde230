// x = cap * tanh(x / cap), in place: keeps logits within (-cap, cap).
#include "context.h"

#ifdef OCTAVO_ISA
namespace octavo::cpu::OCTAVO_ISA {
namespace {

struct Cap {
  V cap;
  V operator()(V x) const { return mul(cap, hyperbolicTangent(div(x, cap))); }
};

void softcapRow(float* x, int32_t width, float cap) {
  mapValues(x, x, width, Cap{set1(cap)});
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
#else
#define OCTAVO_KERNEL_FILE "softcap.cc"
#include "foreach_isa.h"

namespace octavo::cpu {

int softcap(Context* context, const SoftcapArgs* args) {
  const auto kernel = OCTAVO_SELECT(self(context)->isa, softcapRow);
  forRows(self(context), args->rows, 4 * args->width, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row) kernel(rowOf(args->x, row), args->width, args->cap);
  });
  return 0;
}

}  // namespace octavo::cpu
#endif
