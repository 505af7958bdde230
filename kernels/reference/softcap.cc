// x = cap * tanh(x / cap), in place: keeps logits within (-cap, cap).
#include "reference.h"

namespace octavo::reference {

int softcap(Context*, const SoftcapArgs* args) {
  for (int32_t row = 0; row < args->rows; ++row) {
    float* x = rowOf(args->x, row);
    for (int32_t i = 0; i < args->width; ++i)
      x[i] = static_cast<float>(args->cap * std::tanh(static_cast<double>(x[i]) / args->cap));
  }
  return 0;
}

}  // namespace octavo::reference
