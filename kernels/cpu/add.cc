// out = a + b.
#include "context.h"

#ifdef OCTAVO_ISA
namespace octavo::cpu::OCTAVO_ISA {
namespace {

struct Sum {
  V operator()(V a, V b) const { return add(a, b); }
};

void addRow(const float* a, const float* b, float* out, int32_t width) {
  mapPairs(a, b, out, width, Sum{});
}

}  // namespace
}  // namespace octavo::cpu::OCTAVO_ISA
#else
#define OCTAVO_KERNEL_FILE "add.cc"
#include "foreach_isa.h"

namespace octavo::cpu {

int add(Context* context, const AddArgs* args) {
  const auto kernel = OCTAVO_SELECT(self(context)->isa, addRow);
  forRows(self(context), args->rows, args->width, [&](int64_t first, int64_t last, int) {
    for (int64_t row = first; row < last; ++row)
      kernel(rowOf(args->a, row), rowOf(args->b, row), rowOf(args->out, row), args->width);
  });
  return 0;
}

}  // namespace octavo::cpu
#endif
